"""Texts become the ids that CLIP was trained on; small vocabularies are made, saved and read back."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from tfcli.errors import ConfigError, DataError
from tfcli.text.clean import clean
from tfcli.text.tokenizer import Tokenizer, load, make

CAPTIONS = ["a red circle", "a photo of a blue square.", "there is a red square left of a blue circle"]
VECTORS = {
    "a photo of a cat.": [49406, 320, 1125, 539, 320, 2368, 269, 49407],
    "a photo of a pink primrose, a type of flower.": [
        *(49406, 320, 1125, 539, 320, 3360, 45891, 267, 320, 3877, 539, 4055, 269, 49407),
    ],
    "  Héllo &amp;amp; WORLD!! don't 123  ": [49406, 71, 3459, 19293, 261, 1002, 748, 847, 713, 272, 273, 274, 49407],
    "": [49406, 49407],
}
STRINGS = [
    *VECTORS,
    *(
        "“curly” ‘quotes’ — dash … «a» ™",
        "ﬁsh ＦＵＬＬ　width",
        "naïve café e\u0301",
        "emoji 😀👍🏽",
        "日本語 テキスト",
    ),
    *(
        "a\u2028b\tc\nd\r\n",
        "don't we'll I'VE it's o'clock",
        "x&lt;y&gt; <b>bold</b>",
        "&ldquo;hi&rdquo; &amp;amp;amp;",
    ),
    *("1.5e10 half½ ²³ Ⅷ ٣", "ΣΑΣ ΟΔΟΣ İstanbul ß ſt", "under_score-hyphen/slash", "!!!???", "zero\u200bwidth"),
    *("\x00ctrl\x1b[31mred\x1b[0m", "antidisestablishmentarianism " * 3, "http://a.b/c?d=e&f=g"),
]


@pytest.fixture(scope="module")
def clip_tokenizer(real_data: Path) -> Tokenizer:
    return load(real_data / "tokenizers" / "clip" / "bpe_simple_vocab_16e6.txt.gz", context=77)


def trained(kind: str) -> Tokenizer:
    return make(kind, context=16, texts=CAPTIONS * 5, vocab_size=300 if kind == "bpe" else None)


@pytest.mark.parametrize("text", VECTORS)
def test_clip_vectors(clip_tokenizer: Tokenizer, text: str) -> None:
    row = clip_tokenizer.encode_padded([text])[0]
    ids = VECTORS[text]
    assert row.dtype == np.int64
    assert row.tolist() == ids + [0] * (77 - len(ids))
    assert (clip_tokenizer.kind, clip_tokenizer.vocab_size, clip_tokenizer.context) == ("clip", 49_408, 77)
    assert (clip_tokenizer.bos_id, clip_tokenizer.eos_id, clip_tokenizer.pad_id) == (49_406, 49_407, 0)


@pytest.mark.parity
def test_clip_equals_open_clip(clip_tokenizer: Tokenizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        open_clip = pytest.importorskip("open_clip")
    theirs = open_clip.SimpleTokenizer()(STRINGS).numpy()
    ours = clip_tokenizer.encode_padded(STRINGS, truncate=True)
    assert [text for text, a, b in zip(STRINGS, ours, theirs, strict=True) if (a != b).any()] == []


@pytest.mark.parity
def test_clip_equals_transformers_and_reads_its_folder(clip_tokenizer: Tokenizer, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
        content = json.loads(clip_tokenizer.save(tmp_path / "own").read_text())["model"]
        (tmp_path / "vocab.json").write_text(json.dumps(content["vocab"]))
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["merges"]]
        (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
        theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
        theirs.save_pretrained(tmp_path / "theirs")
    assert (tmp_path / "theirs" / "tokenizer.json").is_file()
    plain = [text for text in STRINGS if text.isascii() and "&" not in text and "\x00" not in text]
    for reader in (clip_tokenizer, *(load(tmp_path / name, context=77) for name in ("vocab.json", "theirs"))):
        assert (reader.kind, reader.vocab_size, reader.context) == ("clip", 49_408, 77)
        for text in plain:
            expected = theirs(text)["input_ids"]
            assert reader.encode_padded([text])[0][: len(expected)].tolist() == expected, text


def test_too_long_is_an_error_that_shows_the_text(clip_tokenizer: Tokenizer) -> None:
    text = "word " * 76
    with pytest.raises(ConfigError, match=r"has 76 tokens, and the context of 77 holds 75 .*'word word"):
        clip_tokenizer.encode_padded(["short", text])
    row = clip_tokenizer.encode_padded([text], truncate=True)[0]
    assert row[-1] == clip_tokenizer.eos_id
    assert (row[1:-1] == row[1]).all()
    assert clip_tokenizer.encode_padded(["word " * 75])[0][-1] == clip_tokenizer.eos_id


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_trained_vocabularies(kind: str) -> None:
    tokenizer = trained(kind)
    rows = tokenizer.encode_padded(CAPTIONS)
    assert rows.shape == (3, 16)
    assert (rows[:, 0] == tokenizer.bos_id).all()
    assert tokenizer.eos_id == tokenizer.vocab_size - 1 == rows.max()
    assert (rows.argmax(1) == (rows == tokenizer.eos_id).argmax(1)).all()
    assert 0 not in rows[0, : rows[0].argmax() + 1]
    for text, row in zip(CAPTIONS, rows, strict=True):
        assert tokenizer.decode(row).replace(" .", ".") == text
    again = trained(kind)
    assert (again.encode_padded(CAPTIONS) == rows).all()


def test_words_are_words_and_unknown_ones_share_an_id() -> None:
    tokenizer = make("words", context=8, texts=["A red, RED circle.", "a 2nd_one"])
    assert tokenizer.vocab_size == 4 + 6  # a red circle 2nd_one , .
    same = tokenizer.encode_padded(["a purple circle", "a green circle"])
    assert (same[0] == same[1]).all()
    assert tokenizer.decode(same[0]) == "a <unk> circle"
    small = make("words", context=8, texts=["a a a b b c"], vocab_size=6)
    assert small.decode(small.encode_padded(["a b c"])[0]) == "a b <unk>"


def test_byte_pairs_can_spell_anything() -> None:
    tokenizer = make("bpe", context=64, texts=CAPTIONS, vocab_size=300)
    for text in ("zebra", "naïve 日本 😀"):
        assert tokenizer.decode(tokenizer.encode_padded([text])[0]) == text


@pytest.mark.parametrize("kind", ["words", "bpe", "clip"])
def test_what_is_saved_comes_back(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue("clip_tokenizer") if kind == "clip" else trained(kind)
    file = tokenizer.save(tmp_path / "run")
    assert [entry.name for entry in file.parent.iterdir()] == ["tokenizer.json"]
    again = make(kind, context=tokenizer.context, path=str(file))
    assert (again.kind, again.context, again.vocab_size) == (kind, tokenizer.context, tokenizer.vocab_size)
    rows = tokenizer.encode_padded(CAPTIONS)
    assert (again.encode_padded(CAPTIONS) == rows).all()
    longer = load(tmp_path / "run", context=100).encode_padded(CAPTIONS)
    assert longer.shape == (3, 100)
    assert (longer[:, : tokenizer.context] == rows).all()


def test_a_single_text_is_a_list_of_one() -> None:
    tokenizer = trained("words")
    assert (tokenizer.encode_padded("a red circle") == tokenizer.encode_padded(["a red circle"])).all()
    assert tokenizer.encode_padded([]).shape == (0, 16)


def test_marks_inside_a_text_are_marks_as_in_the_release(clip_tokenizer: Tokenizer) -> None:
    assert clip_tokenizer.encode_padded(["a<|endoftext|>b"])[0][2] == clip_tokenizer.eos_id


def test_cleaning_leaves_plain_text_alone() -> None:
    assert clean("a photo of a cat.") == "a photo of a cat."
    assert clean(" Two\n\nlines &lt;3 “x” ") == 'two lines <3 "x"'


def test_files_that_are_no_tokenizers(tmp_path: Path) -> None:
    def refused(name: str, content: bytes, match: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=match):
            load(tmp_path / name, context=77)

    refused("tokenizer.json", b"{}", "is not a tokenizer")
    refused("a.json", b"\xff\xfe", "not text")
    refused("bpe_simple_vocab_16e6.txt", b"#version\na b\n", "cut off")
    refused("x.txt.gz", b"not gzip", "cannot be read")
    refused("y.txt.gz", gzip.compress(b"\0" * (65 * 2**20)), "larger than 64 MiB")
    refused("z.txt", b"#version\n" + b"a b c\n" * 48_894, "not a list of pairs")
    (tmp_path / "empty").mkdir()
    for path, match in ((tmp_path / "none.json", "does not exist"), (tmp_path / "empty", "holds no tokenizer")):
        with pytest.raises(DataError, match=match):
            load(path, context=77)


def test_a_vocabulary_without_marks_is_refused(tmp_path: Path) -> None:
    file = trained("words").save(tmp_path)
    content = json.loads(file.read_text())
    del content["model"]["vocab"]["<eos>"]
    content["added_tokens"] = []
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="does not mark where a text starts and ends"):
        load(file, context=16)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "word"}, "Did you mean `words`"),
        ({"kind": "clip"}, "needs its file"),
        ({"kind": "words"}, "there is no text"),
        ({"kind": "bpe", "texts": CAPTIONS, "vocab_size": 100}, "at least 259"),
        ({"kind": "words", "texts": CAPTIONS, "vocab_size": 4}, "at least 5"),
        ({"kind": "words", "texts": CAPTIONS, "context": 2}, "room|context must hold"),
    ],
)
def test_wrong_options_are_named(options: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make(**{"context": 16, **options})


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = trained("words").save(tmp_path)
    with pytest.raises(ConfigError, match="holds a tokenizer of kind words"):
        make("bpe", context=16, path=str(file))
