"""Groups of options: dataclasses whose fields a verb takes as options of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Make each field of a command's parameters that are groups (`HydraFlags`, `SweepOptions`) an option of its own.

    Typer has no groups of options: it reads the signature that is made here.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(command).parameters.values():
        if each.name in groups:
            kinds = get_type_hints(groups[each.name], include_extras=True)
            own = [(f.name, f.default, kinds[f.name]) for f in fields(groups[each.name])]
        else:
            own = [(each.name, each.default, hints[each.name])]
        parameters += [inspect.Parameter(n, each.KEYWORD_ONLY, default=d, annotation=kind) for n, d, kind in own]

    @wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{f.name: given.pop(f.name) for f in fields(group)})
        command(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
