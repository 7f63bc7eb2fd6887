"""Write to the terminal: lines on stderr, a progress bar, and streams that survive any encoding and a closed pipe."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tfcli.errors import TfcliError

ASCII = str.maketrans(
    {
        "·": "-",
        "…": "...",
        "±": "+/-",
        "→": "->",
        "–": "-",
        "—": "-",
        "×": "x",
        "≥": ">=",
        "≤": "<=",
        "━": "=",
        "─": "-",
    }
)


def readable(stream: TextIO, text: str) -> str:
    """Return `text` in characters that the stream's encoding has."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    if not encoding.startswith("utf"):
        text = text.translate(ASCII)
    return text.encode(encoding, errors="replace").decode(encoding)


def write(stream: TextIO, text: str) -> None:
    """Write and flush. A closed pipe silences the stream; the command goes on to its end."""
    try:
        stream.write(readable(stream, text))
        stream.flush()
    except BrokenPipeError:
        _silence(stream)


def _silence(stream: TextIO) -> None:
    """Redirect a closed stream to /dev/null, so that neither later writes nor Python's exit fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class ResilientStream:
    """A standard stream that a closed pipe only silences. On stderr no failure stops the command.

    Results must arrive: where stdout cannot be written (`> /dev/full`), that is an error (TfcliError).
    """

    def __init__(self, stream: TextIO, *, results: bool):
        self.stream, self.results = stream, results

    def write(self, text: str) -> int:
        return self._try(lambda: self.stream.write(text), len(text))

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        self._try(self.stream.flush, None)

    def _try(self, act: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return act()
        except OSError as error:
            _silence(self.stream)
            if self.results and not isinstance(error, BrokenPipeError):
                raise TfcliError(f"the output cannot be written: {error.strerror}.") from error
            return otherwise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def make_streams_resilient() -> None:
    """Give this process three open standard streams that survive a closed pipe.

    A stream that was closed (`>&-`) is opened on /dev/null: else the next file that is opened would get its number, and
    what a library prints would end up in a checkpoint.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  it lives as long as the process
            setattr(sys, name, stream)
        if mode == "w" and not isinstance(stream, ResilientStream):
            setattr(sys, name, ResilientStream(stream, results=name == "stdout"))


def say(line: str = "") -> None:
    """Print one line on stderr."""
    clear_status()
    write(sys.stderr, line + "\n")


def is_terminal(stream: TextIO | None = None) -> bool:
    """Return whether a stream (stdout when none is given) is a terminal that can move its cursor."""
    stream = stream or sys.stdout
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class _Status:
    """State of the status line: whether one is on the terminal."""

    drawn = False


def status(line: str) -> None:
    """Draw a line on stderr that the next one replaces; nothing at all where stderr is not a terminal."""
    if is_terminal(sys.stderr):
        write(sys.stderr, "\r\x1b[K" + line[: max(width() - 1, 10)])
        _Status.drawn = bool(line)


def clear_status() -> None:
    """Clear the line of `status`, so that an ordinary line can take its place."""
    if _Status.drawn:
        status("")


def width() -> int:
    """Return the columns to write in: `COLUMNS`, else the terminal's, else 80."""
    return shutil.get_terminal_size((80, 24)).columns


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Draw a bar on stderr where that is a terminal; yield the function that advances it by a number of steps."""
    if not is_terminal(sys.stderr):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


class Tee:
    """stderr that is also written to a file; lines that are redrawn stay out of the file."""

    def __init__(self, stream: TextIO, file: TextIO):
        self.stream, self.file = stream, file

    def write(self, text: str) -> int:
        if "\x1b" not in text and "\r" not in text:
            clear_status()
            try:
                self.file.write(text)
                self.file.flush()
            except OSError as error:  # the disk is full: the run itself has to say so, not what it says
                self.stream.write(f"log.txt is no longer written: {error.strerror}\n")
                self.file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  `logged` closes it
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def quiet_evaluation() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield


def quiet_libraries() -> None:
    """Leave on stderr what concerns the user: our own lines."""
    for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning.*")
    warnings.filterwarnings("ignore", module="lightning_fabric.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step.*")
