"""Vocabularies of sub-words: trained, saved and read back, the same each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.errors import ConfigError, DataError
from tfcli.text.tokenizer import KINDS, Tokenizer, check_matches, load, make

CORPUS = ["Ein Hund läuft über die Wiese.", "Zwei Hunde laufen, ein Mann läuft.", "A dog runs, a man runs."] * 20
SIZES = {"chars": None, "words": None, "bpe": 70, "byte_bpe": 300, "wordpiece": 80}


def trained(kind: str, **options: object) -> Tokenizer:
    return make(kind, texts=CORPUS, vocab_size=SIZES[kind], **options)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_trained_on_comes_back_and_so_does_what_was_saved(kind: str, tmp_path: Path) -> None:
    tokenizer = trained(kind)
    ids = tokenizer.encode(CORPUS)
    assert [tokenizer.decode(row) for row in ids] == CORPUS
    assert max(map(max, ids)) < tokenizer.vocab_size
    assert tokenizer.vocab_size == SIZES[kind] or SIZES[kind] is None
    assert tokenizer.unk_id not in {number for row in ids for number in row}
    file = tokenizer.save(tmp_path / "run")
    for again in (load(file), load(tmp_path / "run"), make(kind, path=file), make(None, path=tmp_path / "run")):
        assert (again.kind, again.vocab_size, again.digest) == (kind, tokenizer.vocab_size, tokenizer.digest)
        assert again.encode(CORPUS[:3]) == ids[:3]


@pytest.mark.parametrize("kind", KINDS)
def test_specials_have_their_places(kind: str) -> None:
    tokenizer = trained(kind)
    if kind == "wordpiece":
        ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
        assert ids == (0, 1, 2, 3, 4)
        assert (tokenizer.bos_id, tokenizer.eos_id) == (None, None)
    else:
        assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2, 3)
        assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (None, None, None)
    ends = [number for number in (tokenizer.pad_id, tokenizer.bos_id, tokenizer.cls_id) if number is not None]
    row = tokenizer.encode(["ein Hund"])[0]
    assert tokenizer.decode([*ends, *row, *ends]) == tokenizer.decode(row)
    assert tokenizer.id_to_token(0) in ("<pad>", "[PAD]")
    assert tokenizer.id_to_token(tokenizer.vocab_size) is None


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_say_which_characters_and_words_which_word(kind: str) -> None:
    tokenizer, text = trained(kind), "Ein Mann läuft,  ein\nHund."
    ((ids, spans),) = tokenizer.encode_offsets([text])
    assert ids == tokenizer.encode([text])[0]
    covered = {place for a, b in spans for place in range(a, b)}
    assert covered >= {place for place, letter in enumerate(text) if letter not in " \n"}
    assert all(text[a] != " " or b - a == 1 for a, b in spans)
    words = ["Ein", "Mann", "läuft", ",", "ein", "Hund"]
    ids, owners = tokenizer.encode_words(words)
    assert sorted(set(owners)) == list(range(6))
    assert owners == sorted(owners)
    assert len(ids) == len(owners)


@pytest.mark.slow
def test_training_does_not_depend_on_the_process() -> None:
    program = f"from tfcli.text.tokenizer import make\nprint(make('wordpiece', texts={CORPUS}, vocab_size=80).digest)"
    for seed in ("1", "2"):  # of Python's hashes, by which sets and dicts of another process may differ
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert done.stdout == f"{trained('wordpiece').digest}\n"


BYTES = make("byte_bpe", texts=CORPUS, vocab_size=300)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_bytes_spell_any_text(text: str) -> None:
    ((ids, spans),) = BYTES.encode_offsets([text])
    assert BYTES.decode(ids) == text
    assert all(0 <= a < b <= len(text) for a, b in spans)


def test_case_is_what_was_asked_for() -> None:
    for kind in KINDS:
        tokenizer = trained(kind, lower=True)
        assert tokenizer.decode(tokenizer.encode(["EIN Hund"])[0]) == "ein hund"
    assert trained("wordpiece", lower=True).encode(["läuft"]) == trained("wordpiece", lower=True).encode(["lauft"])


def test_what_is_unknown_is_shown() -> None:
    tokenizer = trained("words")
    assert tokenizer.encode(["Ein Kamel läuft."])[0][1] == tokenizer.unk_id
    assert tokenizer.decode(tokenizer.encode(["Ein Kamel läuft."])[0]) == "Ein <unk> läuft."
    assert make("words", texts=["a a a b b c"], vocab_size=6).encode(["a b c"]) == [[4, 5, 1]]


def test_a_tokenizer_of_another_model_is_refused() -> None:
    tokenizer = trained("bpe")  # 70
    for size in (70, 72, 80, 96, 128):
        check_matches(tokenizer, vocab_size=size, digest=tokenizer.digest)
    for size in (69, 71, 256):
        with pytest.raises(ConfigError, match=f"it has 70 tokens .*bpe.*, the model embeddings for {size}"):
            check_matches(tokenizer, vocab_size=size)
    with pytest.raises(ConfigError, match="but other ones"):
        check_matches(tokenizer, digest=trained("words").digest)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "wordpieces"}, "Did you mean `wordpiece`"),
        ({"kind": None}, "must be one of"),
        ({"kind": "bpe", "texts": list}, "there is no text"),
        ({"kind": "bpe", "texts": CORPUS, "vocab_size": 20}, "the alphabet of this corpus alone"),
        ({"kind": "words", "texts": CORPUS, "vocab_size": 4}, "at least 5"),
    ],
)
def test_wrong_options_are_named(options: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make(**options)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    file = trained("words").save(tmp_path)
    with pytest.raises(ConfigError, match="holds a tokenizer of kind words"):
        make("bpe", path=file)
    with pytest.raises(ConfigError, match="reads capitals and lower case"):
        load(file, lower=True)
    for name, content, match in (
        ("a.json", "{}", "is not a tokenizer"),
        ("vocab.txt", "[PAD]\nthe\n", r"lacks \[UNK\], \[CLS\]"),
        ("vocab.json", '{"a": "b"}', "is not a vocabulary"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=match):
            load(tmp_path / name)
    (tmp_path / "marian").mkdir()
    with pytest.raises(DataError, match=r"holds no tokenizer\. Looked for tokenizer.json"):
        load(tmp_path / "marian")
    for name in ("source.spm", "target.spm", "vocab.json"):
        (tmp_path / "marian" / name).write_text("{}")
    with pytest.raises(DataError, match=r"only SentencePiece files .source.spm, target.spm.*Put the `tokenizer.json`"):
        load(tmp_path / "marian")


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "byte_bpe"])
def test_a_blob_in_a_text_is_no_word_to_learn_from(kind):
    texts = ["the cat sat on the mat"] * 5
    blob = "the cat sat on the mat " + "xyz" * 100_000 + " the cat sat on the mat xyz"
    with_blob, without = (
        make(kind, texts=[*texts, text], vocab_size=300) for text in (blob, blob.replace("xyz" * 100_000, ""))
    )
    assert with_blob.encode(["the cat xyz"]) == without.encode(["the cat xyz"])
