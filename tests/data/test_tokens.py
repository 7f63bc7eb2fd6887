"""Texts as tokens: piece by piece the same as whole, encoded once into the cache, never half."""

from __future__ import annotations

import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tfcli.data.columns import filetext
from tfcli.data.texts import tokens
from tfcli.data.texts.tokens import running_text, sentences
from tfcli.data.views.masked import SENTENCES
from tfcli.errors import DataError
from tfcli.text.tokenizer import make

TEXT = (
    "Zwei  Hunde laufen, wie \N{DOG} <unk>!\n\n\tNun ruhen sie.  Dann\u00a0nicht.\nKätzchen kommen; e\u0301in Satz "
    "ohne Ende <eos> und noch ein Wort\n \nEnde.\n"
)


@pytest.fixture(autouse=True)
def small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tokens, "IN_MEMORY", 100)


def plainly(text: str, tokenizer) -> tuple[list[int], list[list[int]]]:
    """Return the ids, and the characters, bytes and words of each, by definition."""
    ((ids, spans),) = tokenizer.encode_offsets([text])
    stops = [0, *np.maximum.accumulate([stop for _, stop in spans]).tolist()]
    stops[-1] = len(text)
    begins = [not c.isspace() and (i == 0 or text[i - 1].isspace()) for i, c in enumerate(text)]
    parts = [(text[a:b], begins[a:b]) for a, b in pairwise(stops)]
    return ids, [[len(part), len(part.encode()), sum(begun)] for part, begun in parts]


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("kind", ["chars", "words", "bpe", "byte_bpe", "wordpiece"])
def test_pieces_have_the_tokens_of_the_whole(kind: str, lower: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(TEXT[i % 60 :] for i in range(40)) + "   "
    tokenizer = make(kind, texts=[TEXT.replace("K", "k").replace("j", "")], vocab_size=400, lower=lower)
    want, sizes = plainly(text, tokenizer)
    monkeypatch.setattr(filetext, "PIECE", 150)
    assert len(list(filetext.pieces(text))) > 10
    assert "".join(filetext.pieces(text)) == text
    found = running_text([text, "", TEXT], tokenizer)
    bounds = (tokenizer.eos_id is not None) + np.cumsum(found["documents"].astype(int))
    own = slice(int(tokenizer.eos_id is not None), int(bounds[0]) - (tokenizer.eos_id is not None))
    assert found["ids"][own].tolist() == want
    assert found["sizes"][own].tolist() == sizes
    assert int(found["sizes"][:, 0].sum()) == len(text) + len(TEXT)
    last = slice(int(bounds[1]), int(bounds[2]) - (tokenizer.eos_id is not None))
    assert found["ids"][last].tolist() == plainly(TEXT, tokenizer)[0]
    parts = [ids for ids in tokenizer.encode([part for part in SENTENCES.split(text) if part.strip()]) if ids]
    cut = sentences([text, TEXT], tokenizer, SENTENCES)
    assert cut["ids"].tolist()[: sum(map(len, parts))] == [number for ids in parts for number in ids]
    assert cut["sentences"][: len(parts)].tolist() == [len(ids) for ids in parts]
    assert int(cut["documents"][0]) == len(parts)


def test_a_wide_gap_between_words_keeps_its_size() -> None:
    text = "a b\n" * 200 + "c" + " " * 70_000 + "d a\n" * 200
    found = running_text([text], make("words", texts=[text]))
    assert found.folder is not None
    assert found["sizes"].dtype == np.uint32
    assert int(found["sizes"][:, 0].sum(dtype=np.int64)) == len(text)
    assert int(found["sizes"][:, 0].max()) == 70_001


def test_tokens_are_written_once_and_opened_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, written = make("chars", texts=[TEXT]), []
    write = tokens._write
    monkeypatch.setattr(tokens, "_write", lambda *args: (written.append(1), write(*args)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: running_text([TEXT] * 9, tokenizer), range(4)))
    assert written == [1]
    again = pickle.loads(pickle.dumps(found[0]))
    assert isinstance(again["ids"], np.memmap)
    assert (again["ids"] == found[1]["ids"]).all()
    running_text([TEXT] * 9, make("words", texts=[TEXT]))
    running_text([TEXT] * 9 + ["x"], tokenizer)
    assert written == [1, 1, 1]


def test_what_is_half_written_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make("chars", texts=[TEXT])
    monkeypatch.setattr(tokens.os, "fsync", lambda handle: os._exit(9))  # dies when nearly all is written
    child = os.fork()
    if not child:
        running_text([TEXT] * 9, tokenizer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert list((tmp_path / "cache" / "tokens").glob("*.tmp"))
    monkeypatch.undo()
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tokens, "IN_MEMORY", 100)
    assert len(running_text([TEXT] * 9, tokenizer)["ids"]) == 9 * (len(tokenizer.encode([TEXT])[0]) + 1) + 1
    assert not list((tmp_path / "cache" / "tokens").glob("*.tmp"))


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tokens.os, "fsync", full)
    with pytest.raises(DataError, match=r"the disk is full\. Free some space, or choose .* TFCLI_CACHE"):
        running_text([TEXT] * 9, make("chars", texts=[TEXT]))
    assert not [entry for entry in (tmp_path / "cache" / "tokens").iterdir() if entry.is_dir()]
