"""The command line: parse, call the library, print. One handler for all errors."""

from __future__ import annotations

import io
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rdae import __version__
from rdae.cli import archiving, coding, evaluating, generating, judging, measuring, sweeping, training
from rdae.errors import RdaeError

__all__ = ["app", "main"]


class _Interrupted(Exception):
    """Ctrl-C, under a name that the parser does not take for its own."""


class _Commands(TyperGroup):
    """The parser ends a program without a word on Ctrl-C, and where any file ends too early: both are to be told."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error
        except EOFError as error:
            raise OSError(f"a file ends too early ({error or 'no more data'}). Copy it again.") from error


app = typer.Typer(
    name="rdae",
    cls=_Commands,
    help="A learned image codec: smaller files, the same on every machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compress")(coding.compress)
app.command("decompress")(coding.decompress)
app.command("info")(coding.info)
app.command("models")(coding.models)
app.command("pack")(archiving.pack)
app.command("unpack")(archiving.unpack)
app.command("list")(archiving.list_members)
app.command("verify")(archiving.verify)
app.command("train")(training.train)
for command in (generating.sample, generating.reconstruct, generating.interpolate, generating.traverse):
    app.command(command.__name__)(command)
app.command("judge")(judging.judge)
app.command("measure")(measuring.measure)
app.command("evaluate")(evaluating.evaluate)
app.command("sweep")(sweeping.sweep)
app.command("limits")(sweeping.limits)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rdae {__version__}, Python {sys.version.split()[0]}, {_package('numpy')}, {_package('onnxruntime')}")
        raise typer.Exit


def _package(name: str) -> str:
    from importlib.metadata import version

    return f"{name} {version(name)}"


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show versions.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> int:
    """Entry point: 0 for success, 1 for a failure that was foreseen, 2 for wrong arguments, 130 when interrupted."""
    logging.basicConfig(level=logging.INFO, format="rdae: %(message)s", stream=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold bytes that no encoding has a letter for
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
        return int(code or 0)
    except (typer.Exit, SystemExit) as leave:
        return int(getattr(leave, "exit_code", getattr(leave, "code", 0)) or 0)
    except (typer.Abort, KeyboardInterrupt, _Interrupted):
        print("rdae: interrupted; every file written so far is whole", file=sys.stderr)
        return 130
    except (RdaeError, OSError) as error:
        print(f"rdae: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        usage = getattr(error, "format_message", None)  # what the parser raises for wrong arguments
        if usage is None:
            raise
        if (
            type(error).__name__ == "NoArgsIsHelpError"
        ):  # `rdae` alone: the help, which some versions have printed by now
            print(usage(), end="")
            return 2
        print(f"rdae: {usage()}\nUse 'rdae --help' or 'rdae COMMAND --help' for more information.", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
