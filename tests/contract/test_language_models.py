"""Language models with every position and every attention: what they take they train with, the rest is refused.

The sizes are cut down, as in `test_models`; files that state how many parameters they have are built in
`test_stated_sizes`.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from contract.families import reads_texts_alone
from contract.test_models import ATTENTIONS, PICKY, POSITIONS, _cut, part

from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import compose
from tfcli.engine.config.configs import options
from tfcli.errors import IncompatibleError
from tfcli.models.bert import BERT
from tfcli.models.protocols import Translator

FILES = sorted(m for m, text in options("model").items() if reads_texts_alone(m) and " parameters " not in text)
REFUSED = {"axial": "needs tokens on two axes", "linformer": "linformer attention (takes a full|cannot take)"}
"""What text cannot take, or what cannot be causal."""


@cache
def composed(model: str) -> dict:
    return {**_cut(plain(compose("train", [f"model={model}"]).config.model)), "vocab_size": 11}


def answers(net: torch.nn.Module) -> torch.Tensor:
    """All that the model says in pre-training."""
    tokens = torch.randint(0, 11, (2, 6))
    if isinstance(net, Translator):
        return net(tokens, tokens[:, :4])
    if not isinstance(net, BERT):
        return net(tokens)
    features = net.features(tokens)
    return torch.cat([net.masked_logits(features.tokens).flatten(), net.next_logits(features.pooled).flatten()])


def trains(net: torch.nn.Module) -> None:
    """Forward and backward: finite, and every parameter has a part in it."""
    torch.manual_seed(0)
    out = answers(net)
    assert out.isfinite().all()
    out.square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


@pytest.mark.parametrize("model", [*FILES, "gpt1"])
def test_every_family_trains(model):
    trains(build(composed(model)))


@pytest.mark.parametrize("model", ["gpt", "transformer"])
@pytest.mark.parametrize("attn", ATTENTIONS)
def test_causal_stacks_take_every_position_and_every_attention_that_can_be_causal(attn, model):
    """Every position with plain attention, every attention with the usual position; what does not fit is refused."""
    usual = composed(model)["pos"]
    for pos in POSITIONS:
        node = {**composed(model), "context": 32, "pos": part("pos", pos), "attn": part("attn", attn)}
        unfit = part("pos", pos)["applies_to"] in PICKY.get(attn, [])
        said = REFUSED.get(attn, f"{attn} attention cannot take positions" if unfit else None)
        if said:
            with pytest.raises(IncompatibleError, match=said):
                build(node)
        elif attn == "full" or part("pos", pos)["_target_"] == usual["_target_"]:
            trains(build(node))


@pytest.mark.parametrize("attn", ["full", "sliding", "linear", "reformer", "causal"])
def test_bert_takes_other_positions_and_attentions(attn):
    node = {**composed("bert"), "context": 32, "attention_dropout": 0.0, "attn": part("attn", attn)}
    for pos in POSITIONS if attn == "full" else ["learned"]:
        trains(build({**node, "pos": part("pos", pos)}))
