from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tfcli.data.common import archives, fetch
from tfcli.data.common.request import Request
from tfcli.errors import DataError


@pytest.fixture(autouse=True)
def _online(monkeypatch):
    """Whoever calls `build` in these tests is the network; the tests at large are offline."""
    monkeypatch.delenv("TFCLI_OFFLINE", raising=False)


EXPECTS = ["images", "labels.txt|labels.csv"]


def complete(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "labels.csv").write_text("")


def request(root, more=None, **kwargs) -> Request:
    facts = {"licence": "CC0", "url": "https://example.org/set", "download_bytes": 5_000_000, **(more or {})}
    return Request(name="set", root=root, facts=facts, **kwargs)


def never(folder):
    raise AssertionError("nothing may be fetched")


def test_the_sets_own_root_and_a_folder_of_roots(tmp_path):
    assert fetch.locate(request(tmp_path), EXPECTS) is None
    complete(tmp_path / "set")
    assert fetch.locate(request(tmp_path), EXPECTS) == tmp_path / "set"
    assert fetch.locate(request(tmp_path / "set"), EXPECTS) == tmp_path / "set"
    assert fetch.locate_or_fetch(request(tmp_path, download=True), EXPECTS, never) == tmp_path / "set"


def test_missing_and_not_to_be_fetched(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="download=false") as caught:
        fetch.locate_or_fetch(request(tmp_path), EXPECTS, never)
    for part in ("images", "labels.txt   or   labels.csv", "Found: other/", "https://example.org/set", "data.root="):
        assert part in str(caught.value)
    monkeypatch.setenv("TFCLI_OFFLINE", "1")
    with pytest.raises(DataError, match="TFCLI_OFFLINE"):
        fetch.locate_or_fetch(request(tmp_path, download=True), EXPECTS, never)
    with pytest.raises(DataError, match="no way to download it"):
        fetch.locate_or_fetch(request(tmp_path, download=True), EXPECTS, None)


def test_a_download_says_its_size_and_is_renamed_when_whole(tmp_path, capsys):
    found = fetch.locate_or_fetch(request(tmp_path / "new", download=True), EXPECTS, complete)
    assert found == tmp_path / "new" / "set"
    said = capsys.readouterr().err
    assert "5 MB" in said
    assert "CC0" in said
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["set"]


@pytest.mark.parametrize(
    "error", [OSError("no route to host"), RuntimeError("File not found or corrupted."), EOFError()]
)
def test_a_failed_download_leaves_nothing(tmp_path, error):
    def broken(folder):
        (folder / "images").mkdir()
        raise error

    with pytest.raises(DataError, match="downloading failed"):
        fetch.locate_or_fetch(request(tmp_path, download=True), EXPECTS, broken)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="not complete"):
        fetch.locate_or_fetch(request(tmp_path, download=True), EXPECTS, lambda folder: (folder / "images").mkdir())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_download_left_is_cleaned_and_never_used(tmp_path, monkeypatch):
    dead = tmp_path / f"{fetch._prefix(request(tmp_path))}999999999-abc"
    complete(dead)
    monkeypatch.setattr(fetch, "_alive", lambda partial, prefix: False)
    assert fetch.locate_or_fetch(request(tmp_path, download=True), EXPECTS, complete) == tmp_path / "set"
    assert not dead.exists()


def test_other_ranks_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(fetch.time, "sleep", lambda s: complete(tmp_path / "set"))
    assert fetch.locate_or_fetch(request(tmp_path, download=True), EXPECTS, never) == tmp_path / "set"


def test_too_little_space(tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1_000_000})
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="free"):
        fetch.locate_or_fetch(request(tmp_path, download=True), EXPECTS, never)


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python cannot filter archives")
@pytest.mark.parametrize("member", ["../outside.txt", "/tmp/outside.txt", "link"])
def test_archives_cannot_write_outside(tmp_path, member):
    archive = tmp_path / "set.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo(member)
        if member == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            tar.addfile(info)
        else:
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))

    def unpack(folder):
        with tarfile.open(archive) as tar:
            tar.extractall(folder)
        complete(folder)

    root = tmp_path / "root"
    if member.startswith("/"):  # the data filter makes these relative: contained
        fetch.locate_or_fetch(request(root, download=True), EXPECTS, unpack)
        assert not Path(member).exists()
        return
    with pytest.raises(DataError, match=member.split("/")[-1]):
        fetch.locate_or_fetch(request(root, download=True), EXPECTS, unpack)
    assert not (tmp_path / "outside.txt").exists()


def packed(path: Path, content: bytes) -> Path:
    """An archive of two members of this content."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("a", "b"):
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name in ("a", "b"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def unpacking(path: Path):
    def build(folder: Path) -> None:
        with zipfile.ZipFile(path) if path.suffix == ".zip" else tarfile.open(path) as archive:
            archive.extractall(folder)
        complete(folder)

    return build


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_an_archive_unpacks_within_bounds(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archives, "SMALL", 10_000)
    bomb, root = packed(tmp_path / name, bytes(1_000_000)), tmp_path / "root"
    with pytest.raises(DataError, match=rf"{name} \(0.0 MB\) unpacks to more than 0 MB, .* 20 times .*=200 lets it"):
        fetch.locate_or_fetch(request(root, download=True), EXPECTS, unpacking(bomb))
    assert list(root.iterdir()) == []
    with archives.bounded(), pytest.raises(DataError, match="max_expansion"):
        unpacking(bomb)(tmp_path / "alone")
    assert not (tmp_path / "alone").exists()
    found = fetch.locate_or_fetch(request(root, {"max_expansion": 2000}, download=True), EXPECTS, unpacking(bomb))
    assert (found / "b").stat().st_size == 1_000_000
    with zipfile.ZipFile(packed(tmp_path / "after.zip", bytes(1_000_000))) as archive:
        archive.extractall(tmp_path / "free")  # others are not bound


def test_a_zip_file_gives_no_more_than_it_declares(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SMALL", 10_000)
    honest = packed(tmp_path / "set.zip", bytes(1_000_000)).read_bytes()
    liar, root = tmp_path / "liar.zip", tmp_path / "root"
    liar.write_bytes(honest.replace((1_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(DataError, match="Bad CRC-32"):
        fetch.locate_or_fetch(request(root, download=True), EXPECTS, unpacking(liar))
    assert list(root.iterdir()) == []
