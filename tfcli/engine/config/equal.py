"""Compare saved settings with today's, where names have changed since."""

from __future__ import annotations

from typing import Any

from tfcli.engine.config import moved
from tfcli.engine.config.signatures import signature


def same(old: Any, new: Any) -> bool:
    """Return whether old values mean the same as new ones.

    Parts may have moved (`moved`), and may have gained settings, which are at their default in the new values.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        old = moved.values(old)
        if not old.keys() <= new.keys():
            return False
        read = signature(str(new["_target_"])) if "_target_" in new else None
        defaults = {} if read is None else {name: argument.default for name, argument in read.arguments.items()}
        return all(
            same(old[key], value) if key in old else defaults.get(key, ...) == value for key, value in new.items()
        )
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    return bool(old == new)
