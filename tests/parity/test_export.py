"""A model of ours in a public format: its library gives the same outputs from the files, and so do we."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from random import Random
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
from tfcli.weights.blueprint import blueprint
from tfcli.weights.generation import as_stated
from tfcli.weights.generation import search as read_search
from tfcli.weights.load import load_weights
from tfcli.weights.open_weights import converter_of

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
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 0} | layout.config))
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


@torch.no_grad()
def test_a_deit_is_transformers(tmp_path: Path):
    words = ["model=deit", "task=classify", "model.patch_size=4", *IMAGES]
    net, theirs = exported(words, tmp_path)
    logits = net(images())
    assert_close(theirs(images()).logits, logits, **EXACT)
    assert_close(taken_back(words, tmp_path)(images()), logits, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("depth", [18, 50])
def test_a_resnet_is_torchvisions(tmp_path: Path, depth: int):
    words = ["model=resnet", "data=shapes", f"model.depth={depth}"]
    net, theirs = exported(words, tmp_path)
    image = images(side=32)
    logits = net(image)
    scale = {"atol": 1e-5 * float(logits.abs().max()), "rtol": 0.0}
    assert_close(theirs(image), logits, **scale)
    assert_close(taken_back(words, tmp_path)(image), logits, **scale)


@torch.no_grad()
def test_a_gpt_is_transformers(tmp_path: Path):
    words = ["model=gpt", "model.mlp_width=40", "model.norm_eps=0.01", *TEXTS, "data=shakespeare"]
    net, theirs = exported(words, tmp_path)
    logits = net(TOKENS)
    assert_close(theirs(TOKENS).logits, logits, **EXACT)
    assert_close(taken_back(words, tmp_path)(TOKENS), logits, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("changes", [[], ["model.image.activation=quick_gelu", "model.text.norm_eps=0.01"]])
def test_a_clip_is_transformers(tmp_path: Path, changes: list[str]):
    words = ["model=clip", "data=shapes", "data.image_size=16", "model.image.stem=patch", "model.text.vocab_size=60"]
    words += changes
    net, theirs = exported(words, tmp_path)
    tokens = torch.zeros(3, 16, dtype=torch.long)
    for row, length in zip(tokens, (4, 9, 14), strict=True):
        row[:length], row[length] = torch.arange(1, length + 1), 59
    scores = net(images(), tokens)
    out = theirs(input_ids=tokens, pixel_values=images())
    scale = {"atol": 1e-5 * float(scores.abs().max()), "rtol": 0.0}
    assert_close(out.logits_per_image, scores, **scale)
    assert_close(taken_back(words, tmp_path)(images(), tokens), scores, **scale)


@torch.no_grad()
@pytest.mark.parametrize("changes", [[], ["model.output_bias=true", "model.scale=false", "model.decoder_depth=1"]])
def test_a_transformer_is_marian(tmp_path: Path, changes: list[str]):
    words = ["model=transformer", "model.norm_eps=1e-5", *TEXTS, "data=reversal", *changes]
    net, theirs = exported(words, tmp_path)
    source = TOKENS.flip(1)
    logits = net(source, TOKENS, valid=VALID)
    out = theirs(input_ids=source, attention_mask=VALID.long(), decoder_input_ids=TOKENS)
    assert_close(out.logits, logits, **EXACT)
    back = taken_back([*words, "model.output_bias=true"], tmp_path)
    assert_close(back(source, TOKENS, valid=VALID), logits, **EXACT)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=vit", "data=digits", "pos=rope"], "`pos=rope` cannot be exported: the public format of `model=vit`"),
        (["model=vit", "data=digits", "pos.at=every"], "`model.pos.at=every` cannot be exported"),
        (["model=vit", "data=digits", "attn=linear"], "`attn=linear` cannot be exported"),
        (["model=vit", "data=digits", "attn=windows"], "`attn=windows` cannot be exported.* holds `attn=full` alone"),
        (["model=vit", "data=digits", "attn=causal"], "`model.attn.causal=true` cannot be exported"),
        (["model=vit", "data=digits", "model.pool=mean"], "`model.pool=mean` cannot be exported.* holds class alone"),
        (["model=vit", "data=digits", "model.activation=swiglu"], "`model.activation=swiglu` cannot be exported"),
        (["model=vit", "data=digits", "model.layer_scale=0.1"], "`model.layer_scale=0.1` cannot be .* holds null"),
        (["model=bert"], "`model.post_norm=false` cannot be exported.* holds true alone"),
        (["model=resnet20", "data=digits"], "`model=resnet20` cannot be exported.* holds ResNet alone"),
        (["model=resnet", "data=digits", "model.stem=cifar"], "`model.stem=cifar` cannot be exported"),
        (["model=gpt", "+model.mlp_bias=false"], "`model.mlp_bias=false` cannot be exported"),
        (["model=gpt1"], "`model.post_norm=true` cannot be exported"),
        (["model=gpt", "data=sst2"], "`model.head=classes` cannot be exported"),
        (
            ["model=transformer", "pos=learned"],
            "`pos=learned` cannot.* holds `pos=sinusoidal` alone; `model.norm_eps=1e-06` cannot be exported",
        ),
        (
            ["model=transformer"],
            "`model.norm_eps=1e-06` cannot be exported.* Trained with `model.norm_eps=1e-05` it can",
        ),
        (["model=clip", "data=shapes"], "`model.image.stem=conv` cannot be exported"),
        (["model=clip_rn50", "data=shapes"], "`model.image=ModifiedResNet` cannot be exported"),
        (["model=clip", "data=shapes", "pos@model.text.pos=rope"], "`pos@model.text.pos=rope` cannot be exported"),
        (["model=clip", "data=shapes", "pos=rope"], "`pos=rope` cannot be exported"),
        (["model=rnn", "data=reversal"], "`model=rnn` has no public format"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_by_name(words: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        checked(words)


@pytest.mark.parametrize("seed", range(8))
def test_a_search_is_stated_as_it_is_read(seed: int, tmp_path: Path):
    draw = Random(seed)
    search = {
        "penalty": "power",
        "early": draw.choice((True, False, "never")),
        "longest": draw.choice((5, 30)),
        "banned": draw.choice(([], [0, 7])),
        "renormalise": draw.random() < 0.5,
        "ends": draw.random() < 0.5,
    }
    task = {"beams": draw.choice((1, 4)), "alpha": draw.choice((0.0, 0.6)), "search": search}
    stated, unsaid = as_stated(task, context=30, end=3)
    (tmp_path / "generation_config.json").write_text(json.dumps(stated))
    back, _ = read_search(tmp_path, {})
    assert back == task
    assert not unsaid
    _, unsaid = as_stated(task | {"search": search | {"penalty": "wu"}}, context=30, end=3)
    assert "cannot state `task.search.penalty=wu`" in unsaid[0]
