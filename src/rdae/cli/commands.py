"""All commands by name: listed from a table, each imported when called, so that `--help` and `info` begin soon."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["COMMANDS", "SETTINGS", "Commands", "Interrupted"]

# Where each command is, under rdae.cli, and the first paragraph of its docstring, which a test compares: to list all
# commands none is imported.
COMMANDS = {
    "compress": ("coding.compress", "Compress images to .rdae files."),
    "decompress": ("coding.decompress", "Decompress .rdae files to images."),
    "info": ("coding.info", "Say what compressed files hold, without decoding them."),
    "models": ("coding.models", "List the models that ship with the package."),
    "pack": ("archiving.pack", "Compress a folder of images to one archive, with all that unpacking needs."),
    "unpack": ("archiving.unpack", "Decompress the images of an archive, or some of them, into a folder."),
    "list": ("archiving.list_members", "List what an archive holds, without decoding it."),
    "verify": ("archiving.verify", "Check every checksum of an archive and decode every image."),
    "train": (
        "training.train",
        "Train a codec on a folder of images, or a generative model on any data; ends with a file ready to use.",
    ),
    "sample": ("generating.sample", "Draw new examples: latents from the prior, through the decoder."),
    "reconstruct": (
        "generating.reconstruct",
        "Examples and, below each row of them, what encoder and decoder make of them.",
    ),
    "interpolate": ("generating.interpolate", "From one point of the latent space to another, `count` times."),
    "traverse": (
        "generating.traverse",
        "What each latent unit does: one row a unit, moved from one side to the other.",
    ),
    "judge": (
        "judging.judge",
        "Judge samples of a generative model: how far from data, how varied, how many modes, any copies.",
    ),
    "measure": (
        "measuring.measure",
        "Measure a model: rate, distortion, ln p(y) from several sides, what its latent says, what its encoder loses.",
    ),
    "evaluate": (
        "evaluating.evaluate",
        "Evaluate codecs on pictures: real files, rate and distortion, BD rates, seconds, memory; a run can go on.",
    ),
    "sweep": (
        "sweeping.sweep",
        "Train a recipe with every combination of some options and seeds, into one table and one curve.",
    ),
    "limits": (
        "sweeping.limits",
        "How few nats would do: the rate-distortion function of data, squared error, from above and from below.",
    ),
}
DIRECT = {"compress", "decompress", "info"}  # those that should begin soon
SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # rich takes as long as all the rest, and [train] in a text for a style
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 120},
}


class Interrupted(Exception):
    """Ctrl-C, under a name that the parser does not take for its own."""


def _place(text: str) -> Any:
    from rdae.cli.running import place_of

    return place_of(text)


class _Direct(TyperCommand):
    """Takes paths, words and flags as typed: to convert any value Typer imports pydantic, for a tenth of a second.

    Where an argument of another name is given, or one that is no number, the long way says what is wrong with it.
    """

    converters: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "inputs": lambda texts: [_place(text) for text in texts],
        "output": _place,
        "format": str,
        "model": str,
        "quality": float,
    }

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        missing = [p.name for p in self.params if p.required and not typed.get(p.name)]
        odd = [name for name, value in typed.items() if value is not True and name not in self.converters]
        if missing or odd or "help" in typed:
            return super().parse_args(ctx, args)
        try:
            values = {name: v if v is True else self.converters[name](v) for name, v in typed.items()}
        except (ValueError, typer.BadParameter):
            return super().parse_args(ctx, args)
        ctx.params = {p.name: p.default for p in self.params} | values
        return []


class _Loaded(Mapping[str, Any]):
    """The parsers of all commands; each is imported and built when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        module, _, function = COMMANDS[name][0].partition(".")
        alone = typer.Typer(**SETTINGS)
        parser = alone.command(name, cls=_Direct if name in DIRECT else TyperCommand)
        parser(getattr(import_module(f"rdae.cli.{module}"), function))
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Commands(TyperGroup):
    """The group of all commands.

    The parser ends a program without a word on Ctrl-C, and where any file ends too early: both are to be told.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _Loaded()})

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False  # without it None is converted, which imports pydantic
        return option

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: Any) -> Any:
        logging.basicConfig(level=logging.INFO, format="rdae: %(message)s", stream=sys.stderr)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error
        except EOFError as error:
            raise OSError(f"a file ends too early ({error or 'no more data'}). Copy it again.") from error
