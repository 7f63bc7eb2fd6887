"""What the comparisons of language models share: a reference on disk, and ours made from what the folder says."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from parity.test_vit import _quietly, randomise
from torch import Tensor, nn

from tfcli.nn.attention import Attention
from tfcli.nn.capture import capture
from tfcli.nn.positions import Learned
from tfcli.text.tokenizer import make
from tfcli.weights.blueprint import blueprint
from tfcli.weights.load import load_weights
from tfcli.weights.load_report import LoadReport

TEXT = torch.randint(4, 60, (3, 9), generator=torch.Generator().manual_seed(3))


def reference(folder: Path, name: str, config: str, **sizes: Any) -> Any:
    """A tiny model of transformers with random weights, which is also written to `folder` as on the hub."""
    transformers = _quietly("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        facts = getattr(transformers, config)(**{"vocab_size": 60, **sizes})
        net = randomise(getattr(transformers, name)(facts))
        transformers.utils.logging.disable_progress_bar()
        net.save_pretrained(folder)
    return net


LINES = [f"the {a} {b} sat on the {c}." for a in ("good", "bad") for b in ("cat", "dog") for c in ("mat", "log")]


def saved(folder: Path, name: str, config: str, kind: str, **sizes: Any) -> Any:
    """A tiny random model of transformers in `folder` with a tokenizer for `LINES` beside it."""
    tokenizer = make(kind, texts=LINES, vocab_size=300 if kind == "byte_bpe" else 60)
    tokenizer.save(folder)
    return reference(folder, name, config, vocab_size=tokenizer.vocab_size, **sizes)


BERT = {
    "config": "BertConfig",
    "kind": "wordpiece",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
}


def ours(family: type[nn.Module], folder: Path, **changes: Any) -> tuple[Any, LoadReport]:
    """A model of the size that the folder states, with its weights, and what loading said."""
    found = blueprint(f"{family.__module__}.{family.__name__}", str(folder))
    assert found is not None
    sizes = {key: value for key, value in found.model.items() if key != "tokenizer"}
    torch.manual_seed(0)
    net = family(**{**sizes, "attn": Attention, "pos": Learned, **changes}).eval()
    return net, load_weights(net, str(folder), num_classes=changes.get("num_classes"))


def blocks(net: nn.Module, *inputs: Any) -> list[Tensor]:
    """What each block of ours gives."""
    with capture(net) as trace, torch.no_grad():
        net(*inputs)
    names = [name for name in trace.outputs if name.startswith("stack.blocks.") and name.count(".") == 2]
    return [trace.outputs[name] for name in sorted(names)]


def gradients(theirs: nn.Module, net: nn.Module, convert: Any) -> list[tuple[str, Tensor, Tensor]]:
    """Norms of the gradients of both, tensor by tensor under our names, where both have one."""
    state = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in theirs.named_parameters()}
    found, _, _ = convert(state, net)
    pairs = [(name, p) for name, p in net.named_parameters() if name in found and p.grad is not None]
    return [(name, found[name].norm(), p.grad.norm()) for name, p in pairs]
