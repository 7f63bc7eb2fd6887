"""A model of ours in a public format: its library gives the same outputs from the files, and so do we."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.folders import quietly
from parity.test_vit import randomise
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import compose
from tfcli.errors import ConfigError
from tfcli.weights import layout as layouts
from tfcli.weights.load import blueprint, converter_of, load_weights

pytestmark = pytest.mark.parity

EXACT = {"atol": 1e-5, "rtol": 0.0}
IMAGES = ["data=shapes", "data.image_size=16", "model.depth=2", "model.width=24", "model.heads=4"]
TEXTS = ["data=sst2", "model.vocab_size=60", "model.context=16", "model.depth=2", "model.width=24", "model.heads=4"]
TOKENS = torch.randint(4, 60, (3, 9), generator=torch.Generator().manual_seed(3))
VALID = torch.arange(9) < torch.tensor([9, 4, 6])[:, None]
SEGMENTS = (torch.arange(9) > 2).long().expand(3, 9)


def images(count: int = 2, side: int = 16) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(7))


def checked(words: list[str]) -> Any:
    """The config of these words, which the public format can hold."""
    job = compose("train", words)
    layouts.check(converter_of(job.config.model._target_), plain(job.config.model), job.choices)
    return job.config


def exported(words: list[str], folder: Path) -> tuple[nn.Module, Any]:
    """A random model of ours, and what its library opens from the folder that its layout makes."""
    config = checked(words)
    net = randomise(build(config.model))
    converter = converter_of(config.model._target_)
    layout = converter.export(net.state_dict(), plain(config.model))
    save_file(layout.state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(layout.config))
    library = quietly(layout.library)
    if layout.library == "torchvision":
        theirs = library.models.get_model(layout.architecture, num_classes=len(layout.state["fc.bias"]))
        theirs.load_state_dict(layout.state)
        return net, theirs.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, told = getattr(library, layout.architecture).from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"], told
    assert not told["unexpected_keys"], told
    return net, theirs.eval()


def taken_back(words: list[str], folder: Path) -> nn.Module:
    """A model of the sizes that the folder states, with its weights."""
    config = compose("train", words).config
    target = config.model._target_
    found = blueprint(target, str(folder))
    assert found is not None
    for key, value in found.model.items():
        if key in ("width", "depth", "heads", "mlp_width", "norm_eps", "activation", "context", "patch_size"):
            assert config.model.get(key) in (value, None), key
    net = build(config.model)
    report = load_weights(net, str(folder))
    assert not report.new
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize("changes", [[], ["model.activation=gelu_tanh", "model.norm_eps=0.01", "model.mlp_width=40"]])
def test_a_vit_is_transformers(tmp_path: Path, changes: list[str]):
    words = ["model=vit", "model.patch_size=4", *IMAGES, *changes]
    net, theirs = exported(words, tmp_path)
    logits = net(images())
    assert_close(theirs(images()).logits, logits, **EXACT)
    assert_close(taken_back(words, tmp_path)(images()), logits, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("head", ["pretrain", "classes", "score", "span", "tags", "choice", "null"])
def test_a_bert_is_transformers(tmp_path: Path, head: str):
    words = ["model=bert", "model.post_norm=true", f"model.head={head}", "model.activation=gelu_tanh", *TEXTS]
    net, theirs = exported(words, tmp_path)
    read = {"input_ids": TOKENS, "token_type_ids": SEGMENTS, "attention_mask": VALID.long()}
    texts = [TOKENS, SEGMENTS, VALID]
    if head == "choice":
        read, texts = {key: value[None] for key, value in read.items()}, [value[None] for value in texts]
    out = theirs(**read)
    again = taken_back(words, tmp_path)
    ours, back = net(*texts), again(*texts)
    assert_close(back, ours, **EXACT)
    if head == "pretrain":
        pooled = net.features(*texts).pooled
        assert_close(out.seq_relationship_logits, net.next_logits(pooled), **EXACT)
        assert_close(out.prediction_logits[VALID], ours[VALID], **EXACT)
    elif head == "span":
        for number, logits in enumerate((out.start_logits, out.end_logits)):
            assert_close(logits[VALID], ours[..., number][VALID], **EXACT)
    elif head in ("tags", "null"):
        assert_close((out.logits if head == "tags" else out.last_hidden_state)[VALID], ours[VALID], **EXACT)
    else:
        assert_close(out.logits.reshape(ours.shape), ours, **EXACT)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=vit", "data=digits", "pos=rope"], "`pos=rope` cannot be exported: the public format of `model=vit`"),
        (["model=vit", "data=digits", "pos.at=every"], "`model.pos.at=every` cannot be exported"),
        (["model=vit", "data=digits", "attn=linear"], "`attn=linear` cannot be exported"),
        (["model=vit", "data=digits", "attn=windows"], "`attn=windows` cannot be exported.* holds full"),
        (["model=vit", "data=digits", "attn=causal"], "`model.attn.causal=true` cannot be exported"),
        (["model=vit", "data=digits", "model.pool=mean"], "`model.pool=mean` cannot be exported.* holds class alone"),
        (["model=vit", "data=digits", "model.activation=swiglu"], "`model.activation=swiglu` cannot be exported"),
        (["model=vit", "data=digits", "model.layer_scale=0.1"], "`model.layer_scale=0.1` cannot be .* holds null"),
        (["model=bert"], "`model.post_norm=false` cannot be exported.* holds true alone"),
        (["model=rnn", "data=reversal"], "`model=rnn` has no public format"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_by_name(words: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        checked(words)
