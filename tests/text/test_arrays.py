"""Ids and places as arrays are the library's, however a text is cut for it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfcli.text import arrays
from tfcli.text.arrays import ArrayEncoder
from tfcli.text.tokenizer import Tokenizer, make

CORPUS = ["the cat's on the mat\nand 12 dogs\n\n  ran\tAway, \N{DOG} Kätzchen\n"] * 20
TEXTS = st.text(
    alphabet="ab 's1,\n\r\t\x1c\x85\u00a0\u2028\u200b\u0301ä\N{DOG}\N{CJK UNIFIED IDEOGRAPH-4E2D}", max_size=60
)


def library(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    piece = tokenizer._backend.encode(text, add_special_tokens=False)
    return piece.ids, piece.offsets


def ours(tokenizer: Tokenizer, *texts: str) -> list[tuple[list[int], list[tuple[int, int]]]]:
    found = tokenizer.encode_arrays(texts)
    return [(a.ids.tolist(), list(zip(a.starts.tolist(), a.stops.tolist(), strict=True))) for a in found]


@pytest.fixture(scope="module")
def byte_pairs() -> Tokenizer:
    return make("byte_bpe", texts=CORPUS, vocab_size=300)


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    return make("chars", texts=["ab '1,<unk>"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, max_size=3), strip=st.integers(0, 12))
def test_bytes_tell_the_places(byte_pairs: Tokenizer, texts: list[str], strip: int, monkeypatch) -> None:
    monkeypatch.setattr(arrays, "STRIP", strip)
    texts = [*texts, "a\n".join(texts), "<|endoftext|>\n".join(texts)]
    assert byte_pairs._arrays.widths is not None
    assert ours(byte_pairs, *texts) == [library(byte_pairs, text) for text in texts]
    assert byte_pairs.encode(texts) == [library(byte_pairs, text)[0] for text in texts]


@settings(max_examples=100, deadline=None)
@given(text=st.lists(TEXTS | st.sampled_from(["<unk>", "<un", "k>", "<bos>", "<pad>", "<", "a"]), max_size=8))
def test_letters_and_spelled_tokens_tell_the_places(characters: Tokenizer, text: list[str]) -> None:
    assert characters._arrays.letters is not None
    assert ours(characters, "".join(text), "") == [library(characters, "".join(text)), ([], [])]


@pytest.mark.parametrize(("kind", "lower"), [("words", False), ("wordpiece", True), ("byte_bpe", True), ("bpe", False)])
def test_what_changes_the_text_has_the_librarys_places(kind: str, lower: bool) -> None:
    tokenizer = make(kind, texts=CORPUS, vocab_size=None if kind == "words" else 300, lower=lower)
    assert tokenizer._arrays.widths is None
    text = "The Kätzchen\nran 12, \N{DOG} İ\n" * 3
    assert ours(tokenizer, text, "") == [library(tokenizer, text), library(tokenizer, "")]


def test_an_added_token_that_takes_white_space_with_it_is_not_cut_from_it(byte_pairs: Tokenizer) -> None:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(byte_pairs._backend.to_str())
    backend.add_tokens([AddedToken("mat", rstrip=True)])
    assert ArrayEncoder(backend, chars=False, unk_id=None).widths is None
