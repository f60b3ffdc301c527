"""The command line: parse, call the library, print. One handler for all errors."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from rdae import __version__
from rdae.cli.commands import SETTINGS, Commands, Interrupted
from rdae.errors import RdaeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="rdae",
    cls=Commands,
    help="A learned image codec: smaller files, the same on every machine.",
    no_args_is_help=True,
    **SETTINGS,
)


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
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold bytes that no encoding has a letter for
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _told()
        if sys.stdout is not None:  # a shell may have closed it
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output, such as `head`, has left; the parser ends with 1 then, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _told() -> int:
    """The exit code, after all that went wrong has been told."""
    try:
        code = app(standalone_mode=False)
        return int(code or 0)
    except (typer.Exit, SystemExit) as leave:
        return int(getattr(leave, "exit_code", getattr(leave, "code", 0)) or 0)
    except (typer.Abort, KeyboardInterrupt, Interrupted):
        print("rdae: interrupted; every file written so far is whole", file=sys.stderr)
        return 130
    except (RdaeError, OSError) as error:
        print(f"rdae: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        usage = getattr(error, "format_message", None)  # what the parser raises for wrong arguments
        if usage is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # `rdae` alone
            print(usage())
            return 2
        print(f"rdae: {usage()}\nUse 'rdae --help' or 'rdae COMMAND --help' for more information.", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
