"""Public tokenizers cut and join tricky text as the `transformers` library's do."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from tfcli.text.tokenizer import Tokenizer, load

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.parity

STRINGS = [
    *("Hello world", " leading and trailing  ", "  two  spaces\n\n\nlines  ", "", "   ", "x" * 150),
    *("don't we'll I'VE it's o'clock", "naïve café e\u0301 Ångström", "\u0301 combining first", "İstanbul ΣΑΣ ß ſt ﬁ"),
    *("日本語 テキスト 中文", "مرحبا שלום हिन्दी ไทย", "emoji 😀👍🏽 👩\u200d👩\u200d👧", "1.5e10 half½ ²³ Ⅷ ٣ 1234567"),
    *("a\u2028b\tc\nd\r\n\r\n", "a\x85b\x0bc\x0cd", "\x00ctrl\x1b[31m \ufeff", "zero\u200bwidth \xa0nbsp"),
    *("under_score-hyphen/slash", "!!!???...", "http://a.b/c?d=e&f=g", "antidisestablishmentarianism " * 3),
    *("<|endoftext|> [MASK] [SEP]x <unk>", "The [MASK] sat."),
]


def same(ours: Tokenizer, theirs: Any) -> None:
    rows = ours.encode(STRINGS)
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in STRINGS]
    assert [text for text, a, b in zip(STRINGS, rows, expected, strict=True) if a != b] == []
    known = [[number for number in row if number != ours.unk_id] for row in rows]  # we show what is unknown
    assert [ours.decode(row) for row in known] == [theirs.decode(row, skip_special_tokens=True) for row in known]
    assert ours.vocab_size == len(theirs)


def test_gpt2(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "tokenizers" / "gpt2"
    theirs = transformers.GPT2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    theirs.save_pretrained(tmp_path)  # a tokenizer.json
    for ours in (load(folder), load(tmp_path)):
        same(ours, theirs)
        assert (ours.kind, ours.bos_id, ours.eos_id, ours.pad_id, ours.unk_id) == ("byte_bpe", 50256, 50256, None, None)


@pytest.mark.parametrize("lower", [True, False])
def test_bert(real_data: Path, tmp_path: Path, lower: bool) -> None:
    file = real_data / "tokenizers" / "bert-base-uncased" / "vocab.txt"
    theirs = transformers.BertTokenizerFast(vocab=str(file), do_lower_case=lower)
    (tmp_path / "stated").mkdir()
    (tmp_path / "stated" / "vocab.txt").write_bytes(file.read_bytes())
    (tmp_path / "stated" / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    theirs.save_pretrained(tmp_path / "saved")
    for ours in (load(file, lower=lower), load(tmp_path / "stated"), load(tmp_path / "saved")):
        same(ours, theirs)
        assert (ours.kind, ours.pad_id, ours.unk_id, ours.cls_id) == ("wordpiece", 0, 100, 101)
        assert (ours.sep_id, ours.mask_id) == (102, 103)
    assert (load(file).digest == load(file, lower=lower).digest) == lower  # its pieces have no capitals


def test_gpt1(tmp_path: Path) -> None:
    """Its vocabulary is not among the data here: pairs of the same kind, made from the strings above."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(STRINGS[:6] * 3 + STRINGS[-6:], trainer)
    model = json.loads(backend.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, model["merges"]), ""]))
    theirs = transformers.OpenAIGPTTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    ours = load(tmp_path)
    same(ours, theirs)
    assert (ours.kind, ours.unk_id) == ("bpe", 0)
    assert ours.decode(ours.encode(["Hello World"])[0]) == "hello world"
