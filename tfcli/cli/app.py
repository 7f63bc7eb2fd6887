"""The command line: mounts the verbs, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import typer

import tfcli
from tfcli.engine.runs.signals import PARENT
from tfcli.errors import TfcliError

VERBS = (
    "train",
    "evaluate",
    "predict",
    "sample",
    "export",
    "fewshot",
    "words",
    "probe",
    "ablate",
    "features",
    "prompts",
    "runs",
    "viz",
    "sweep",
    "ls",
    "keys",
    "describe",
    "data",
    "weights",
    "published",
    "bench",
    "doctor",
    "completion",
)

UsageError: Any = typer.BadParameter.__mro__[1]
"""Errors that typer raises for a command's words, from its own copy of click or from click."""

GONE = "the current folder has been deleted; `cd` to one that is there."

app = typer.Typer(
    name="tfcli",
    help="Train, probe and ablate transformers. Settings are written key=value: tfcli train model=vit data=pets",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"tfcli {tfcli.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


for _verb in VERBS:
    import_module(f"tfcli.cli.{_verb}").mount(app)


def _usage(error: Any) -> NoReturn:
    """Say in one line what is wrong with the words of a command; a group of commands without any shows its help."""
    context = error.ctx
    command = context.command_path if context else "tfcli"
    text = " ".join(error.format_message().split())
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        print(context.get_help())
    else:
        text = text.replace("'", "`").rstrip(".")
        stop = "" if text.endswith("?") else "."
        print(f"tfcli: {text[:1].lower()}{text[1:]}{stop}  (`{command} --help`)", file=sys.stderr)
    sys.exit(2)


def _invoke() -> NoReturn:
    try:
        code = app(prog_name="tfcli", standalone_mode=False)
    except UsageError as error:
        _usage(error)
    sys.exit(code if isinstance(code, int) else 0)


def main() -> None:
    """Run the command in `sys.argv`. Exit codes: see tfcli.errors."""
    debug = os.environ.get("TFCLI_DEBUG") == "1"
    gone = not _has_current_folder()
    try:
        _invoke()
    except TfcliError as error:
        if debug:
            raise
        if not _reported_to_rank_0(error, error.exit_code):
            print(f"tfcli: {GONE if gone else error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        message = GONE if gone else f"{type(error).__name__}: {error} (TFCLI_DEBUG=1 shows where)"
        if not _reported_to_rank_0(error, 1):
            print(f"tfcli: {message}", file=sys.stderr)
        sys.exit(2 if gone else 1)
    finally:
        _flush_stdout()


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _flush_stdout() -> None:
    """Write out what stdout still holds; a result that nobody gets is an error (`tfcli ... > /dev/full`)."""
    try:
        sys.stdout.flush()
    except TfcliError as error:
        print(f"tfcli: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _reported_to_rank_0(error: Exception, code: int) -> bool:
    """Leave the error for rank 0 to show, where it has started this process."""
    if PARENT not in os.environ:
        return False
    from tfcli.engine.runs.ranks import report_to_rank_0

    return report_to_rank_0(error, code)
