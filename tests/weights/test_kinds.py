"""Whose weights a folder holds is asked first, by its config or by its tensors."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

from tfcli.engine.use.language_model import load_language_model
from tfcli.errors import WeightsError
from tfcli.weights import kinds
from tfcli.weights.files import Checkpoint

NAMES = {
    "bert": ("embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"),
    "gpt": ("h.0.attn.c_attn.weight", "wpe.weight"),
    "vit": ("vit.embeddings.patch_embeddings.projection.weight",),
    "clip": ("visual.conv1.weight",),
    "distilbert": ("distilbert.transformer.layer.0.attention.q_lin.weight",),
    "roberta": ("roberta.embeddings.word_embeddings.weight",),
    "gpt-neo": ("transformer.h.0.attn.attention.q_proj.weight",),
    "gpt-j": ("transformer.h.0.attn.q_proj.weight",),
    "opt": ("model.decoder.layers.0.self_attn.q_proj.weight", "model.decoder.final_layer_norm.weight"),
    "t5": ("encoder.block.0.layer.0.SelfAttention.q.weight",),
    "bart": ("model.encoder.layernorm_embedding.weight", "decoder.layers.0.encoder_attn.q_proj.weight"),
}


def ask(model: str, config: dict, names: tuple[str, ...] = (), **tensors: torch.Tensor) -> None:
    state = {name: torch.ones(4, 4) for name in names} | tensors
    kinds.check(Checkpoint(Path("w"), state, config), import_module(f"tfcli.weights.{model}"), model=model, weights="W")


@pytest.mark.parametrize(
    ("model", "config", "names", "said"),
    [
        ("bert", {"model_type": "distilbert"}, "distilbert", "DistilBERT (config.json: model_type distilbert)"),
        ("bert", {"model_type": "camembert"}, "bert", "camembert (config.json"),
        ("bert", {"architectures": ["RobertaForMaskedLM"]}, "bert", "RoBERTa (config.json: architectures Roberta"),
        ("bert", {}, "distilbert", "DistilBERT (by its tensor distilbert.transformer.layer.0"),
        ("bert", {}, "roberta", "RoBERTa (by its tensor roberta."),
        ("bert", {}, "vit", "ViT (by its 1 tensors' names). `model=bert` reads BERT alone; `model=vit` reads these."),
        ("bert", {"model_type": "gpt2"}, "gpt", "GPT-2 (config.json: model_type gpt2)"),
        ("gpt", {"model_type": "gpt_neo"}, "gpt-neo", "GPT-Neo (config.json"),
        ("gpt", {}, "gpt-j", "GPT-J (by its tensor"),
        ("gpt", {}, "opt", "OPT (by its tensor"),
        ("gpt", {}, "bert", "`model=gpt` reads GPT-2 and GPT-1 alone; `model=bert` reads these."),
        ("transformer", {}, "t5", "T5 (by its tensor"),
        ("transformer", {}, "bart", "BART (by its tensor"),
        ("transformer", {"model_type": "mbart"}, "bart", "mbart (config.json"),
        ("vit", {"model_type": "bert"}, "bert", "`model=bert` reads these."),
        ("clip", {"model_type": "siglip"}, "clip", "siglip (config.json"),
    ],
)
def test_weights_of_another_family_are_refused_by_name(model, config, names, said):
    with pytest.raises(WeightsError) as refused:
        ask(model, config, NAMES[names])
    assert said in str(refused.value)


@pytest.mark.parametrize("model", ["bert", "gpt", "vit", "clip"])
def test_its_own_are_taken(model):
    ask(model, {}, NAMES[model])
    ask(model, {"run": {"model": {}}}, ("stack.blocks.0.attention.qkv.weight",))


def test_robertas_are_told_from_berts_by_the_row_of_padding():
    words, positions = (f"embeddings.{name}_embeddings.weight" for name in ("word", "position"))
    padded = torch.ones(4, 4)
    padded[1] = 0
    with pytest.raises(WeightsError, match=r"RoBERTa, CamemBERT or XLM-RoBERTa \(by the second row"):
        ask("bert", {}, NAMES["bert"], **{words: torch.ones(4, 4), positions: padded})
    ask("bert", {"model_type": "bert"}, NAMES["bert"], **{positions: padded})
    with pytest.raises(WeightsError, match="514 positions"):
        ask("bert", {}, NAMES["bert"], **{
            positions: torch.empty(514, 4, device="meta"),
            "embeddings.token_type_embeddings.weight": torch.empty(1, 4, device="meta"),
        })  # fmt: skip


def test_a_config_of_other_weights_and_sizes_that_nothing_states():
    with pytest.raises(WeightsError, match="hidden_size 8, but 16"):
        kinds.agree({"hidden_size": 8, "n_inner": None}, {"hidden_size": 16, "n_inner": 4})
    assert kinds.assumed({"heads": 2}, {"heads": 4}) == []
    assert kinds.assumed({}, {"heads": 4})[0].startswith("there is no config.json, which would state heads (4 assumed)")


def test_tensors_of_nobody_say_no_tokenizer(tmp_path):
    torch.save({"linear.weight": torch.ones(2, 2)}, tmp_path / "own.pt")
    with pytest.raises(WeightsError, match="neither its sizes nor its tokenizer"):
        load_language_model(None, ["model=bert", f"model.weights={tmp_path / 'own.pt'}"])
