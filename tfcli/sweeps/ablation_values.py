"""Check the values of an ablation's file: mappings with known keys, labels, overrides, axes of a grid.

`where` says in messages where a value stands; all raise ConfigError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfcli.errors import ConfigError, nearest
from tfcli.sweeps.expand import expand


def axis(values: Any, where: str) -> dict[str, list[str]]:
    """Read labels and their overrides from a mapping, from one override with several values, or from a list of both."""
    found: dict[str, list[str]] = {}
    for part in values if isinstance(values, list) else [values]:
        if isinstance(part, str):
            for value in _swept(part, where):
                found[value] = [f"{part.partition('=')[0]}={value}"]
        else:
            for label, own in mapping(part, where).items():
                found[label] = overrides(own, f"{where}: `{label}`")
    if not found:
        raise ConfigError(f"{where} has no entry.")
    return found


def _swept(text: str, where: str) -> list[str]:
    try:
        swept = expand([text]).swept
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if len(swept) != 1:
        raise ConfigError(f"{where}: `{text}` has one value; give several, `KEY=A,B`, or `LABEL: overrides`.")
    return next(iter(swept.values()))


def overrides(values: Any, where: str) -> list[str]:
    """Read a list of overrides, or one text of overrides separated by blanks."""
    if values is None:
        return []
    found = values.split() if isinstance(values, str) else values
    if not isinstance(found, list) or not all(isinstance(t, str) and (("=" in t) or t[:1] == "~") for t in found):
        raise ConfigError(f"{where}: overrides are written key=value, as a list or with blanks between: {values!r}.")
    return found


def texts(values: Any, where: str) -> list[str]:
    """Read a name or a list of names as texts."""
    values = values if isinstance(values, list) else [values]
    if any(isinstance(value, (dict, list)) or value is None for value in values):
        raise ConfigError(f"{where} is a name or a list of names, but is {values!r}.")
    return [str(value) for value in values]


def mapping(values: Any, where: str, known: set[str] | None = None, needed: Sequence[str] = ()) -> dict[str, Any]:
    """Read a mapping with text keys; refuse unknown keys and missing ones that are needed."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is written as `key: value` lines, but is {values!r}.")
    values = {str(key): value for key, value in values.items()}
    for key in values:
        if known is not None and key not in known:
            there = ", ".join(sorted(known))
            raise ConfigError(f"{where} has no `{key}`.{nearest(key, known)}  (there is {there})")
    for key in needed:
        if key not in values:
            raise ConfigError(f"{where} needs `{key}:`.")
    return values


def check_label(label: Any, labels: Mapping | Sequence[str], where: str) -> str:
    """Return a label as text; refuse it where it is not among `labels`."""
    if str(label) not in labels:
        raise ConfigError(
            f"{where}: there is no `{label}`.{nearest(str(label), labels)}  (there is {', '.join(labels)})"
        )
    return str(label)
