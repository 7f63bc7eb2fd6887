"""All errors that a user can meet.

    TfcliError                exit code 1: the command failed while running
    ├── UserError             2: the user's mistake; nothing was started
    │   ├── ConfigError           an unknown key, a wrong value
    │   │   └── IncompatibleError     parts that do not fit together
    │   ├── DataError             files that are missing, unreadable or different from their description
    │   ├── WeightsError          a checkpoint that is missing, of another shape, or unsafe to open
    │   └── RunError              a run folder that is missing, in use or not writable
    ├── PolicyStop            3: stopped by a rule (NaN, too many bad files); the last good checkpoint is kept
    ├── SweepFailed           4: some jobs of a sweep failed, the others are done
    └── Interrupted           130, 143 or 129: Ctrl-C, SIGTERM or SIGHUP; the checkpoint is saved

Only `cli` turns them into a line on stderr and an exit code; TFCLI_DEBUG=1 shows the traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from difflib import get_close_matches


class TfcliError(Exception):
    """An error while running, whose message says what is wrong, where, and how to mend it."""

    exit_code = 1


class UserError(TfcliError):
    exit_code = 2


class ConfigError(UserError):
    pass


class IncompatibleError(ConfigError):
    pass


class DataError(UserError):
    pass


class WeightsError(UserError):
    pass


class RunError(UserError):
    pass


class PolicyStop(TfcliError):
    exit_code = 3


class SweepFailed(TfcliError):
    exit_code = 4


class Interrupted(TfcliError):
    """A stop by a signal, after a checkpoint was written."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.exit_code = 130 if signum == signal.SIGINT else 128 + signum


def install(extra: str) -> str:
    """Return the command that installs an extra of tfcli from the same origin: a checkout, git or a package index."""
    import json
    import shlex
    from importlib.metadata import PackageNotFoundError, distribution
    from pathlib import Path

    checkout = Path(__file__).parents[1]
    if (checkout / "pyproject.toml").is_file():
        return f"pip install -e {shlex.quote(f'{checkout}[{extra}]')}"
    try:
        origin = json.loads(distribution("tfcli").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}"
    return f"pip install {shlex.quote(f'tfcli[{extra}] @ {url}' if url else f'tfcli[{extra}]')}"


def nearest(word: str, names: Iterable[str]) -> str:
    """Return ` Did you mean ...?` with the closest of `names` for an error message, or an empty string.

    A name that continues `word`, such as `model.patch_size` for `model.patch`, is closer than a name with similar
    letters.
    """
    known = list(names)
    longer = [name for name in known if name.startswith(f"{word}_")]
    close = [min(longer, key=len)] if longer and word not in known else get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean `{close[0]}`?" if close else ""
