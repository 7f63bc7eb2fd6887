"""Configurations drawn by chance, saved as transformers saves them, opened by our program: equal on real texts."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from conftest import find_real_data
from parity.language import LINES, reference
from parity.test_vit import _quietly

from tfcli.engine.use.language_model import load_language_model
from tfcli.errors import WeightsError
from tfcli.text.tokenizer import make

pytestmark = pytest.mark.parity

WORST = 1e-4
DRAWS = [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 30))]
ACTIVATIONS = ("gelu", "gelu_new", "relu", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "silu", "swish")


def lines(real: Path | None) -> list[str]:
    """Return real sentences where there are some, or else our own."""
    if real is None:
        return LINES
    text = (real / "multi30k" / "test_2016_flickr.en").read_text(encoding="utf-8")
    return text.splitlines()[:200]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return lines(find_real_data())


def drawn(draw: Random) -> dict[str, Any]:
    """What all families have: a width and the heads that divide it, depths, sizes."""
    heads = draw.choice((1, 2, 3, 4, 6))
    return {
        "width": heads * draw.choice((4, 8, 10)),
        "heads": heads,
        "depth": draw.randint(1, 4),
        "mlp": draw.choice((17, 24, 40, 96)),
        "context": draw.choice((24, 40, 64)),
        "eps": draw.choice((1e-12, 1e-6, 1e-5, 1e-3, 0.1)),
        "activation": draw.choice(ACTIVATIONS),
    }


def opened(folder: Path, model: str, texts: list[str], draw: Random):
    """Our model of a folder and a padded batch of texts: ids, and where they are no padding."""
    loaded = load_language_model(None, [f"model={model}", f"model.weights={folder}", "trainer.threads=1"], inside=True)
    ids = [row[: loaded.context] for row in loaded.tokenizer.encode(draw.sample(texts, 4))]
    longest = max(map(len, ids))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    return loaded, tokens, torch.arange(longest) < torch.tensor([[len(row)] for row in ids])


@torch.no_grad()
@pytest.mark.parametrize("seed", DRAWS)
def test_bert(seed, texts, tmp_path):
    draw = Random(seed)
    facts = drawn(draw)
    tokenizer = make("wordpiece", texts=texts, vocab_size=draw.choice((150, 300)))
    tokenizer.save(tmp_path)
    theirs = reference(
        tmp_path,
        draw.choice(("BertModel", "BertForPreTraining", "BertForMaskedLM")),
        "BertConfig",
        vocab_size=tokenizer.vocab_size,
        hidden_size=facts["width"],
        num_hidden_layers=facts["depth"],
        num_attention_heads=facts["heads"],
        intermediate_size=facts["mlp"],
        hidden_act=facts["activation"],
        layer_norm_eps=facts["eps"],
        max_position_embeddings=facts["context"],
        type_vocab_size=draw.choice((1, 2, 3)),
        hidden_dropout_prob=draw.choice((0.0, 0.1, 0.3)),
        classifier_dropout=draw.choice((None, 0.2)),
    )
    loaded, tokens, valid = opened(tmp_path, "bert", texts, draw)
    segments = torch.full_like(tokens, theirs.config.type_vocab_size - 1)
    hidden = theirs.base_model(tokens, attention_mask=valid.long(), token_type_ids=segments).last_hidden_state
    mine = loaded.net.features(tokens, segments, valid).tokens
    assert float((mine - hidden)[valid].abs().max()) <= WORST
    if hasattr(theirs, "cls"):
        logits = theirs(tokens, attention_mask=valid.long(), token_type_ids=segments)
        logits = getattr(logits, "prediction_logits", None) if hasattr(logits, "prediction_logits") else logits.logits
        assert float((loaded.net.masked_logits(mine) - logits)[valid].abs().max()) <= WORST


@torch.no_grad()
@pytest.mark.parametrize("seed", DRAWS)
def test_gpt2(seed, texts, tmp_path):
    draw = Random(seed)
    facts = drawn(draw)
    tokenizer = make("byte_bpe", texts=texts, vocab_size=draw.choice((280, 400)))
    tokenizer.save(tmp_path)
    theirs = reference(
        tmp_path,
        draw.choice(("GPT2Model", "GPT2LMHeadModel")),
        "GPT2Config",
        vocab_size=tokenizer.vocab_size,
        n_embd=facts["width"],
        n_layer=facts["depth"],
        n_head=facts["heads"],
        n_inner=draw.choice((None, facts["mlp"])),
        activation_function=facts["activation"],
        layer_norm_epsilon=facts["eps"],
        n_positions=facts["context"],
        scale_attn_weights=draw.random() < 0.6,
        scale_attn_by_inverse_layer_idx=draw.random() < 0.4,
        reorder_and_upcast_attn=draw.random() < 0.3,
        embd_pdrop=draw.choice((0.0, 0.1)),
    )
    loaded, tokens, valid = opened(tmp_path, "gpt", texts, draw)
    hidden = theirs.base_model(tokens).last_hidden_state
    assert float((loaded.net.features(tokens).tokens - hidden)[valid].abs().max()) <= WORST
    if hasattr(theirs, "lm_head"):
        assert float((loaded.net(tokens) - theirs(tokens).logits)[valid].abs().max()) <= WORST


@torch.no_grad()
@pytest.mark.parametrize("seed", DRAWS)
def test_marian(seed, texts, tmp_path):
    transformers = _quietly("transformers")
    draw = Random(seed)
    facts = drawn(draw)
    tokenizer = make("bpe", texts=texts, vocab_size=draw.choice((150, 300)))
    tokenizer.save(tmp_path)
    size = tokenizer.vocab_size
    reference(
        tmp_path,
        "MarianMTModel",
        "MarianConfig",
        vocab_size=size,
        d_model=2 * facts["width"],
        encoder_layers=facts["depth"],
        decoder_layers=draw.randint(1, 3),
        encoder_attention_heads=facts["heads"],
        decoder_attention_heads=facts["heads"],
        encoder_ffn_dim=facts["mlp"],
        decoder_ffn_dim=facts["mlp"],
        activation_function=facts["activation"],
        max_position_embeddings=facts["context"],
        scale_embedding=draw.random() < 0.5,
        share_encoder_decoder_embeddings=(shared := draw.random() < 0.5),
        tie_word_embeddings=shared,
        decoder_vocab_size=size,
        pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.eos_id,
        forced_eos_token_id=None,
        decoder_start_token_id=tokenizer.pad_id,
    )
    theirs = transformers.MarianMTModel.from_pretrained(tmp_path).eval()  # its sinusoids are made anew
    loaded, tokens, valid = opened(tmp_path, "transformer", texts, draw)
    target = tokens.flip(0)
    logits = theirs(input_ids=tokens, attention_mask=valid.long(), decoder_input_ids=target).logits
    assert float((loaded.net(tokens, target, valid=valid) - logits)[valid.flip(0)].abs().max()) <= WORST


@pytest.mark.parametrize(
    ("model", "name", "config", "facts", "said"),
    [
        ("bert", "BertModel", "BertConfig", {"hidden_act": "mish"}, "hidden_act mish"),
        ("bert", "BertModel", "BertConfig", {"is_decoder": True}, "is_decoder"),
        ("gpt", "GPT2Model", "GPT2Config", {"activation_function": "tanh"}, "activation_function tanh"),
        ("gpt", "GPT2LMHeadModel", "GPT2Config", {"tie_word_embeddings": False}, "tie_word_embeddings false"),
        ("gpt", "GPT2Model", "GPT2Config", {"add_cross_attention": True}, "add_cross_attention"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(model, name, config, facts, said, tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    sizes = sizes if model == "bert" else {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}
    reference(tmp_path, name, config, **sizes, **facts)
    with pytest.raises(WeightsError, match=said):
        load_language_model(None, [f"model={model}", f"model.weights={tmp_path}"])
