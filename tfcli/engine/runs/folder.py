"""Make, lock and describe the folder of a run, log to it, and list the files that it skips. Imports no torch."""

from __future__ import annotations

import csv
import json
import os
import platform
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from tfcli.data.common.printable import printable
from tfcli.engine.runs import terminal
from tfcli.engine.runs.disk_space import reserved_space, writing
from tfcli.errors import RunError
from tfcli.files import alone, write_atomic

RUN_DIR = "TFCLI_RUN_DIR"
"""Environment variable that hands the ranks their run folder (a time stamp of each would make a folder per rank)."""


def is_child() -> bool:
    """Return whether this process is a further rank of a run that another process leads."""
    return (
        int(os.environ.get("LOCAL_RANK", 0)) > 0 or int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) > 0
    )


def say(line: str) -> None:
    """Print a line on stderr, from rank 0 only."""
    if not is_child():
        terminal.say(line)


def check_writable(root: Path, *, settings: str = "`run.root=` or `run.dir=`") -> None:
    """Refuse a folder that cannot be written, or made, before any work is done; nothing is made yet.

    Args:
        root: the folder.
        settings: where another one is named.

    Raises:
        RunError: with the folder and the reason.
    """
    try:
        there = next(folder for folder in (root, *root.absolute().parents) if os.path.lexists(folder))
        probe = there / f".write-{os.getpid()}-{secrets.token_hex(2)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(f"cannot write to `{root}`: {error.strerror}. Choose another folder with {settings}.") from error


def make_folder(folder: Path) -> None:
    """Make a folder that can be written. Raises RunError as `check_writable`."""
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)


def run_folder(verb: str, name: str, *, root: Path, given: str | None) -> Path:
    """Make the folder of a new run, empty: `given`, or ROOT/VERB/NAME/TIME-ID.

    Raises:
        RunError: `given` already holds a run, or nothing can be written there.
    """
    if RUN_DIR in os.environ and is_child():
        return Path(os.environ[RUN_DIR])
    if given:
        folder = Path(given)
        if (folder / "config.yaml").exists():
            raise RunError(
                f"`{folder}` already holds a run; nothing was written. "
                f"Take another `run.dir=`, or `tfcli resume {folder}`."
            )
        make_folder(folder)
    else:
        parent = root / verb / safe(name)
        make_folder(parent)
        folder = _dated(parent)
        link_latest(root, folder)
    os.environ[RUN_DIR] = str(folder.resolve())
    return folder


def _dated(parent: Path) -> Path:
    """Make a new folder named by the time and by a random part, since two runs may begin in one second."""
    while True:
        folder = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        with suppress(FileExistsError):
            folder.mkdir()
            return folder


def safe(name: str) -> str:
    """Return a name fit for a folder: letters, digits, dots, dashes; never empty, hidden or long."""
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".-")
    return kept[:80] or "run"


def relative_path(folder: Path) -> str:
    """Return a path relative to the current folder, where it lies below it."""
    try:
        return str(folder.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(folder)


def link_latest(root: Path, folder: Path) -> None:
    """Point ROOT/latest at `folder`; do nothing on a file system without links."""
    temporary = root / f".latest-{os.getpid()}"
    with suppress(OSError):
        temporary.symlink_to(os.path.relpath(folder, root))
        os.replace(temporary, root / "latest")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one process tree at a time writes a run. The kernel releases it however the process ends.

    Raises:
        RunError: another process holds it, with its number and machine.
    """
    if is_child():
        yield
        return
    lock = folder / ".lock"
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(alone(lock, wait=False))
        except BlockingIOError:
            pid, _, host = lock.read_text(encoding="utf-8").partition(" ")
            raise RunError(
                f"`{folder}` is in use by process {pid} on {host}. Wait for its end, or stop it there: `kill {pid}`."
            ) from None
        if handle is not None:
            with writing(lock):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()} {socket.gethostname()}".encode())
            stack.callback(lock.unlink, missing_ok=True)
            stack.enter_context(reserved_space(folder))
        yield


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_start(folder: Path, *, config: dict[str, Any], overrides: list[str], devices: str) -> None:
    """Write a run's description before it starts: config.yaml, overrides.yaml, command.txt, environment.json."""
    with writing(folder):
        write_atomic(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        write_atomic(folder / "overrides.yaml", yaml.safe_dump(overrides, allow_unicode=True))
        write_atomic(folder / "command.txt", shlex.join(["tfcli", *sys.argv[1:]]) + "\n")
        write_atomic(folder / "environment.json", json.dumps(environment(devices), indent=1) + "\n")


def write_resumed(folder: Path, *, config: dict[str, Any], overrides: list[str]) -> None:
    """Bring the files of `write_start` to what a resumed run now is; command.txt keeps all commands, a line each."""
    write_atomic(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    write_atomic(folder / "overrides.yaml", yaml.safe_dump(overrides, allow_unicode=True))
    path = folder / "command.txt"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_atomic(path, before + shlex.join(["tfcli", *sys.argv[1:]]) + "\n")


def environment(devices: str) -> dict[str, Any]:
    """Return versions, devices and the state of the code, for the record."""
    names = ("tfcli", "torch", "torchvision", "pytorch-lightning", "hydra-core", "torchmetrics", "wandb", "numpy")
    versions = {}
    for name in names:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "versions": versions,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "devices": devices,
        "git": git_state(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def git_state() -> dict[str, Any] | None:
    """Return the commit of the current folder and whether files differ from it; None outside a git tree."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def wandb_login() -> bool:
    """Return whether W&B has a key here: in the environment, or in the user's netrc (its secrets are not read)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "wandb").rpartition("//")[2].strip("/")
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return any(host in line for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return False


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Copy everything that is printed on stderr to the run's log.txt."""
    if is_child():
        yield
        return
    file = open(folder / "log.txt", "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    before, tee = sys.stderr, terminal.Tee(sys.stderr, file)
    sys.stderr = tee  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stderr = before
        for one in (file, tee.file):
            with suppress(OSError):  # what a full disk has not taken
                one.close()


MAX_NAMED = 5
FILE = "bad_files.csv"


def list_skipped(data: Any, folder: Path) -> None:
    """List the files that `data` has left out, and from now on those that it meets while it reads."""
    kept = SkippedFiles(folder)
    if not is_child():
        kept.add(data.bad_files, named=True)  # its notes have named them
    data.on_skip = kept.add


class SkippedFiles:
    """The list of skipped files in a run's folder; every rank appends the files that it meets, each once.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path):
        self.file, self.named = folder / FILE, 0

    def add(self, bad: Sequence[tuple[str, str]], *, named: bool = False) -> None:
        """Add files and why they cannot be used; the first few are named on screen unless they have been."""
        known = self._paths()
        new = [(path, reason) for path, reason in bad if path not in known]
        if not new:
            return
        with open(self.file, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
                writer.writerow(["file", "reason"])
            writer.writerows(new)
            file.flush()
            os.fsync(file.fileno())
        if named:
            say(f"skipped files are listed in {FILE}")
            return
        for path, reason in new[: max(0, MAX_NAMED - self.named)]:
            say(f"skipped {printable(path)}: {reason}")
        if self.named < MAX_NAMED <= self.named + len(new):
            say(f"further skipped files are listed in {FILE}")
        self.named += len(new)

    def _paths(self) -> set[str]:
        if not self.file.exists():
            return set()
        with open(self.file, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return {row[0] for row in csv.reader(file) if row}
