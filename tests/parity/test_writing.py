"""What is written equals what transformers writes, through saved folders: GPT-2's texts, Marian's translations."""

from __future__ import annotations

import json
import warnings
from random import Random

import pytest
import torch
from parity.language import LINES, reference, saved
from parity.test_vit import _quietly

from tfcli.cli.app import app
from tfcli.text.tokenizer import make

pytestmark = pytest.mark.parity
GPT2 = {"config": "GPT2Config", "kind": "byte_bpe", "n_embd": 24, "n_layer": 2, "n_head": 2, "n_positions": 64}


def written(capsys, *words: str) -> list[dict]:
    capsys.readouterr()
    app([*words, "--json"], standalone_mode=False)
    return json.loads(capsys.readouterr().out)


@torch.no_grad()
def test_the_likeliest_text_is_gpt2s_own_after_what_was_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    theirs = saved(tmp_path / "gpt2", "GPT2LMHeadModel", **GPT2)
    tokenizer = make("byte_bpe", texts=LINES, vocab_size=300)
    for prompt in ("the good cat", "sat on"):
        ids = torch.tensor(tokenizer.encode([prompt]))
        expected = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        ask = ("sample", "gpt", "model.weights=gpt2", "--text", prompt, "--length", "12", "--temperature", "0")
        (row,) = written(capsys, *ask)
        end = tokenizer.eos_id
        own = expected[0, ids.shape[1] :].tolist()
        own = own[: own.index(end)] if end in own else own
        assert row["text"] == tokenizer.decode(own)
        (marked,) = written(capsys, *ask, "--start")
        assert marked["text"] != row["text"]
    (tmp_path / "gpt2" / "generation_config.json").write_text('{"do_sample": false, "min_length": 3}')
    (stated,) = written(capsys, *ask[:-2])
    assert stated["text"] == row["text"]


@torch.no_grad()
@pytest.mark.parametrize("seed", range(6))
def test_translations_are_those_of_marian_as_its_generation_config_states(seed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    transformers = _quietly("transformers")
    draw = Random(seed)
    tokenizer = make("bpe", texts=LINES, vocab_size=60)
    tokenizer.save(tmp_path / "marian")
    reference(
        tmp_path / "marian", "MarianMTModel", "MarianConfig", vocab_size=tokenizer.vocab_size, d_model=24,
        encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=40,
        decoder_ffn_dim=40, max_position_embeddings=64, pad_token_id=tokenizer.pad_id, eos_token_id=tokenizer.eos_id,
        decoder_start_token_id=tokenizer.bos_id, decoder_vocab_size=tokenizer.vocab_size, forced_eos_token_id=None,
    )  # fmt: skip
    settings = {
        "num_beams": draw.choice((1, 2, 4)),
        "length_penalty": draw.choice((0.0, 0.6, 1.0, 2.0)),
        "early_stopping": draw.choice((True, False, "never")),
        "max_length": draw.choice((5, 9, 14)),
        "bad_words_ids": draw.choice((None, [[tokenizer.pad_id], [7]])),
        "forced_eos_token_id": draw.choice((None, tokenizer.eos_id)),
        "renormalize_logits": draw.random() < 0.5,
    }
    marks = {
        "decoder_start_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
    (tmp_path / "marian" / "generation_config.json").write_text(json.dumps(settings | marks))
    theirs = transformers.MarianMTModel.from_pretrained(tmp_path / "marian").eval()
    texts = draw.sample(LINES, 3)
    rows = written(capsys, "sample", "transformer", "model.weights=marian", *(w for t in texts for w in ("--text", t)))
    for text, row in zip(texts, rows, strict=True):
        ids = torch.tensor([[*tokenizer.encode([text])[0], tokenizer.eos_id]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on settings that one beam has no use for
            (expected,) = theirs.generate(ids, attention_mask=torch.ones_like(ids))
        assert row["translations"][0]["text"] == tokenizer.decode(
            [t for t in expected[1:].tolist() if t not in (tokenizer.eos_id, tokenizer.pad_id)]
        ), settings
