"""Documents in large files: read piece by piece, with the digests, splits and windows of texts in memory."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from tfcli.data.columns import filetext
from tfcli.data.columns.checks import table_digest
from tfcli.data.columns.filetext import FileText, sample
from tfcli.data.common.request import Request
from tfcli.data.module import DataModule
from tfcli.data.sources import documents
from tfcli.data.sources.corpora import OwnText, WikiText
from tfcli.data.sources.documents import read_document
from tfcli.data.texts import tokens
from tfcli.data.views.streams import Windows
from tfcli.errors import DataError
from tfcli.tasks.baselines import texts
from tfcli.tasks.baselines.ngram import ngram
from tfcli.tasks.baselines.texts import language_baselines, masked_baselines
from tfcli.text.tokenizer import make

TEXT = 'Zwei "Hunde" laufen\t\N{DOG}\r\nKätzchen ruhen, \N{CAT} auch.\n\nEnde \x7f\n' * 40


@pytest.fixture(autouse=True)
def small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(documents, "LARGE", 1000)
    monkeypatch.setattr(filetext, "_BLOCK", 61)  # ends within characters of several bytes


def written(path: Path, text: str = TEXT, *, mark: bytes = b"") -> Path:
    path.write_bytes(mark + text.encode())
    return path


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_is_sliced_as_a_text(tmp_path: Path, mark: bytes) -> None:
    found = read_document(written(tmp_path / "a.txt", mark=mark))
    assert isinstance(found, FileText)
    assert (len(found), str(found)) == (len(TEXT), TEXT)
    for start, stop in ((0, 60), (17, 18), (60, 300), (61, len(TEXT)), (5, 5), (-90, None), (400, 300)):
        assert str(found[start:stop]) == TEXT[start:stop]
        assert str(found[100:][start:stop]) == TEXT[100:][start:stop]
    for near in range(0, 200, 7):
        assert found.find("\n", near) == TEXT.find("\n", near)
    assert found.find("\n", len(TEXT)) == -1
    assert "".join(filetext.pieces(found)) == TEXT
    assert table_digest({"text": [found, "x", found[3:70]]}) == table_digest({"text": [TEXT, "x", TEXT[3:70]]})


def module(root: Path, **settings) -> DataModule:
    data = DataModule(OwnText(), name="text", columns=["text"], root=root, **settings)
    data.serve(Windows(), ["text"])
    data.encode(make("chars", texts=data.texts("train")), longest=32)
    return data


def test_a_large_file_makes_the_same_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "a.txt")
    with monkeypatch.context() as patch:
        patch.setattr(documents, "LARGE", 10**6)
        small = module(file)
    monkeypatch.setattr(tokens, "IN_MEMORY", 100)
    monkeypatch.setattr(filetext, "PIECE", 80)
    for _ in range(2):  # the second opens what the first has written
        large = module(file)
        assert isinstance(large.rows["train"]["text"][0], FileText)
        assert (small.fingerprint, small.fingerprints) == (large.fingerprint, large.fingerprints)
        assert (small.notes, small.counts) == (large.notes, large.counts)
        for split in ("train", "val", "test"):
            rows = np.arange(large.counts[split])
            one, other = (data._sets[split].samples.batch(rows, seed=1, epoch=2) for data in (small, large))
            assert all((one[name] == other[name]).all() for name in one)
        monkeypatch.setattr(tokens, "_write", lambda *_: pytest.fail("encoded twice"))
        monkeypatch.setattr(filetext, "_check", lambda *_: pytest.fail("read twice"))


def test_a_large_file_has_the_same_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, found = written(tmp_path / "a.txt"), []
    for large in (1000, 10**6):
        monkeypatch.setattr(documents, "LARGE", large)
        data = module(file)
        found.append(masked_baselines(data))
        with monkeypatch.context() as patch:
            patch.setattr(texts, "running_text", lambda *_: pytest.fail("encoded again"))
            found[-1] |= language_baselines(data)
    assert found[0] == found[1]


def test_a_figure_of_a_part_of_the_test_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = module(written(tmp_path / "a.txt"))
    whole = language_baselines(data)
    monkeypatch.setattr(texts, "MOST_TESTED", 50)
    found = language_baselines(data)
    assert all("interpolated" in name and "on the first 50 test tokens/" in name for name in found)
    nats = ngram(
        *(data.samples(split).ids[:end].astype(int) for split, end in (("train", None), ("test", 50))),
        vocab_size=data.tokenizer.vocab_size,
    )
    assert found["interpolated trigram on the first 50 test tokens/loss"] == pytest.approx(nats[1:].mean())
    assert found.keys().isdisjoint(whole)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_articles_of_a_large_file_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: bytes) -> None:
    article = " \n = Käse {} = \n \n = = Section = = \n\n Text \N{DOG} <unk> .\n not a\n = Title = \n here \r\n"
    text = "".join(article.format(number) for number in range(30))
    for split, size in (("train", len(text)), ("valid", 500), ("test", 700)):
        written(tmp_path / f"wiki.{split}.tokens", text[:size], mark=mark)
    request, found = Request(name="wikitext2", root=tmp_path, facts={}), []
    for large in (10**6, 300, 300):
        monkeypatch.setattr(documents, "LARGE", large)
        found.append(WikiText(inside=[]).load(request).splits)
    small, large_files, again = found
    assert len(small["train"]["text"]) == 30
    for split, rows in small.items():
        for other in (large_files[split], again[split]):
            assert all(isinstance(cell, FileText) for cell in other["text"])
            assert list(map(str, other["text"])) == rows["text"]
            assert list(map(len, other["text"])) == list(map(len, rows["text"]))
            assert table_digest(other) == table_digest(rows)
            assert str(other["text"][1][7:20]) == rows["text"][1][7:20]


def test_packed_files_are_documents(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.txt.gz").write_bytes(gzip.compress(TEXT[:90].encode()) + gzip.compress(TEXT[90:].encode()))
    (folder / "val.gz").write_bytes(gzip.compress(b"short"))
    request = Request(name="text", root=folder, facts={"encoding": "utf-8"})
    loaded = OwnText().load(request).splits
    assert str(loaded["train"]["text"][0]) == TEXT
    assert loaded["val"]["text"] == ["short"]
    assert read_document(folder / "train.txt.gz", encoding="latin-1") == TEXT.encode().decode("latin-1")
    (folder / "train.txt.gz").write_bytes(gzip.compress(TEXT.encode())[:-9])
    with pytest.raises(DataError, match=r"train\.txt\.gz cannot be read: Compressed file ended"):
        OwnText().load(request)


def test_zstandard_files_are_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, name = tmp_path / "a.zst", "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    file.write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, name, None)
        with pytest.raises(DataError, match=r"a\.zst is packed with Zstandard: pip install .*\[zst\]"):
            read_document(file)
    zstd = pytest.importorskip(name)
    frames = [zstd.compress(text.encode()) for text in (TEXT, "short")]
    for large in (1000, 10**6):
        monkeypatch.setattr(documents, "LARGE", large)
        file.write_bytes(b"".join(frames))
        assert str(read_document(file)) == f"{TEXT}short"  # of all frames
        file.write_bytes(frames[0] + frames[1][:-2])
        with pytest.raises(DataError, match=r"a\.zst cannot be read: Compressed file ended"):
            read_document(file)
    file.write_bytes(b"no frame")
    with pytest.raises(DataError, match=r"a\.zst cannot be read"):
        read_document(file)


def test_what_is_not_utf8_is_named_as_in_a_small_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for large in (1000, 10**6):
        monkeypatch.setattr(documents, "LARGE", large)
        for place in (0, 60, 61, 1234, None):
            content = TEXT.encode()[:place] + b"\xe9" + (TEXT.encode()[place:] if place is not None else b"")
            (tmp_path / "a.txt").write_bytes(content)
            with pytest.raises(DataError, match=r"a\.txt, line \d+: not UTF-8 \(byte \d+ of the line"):
                read_document(tmp_path / "a.txt", encoding="utf-8")
            try:
                read_document(tmp_path / "a.txt", encoding="utf-8")
            except DataError as error:
                said.append(str(error))
    assert said[:5] == said[5:]


def test_a_sample_is_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sample([TEXT, "ab"], 10**6) == [TEXT, "ab"]
    monkeypatch.setattr(filetext, "PIECE", 80)
    data = module(written(tmp_path / "a.txt"), vocabulary_chars=700)
    (line,) = [note for note in data.notes if "vocabulary" in note]
    assert "of the" in line
    assert "characters of train, evenly spaced (data.vocabulary_chars)" in line
