"""Language models with every position and every attention: what they take they train with, the rest is refused.

The sizes are cut down, as in `test_models`; files that state how many parameters they have are built in
`test_stated_sizes`.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from contract.test_models import ATTENTIONS, LANGUAGE, PICKY, POSITIONS, _cut, part

from tfcli.engine.build import build, plain
from tfcli.engine.compose import compose, options
from tfcli.errors import IncompatibleError

FILES = sorted(m for m, text in options("model").items() if m.startswith(LANGUAGE) and " parameters " not in text)
REFUSED = {"axial": "needs tokens on two axes", "linformer": "linformer attention takes a full"}
"""What text cannot take, or what cannot be causal."""


@cache
def composed(model: str) -> dict:
    return {**_cut(plain(compose("train", [f"model={model}"]).config.model)), "head": None}


def trains(net: torch.nn.Module) -> None:
    """Forward and backward: finite, and every parameter has a part in it."""
    torch.manual_seed(0)
    out = net(torch.randint(0, 11, (2, 6)))
    assert out.isfinite().all()
    out.square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


@pytest.mark.parametrize("model", [*FILES, "gpt1"])
def test_every_family_trains(model):
    trains(build(composed(model)))


@pytest.mark.parametrize("attn", ATTENTIONS)
def test_gpt_takes_every_position_with_every_attention_that_can_be_causal(attn):
    for pos in POSITIONS:
        node = {**composed("gpt"), "context": 32, "pos": part("pos", pos), "attn": part("attn", attn)}
        unfit = part("pos", pos)["acts"] in PICKY.get(attn, [])
        said = REFUSED.get(attn, f"{attn} attention cannot take positions" if unfit else None)
        if said:
            with pytest.raises(IncompatibleError, match=said):
                build(node)
        else:
            trains(build(node))
