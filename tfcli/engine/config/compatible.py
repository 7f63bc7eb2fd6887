"""Check from the config alone that attention and positions fit together. Imports no torch.

`conf/pos` says what a position acts on (`applies_to`) and its `placements`; `conf/attn` says what an approximation
`refuses` and which patterns it `takes`. The parts check the same when they are built, so that a user's own need not
say it.
"""

from __future__ import annotations

from typing import Any

from tfcli.errors import IncompatibleError


def check_parts(path: str, node: dict[str, Any]) -> None:
    """Refuse an `attn` and a `pos` that do not fit, in the node of a model or of one of its towers.

    Raises:
        IncompatibleError: with what to swap.
    """
    attn, pos = node.get("attn"), node.get("pos")
    where = "" if path in ("", "model") else f"{path}."
    if isinstance(pos, dict) and pos.get("placements") and pos.get("at") not in pos["placements"]:
        raise IncompatibleError(
            f"`{where}pos.at` must be {' or '.join(pos['placements'])} for positions that act on "
            f"{pos.get('applies_to')}, but is `{pos.get('at')}`."
        )
    if not isinstance(attn, dict):
        return
    kernel = attn.get("kernel")
    name = _name(kernel if isinstance(kernel, dict) else attn)
    pattern = _name(attn["pattern"]) if isinstance(attn.get("pattern"), dict) else "full"
    for asked in (pattern, "causal" if attn.get("causal") else "full"):
        if attn.get("takes") and asked not in attn["takes"]:
            raise IncompatibleError(
                f"{name} attention takes a {' or '.join(attn['takes'])} pattern, but is given a {asked} one "
                f"(`{where}attn.pattern`, `{where}attn.causal`)."
            )
    if isinstance(pos, dict) and pos.get("applies_to") in attn.get("refuses", []):
        raise IncompatibleError(
            f"{name} attention cannot take positions that act on {pos['applies_to']}, as {_name(pos)} ones do: "
            f"swap `{where}pos` (none, learned, sinusoidal … act on tokens) or `{where}attn`."
        )


def _name(node: dict[str, Any]) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2].lower()
