from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from tfcli.data.common.workers import Ranks
from tfcli.data.images import cache
from tfcli.data.images.cache import Policy, Store, store_files
from tfcli.data.images.resize import Resize
from tfcli.errors import DataError, PolicyStop


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    random, paths = np.random.default_rng(0), []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.fromarray(random.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


def build(files, mode, *, policy=None, ranks=None):
    return store_files(
        {"train": files}, name="t", resize=Resize(20), mode=mode, policy=policy or Policy(), ranks=ranks or Ranks()
    )


def test_all_modes_give_the_same_pixels(files):
    stores = {mode: build(files, mode)[0]["train"] for mode in ("memory", "disk", "none")}
    for row in range(len(files)):
        expected = stores["none"].one(row)
        assert min(expected.shape[:2]) == 20
        assert np.array_equal(stores["memory"].one(row), expected)
        assert np.array_equal(stores["disk"].one(row), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(stores["disk"])).one(3), stores["none"].one(3))


def test_disk_is_read_again_until_a_file_changes(files, tmp_path, monkeypatch):
    build(files, "disk")
    calls = []
    monkeypatch.setattr(cache, "decode", lambda path, **how: calls.append(path) or np.zeros((20, 20, 3), np.uint8))
    build(files, "disk")
    assert not calls
    os.utime(files[0], (1, 1))
    build(files, "disk")
    assert len(calls) == len(files)
    assert not list((tmp_path / "cache" / "images").glob("*.tmp"))


def test_a_torn_file_is_named_and_made_anew(files, tmp_path, capsys):
    whole = build(files, "disk")[0]["train"].one(3)
    for file in sorted((tmp_path / "cache" / "images").iterdir()):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        assert np.array_equal(build(files, "disk")[0]["train"].one(3), whole)
        assert "is torn; the images are decoded again" in capsys.readouterr().err


def test_a_killed_writer_leaves_nothing_that_is_used(files, tmp_path, monkeypatch):
    def killed(path, **how):
        raise KeyboardInterrupt

    good = cache.decode
    monkeypatch.setattr(cache, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        build(files, "disk")
    assert not list((tmp_path / "cache" / "images").glob("*.npz"))
    monkeypatch.setattr(cache, "decode", good)
    assert build(files, "disk")[0]["train"].good.all()


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_bad_files_by_policy(files, mode):
    files[2].write_text("text")
    files[7].write_bytes(b"")
    with pytest.raises(DataError, match="2 of 12") as caught:
        build(files, mode)
    assert str(files[2]) in str(caught.value)
    assert str(files[7]) in str(caught.value)
    stores, bad, notes = build(files, mode, policy=Policy("skip", 0.5))
    assert [path for path, _ in bad] == [str(files[2]), str(files[7])]
    assert stores["train"].good.tolist() == [i not in (2, 7) for i in range(12)]
    assert any("2 of 12" in note for note in notes)
    assert np.array_equal(stores["train"].one(8), Store.of_files(files, resize=Resize(20)).one(8))
    with pytest.raises(PolicyStop, match="max_bad_fraction"):
        build(files, mode, policy=Policy("skip", 0.1))


def test_long_lists_are_cut():
    bad = [(f"{i}.jpg", "empty") for i in range(30)]
    with pytest.raises(DataError, match="and 20 more"):
        Policy().check(bad, total=100)


def test_auto(files, monkeypatch, tmp_path):
    assert build(files, "auto")[0]["train"].mode == "memory"
    assert build(files, "auto", ranks=Ranks(0, 2))[0]["train"].mode == "disk"
    monkeypatch.setattr(cache, "free_memory", lambda: 1000)
    stores, _, notes = build(files, "auto")
    assert stores["train"].mode == "none"
    assert any("do not fit" in note for note in notes)


def test_an_unwritable_cache_is_an_error_with_the_remedy(files, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="TFCLI_CACHE"):
        build(files, "disk")


def test_a_buffer_grows(files, monkeypatch):
    expected = build(files, "none")[0]["train"]
    monkeypatch.setattr(cache, "estimate_bytes", lambda files, **how: 10)
    store = copy.deepcopy(build(files, "memory")[0]["train"])
    assert all(np.array_equal(store.one(i), expected.one(i)) for i in range(12))


def test_only_a_living_writer_is_waited_for(files, tmp_path):
    (tmp_path / "cache" / "images").mkdir(parents=True)
    stem = f"t-train-20-{cache._key(files, resize=Resize(20))}"
    left = tmp_path / "cache" / "images" / f"{stem}.999999999.tmp"
    left.write_bytes(b"half")
    assert build(files, "disk")[0]["train"].good.all()
    assert not cache._at_work(left)
    own = left.with_name(f"{stem}.{os.getpid()}.tmp")
    own.write_bytes(b"half")
    assert cache._at_work(own)
    os.utime(own, (1, 1))
    assert not cache._at_work(own)
