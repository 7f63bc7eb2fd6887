"""A model's config says which tokenizer it reads: rows for a text tower, ids for a language model, none for images."""

from __future__ import annotations

import pytest

from tfcli.engine.config.compose import compose
from tfcli.engine.loading.adopt import make_tokenizer
from tfcli.errors import ConfigError

TEXTS = ["A red circle.", "a blue square"]


def made(*words: str):
    config = compose("train", list(words)).config
    return make_tokenizer(config, None, lambda: TEXTS), config.model


def test_a_text_tower_reads_clean_rows_and_may_have_rows_to_spare():
    tokenizer, model = made("model=clip", "data=shapes", "model.text.vocab_size=40")
    assert (tokenizer.vocab_size, tokenizer.context, model.text.vocab_size) == (10, model.text.context, 40)
    assert tokenizer.decode(tokenizer.encode_padded(["A  RED circle"])[0]) == "a red circle"
    with pytest.raises(ConfigError, match=r"it has 10 tokens \(words\), the model embeddings for 3"):
        made("model=clip", "data=shapes", "model.text.vocab_size=3")


def test_a_language_model_reads_ids_of_texts_as_they_are():
    tokenizer, model = made("model=gpt", "data=symbol_maps", "model.tokenizer.kind=chars")
    assert tokenizer.context is None
    assert model.vocab_size == tokenizer.vocab_size
    assert tokenizer.decode(tokenizer.encode(TEXTS[:1])[0]) == TEXTS[0]


def test_a_model_of_images_reads_none():
    assert made("model=vit", "data=digits")[0] is None
