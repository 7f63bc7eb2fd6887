"""The feature cache: what counts as the same, and what happens to it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tfcli.engine.config.equal import same
from tfcli.errors import RunError
from tfcli.probes import store

ROOT = Path(__file__).parents[2]
FACTS = {
    "model": "m",
    "data": "d",
    "split": "train",
    "weights": "w0",
    "transform": {"image_size": 224, "mean": [0.5]},
    "fingerprint": "f0",
    "precision": "32",
    "layer": None,
    "pool": "head",
    "settings": {"width": 4},
}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 4)


class Encoder:
    """Row i is (i, 2 i); counts what it is asked for."""

    def __init__(self, stop: int | None = None):
        self.asked: list[int] = []
        self.stop = stop

    def __call__(self, rows):
        for start in range(0, len(rows), 3):
            part = torch.tensor(list(rows[start : start + 3]))
            if self.stop is not None and self.stop in part.tolist():
                raise KeyboardInterrupt
            self.asked += part.tolist()
            features = torch.stack([part, 2 * part], 1).float()
            yield {"features": features, "label": part % 3, "index": part}


def fetch(entry: store.Entry, encoder: Encoder, **options):
    said: list[str] = []
    sources = [f"{i}.jpg" for i in range(entry.count)]
    found, extracted = store.fetch(entry, encoder, sources=sources, say=said.append, **options)
    assert torch.equal(found["features"][:, 1], 2.0 * torch.arange(entry.count))
    assert torch.equal(found["label"], torch.arange(entry.count) % 3)
    return extracted, said


def test_the_second_time_nothing_is_extracted(tmp_path: Path):
    entry = store.entry(tmp_path, FACTS, 10)
    assert fetch(entry, Encoder()) == (10, [])
    again = Encoder()
    assert fetch(store.entry(tmp_path, FACTS, 10), again) == (0, [])
    assert again.asked == []
    assert (entry.folder / "items.csv").read_text().splitlines()[:3] == ["row,item", "0,0.jpg", "1,1.jpg"]
    assert fetch(entry, Encoder(), refresh=True)[0] == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": "w1"}, "other weights"),
        ({"transform": {"image_size": 336, "mean": [0.5]}}, "data.image_size 224 -> 336"),
        ({"fingerprint": "f1"}, "other files of the data set"),
        ({"precision": "bf16"}, "precision 32 -> bf16"),
        ({"layer": "stack.blocks.3"}, "features.layer None -> stack.blocks.3"),
        ({"pool": "mean"}, "features.pool head -> mean"),
        ({"model": "n"}, ""),
        ({"settings": {"width": 8, "attn": {"_target_": "tfcli.nn.attention.cycle"}}}, "model.width 4 -> 8"),
        ({"settings": dict.fromkeys("abcd", 1)}, ""),
    ],
)
def test_a_change_of_anything_misses_and_is_explained(tmp_path: Path, change: dict, words: str):
    fetch(store.entry(tmp_path, FACTS, 10), Encoder())
    other = store.entry(tmp_path, FACTS | change, 10)
    assert other.folder != store.entry(tmp_path, FACTS, 10).folder
    assert store.why_missed(tmp_path, other) == words
    assert fetch(other, Encoder())[0] == 10


def test_another_version_of_the_code_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fetch(store.entry(tmp_path, FACTS, 4), Encoder())
    monkeypatch.setattr(store, "VERSION", store.VERSION + 1)
    assert fetch(store.entry(tmp_path, FACTS, 4), Encoder())[0] == 4


def test_an_interrupted_extraction_goes_on_where_it_was(tmp_path: Path):
    entry = store.entry(tmp_path, FACTS, 10)
    with pytest.raises(KeyboardInterrupt):
        fetch(entry, Encoder(stop=6))
    assert [row["rows"] for row in store.entries(tmp_path)] == [4]
    rest = Encoder()
    assert fetch(entry, rest)[0] == 6
    assert rest.asked == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "other"])
def test_a_damaged_shard_alone_is_extracted_again_and_said(tmp_path: Path, damage: str):
    entry = store.entry(tmp_path, FACTS, 10)
    fetch(entry, Encoder())
    file = entry.file(1)
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    elif damage == "cut":
        content = content[:-5]
    elif damage == "other":
        content = bytearray(entry.file(0).read_bytes())
    file.unlink() if damage == "gone" else file.write_bytes(content)
    again = Encoder()
    extracted, said = fetch(entry, again)
    assert (extracted, again.asked) == (4, [4, 5, 6, 7])
    assert len(said) == 1
    assert "features-00001.safetensors" in said[0]
    assert ("missing" if damage == "gone" else "damaged") in said[0]
    assert fetch(entry, Encoder()) == (0, [])


def test_a_manifest_that_is_no_manifest_is_not_believed(tmp_path: Path):
    entry = store.entry(tmp_path, FACTS, 10)
    fetch(entry, Encoder())
    (entry.folder / "manifest.json").write_text('{"facts": 3')
    assert fetch(entry, Encoder())[0] == 10
    assert json.loads((entry.folder / "manifest.json").read_text())["facts"] == entry.facts


def test_a_full_disk_costs_the_cache_and_not_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    entry = store.entry(tmp_path, FACTS, 10)
    real, written = store.write_atomic, []

    def full(path: Path, content: object) -> None:
        if path.name == "features-00001.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path.name)
        real(path, content)

    monkeypatch.setattr(store, "write_atomic", full)
    extracted, said = fetch(entry, Encoder())
    assert extracted == 10
    assert len(said) == 1
    assert "no space left" in said[0]
    assert "features.cache=FOLDER" in said[0]
    assert "features-00002.safetensors" not in written
    monkeypatch.setattr(store, "write_atomic", real)
    assert fetch(entry, Encoder())[0] == 6


def test_another_failure_to_write_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(path: Path, content: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(store, "write_atomic", broken)
    with pytest.raises(RunError, match="Input/output error"):
        fetch(store.entry(tmp_path, FACTS, 4), Encoder())


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    extracted, said = fetch(store.entry(tmp_path / "file", FACTS, 10), Encoder())
    assert extracted == 10
    assert "cannot be written" in said[0]


CODE = """
import sys, time
from pathlib import Path
import torch
from tfcli.probes import store

store.SHARD_ROWS = 4

def extract(rows):
    time.sleep(0.05)
    part = torch.tensor(list(rows))
    yield {"features": part[:, None].float(), "label": part, "index": part}

facts = {"model": "m", "data": "d", "split": "train"}
entry = store.entry(Path(sys.argv[1]), facts, 40)
found, extracted = store.fetch(entry, extract, sources=["a"] * 40, say=print)
assert found["label"].tolist() == list(range(40))
print(extracted)
"""


@pytest.mark.slow
def test_of_two_processes_one_extracts_and_both_have_the_features(tmp_path: Path):
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=150)[0].split("\n")[-2] for process in processes]
    assert sorted(said) == ["0", "40"]


def test_entries_are_listed_and_removed(tmp_path: Path):
    entry = store.entry(tmp_path, FACTS, 10)
    fetch(entry, Encoder())
    (row,) = store.entries(tmp_path)
    assert (row["rows"], row["count"], row["width"], row["folder"]) == (10, 10, 2, entry.folder)
    assert row["bytes"] == sum(f.stat().st_size for f in entry.folder.glob("*.safetensors"))
    store.remove(entry.folder)
    assert store.entries(tmp_path) == []


def test_an_entry_under_earlier_names_is_found_and_no_other(tmp_path: Path) -> None:
    """A residual tower was kept before its class moved and its attention had a scale."""
    was = {"_target_": "tfcli.models.clip.ModifiedResNet", "width": 8}
    attn = {"_target_": "tfcli.nn.attention.Attention", "_partial_": True, "causal": False}
    before = FACTS | {"settings": {"image": was, "attn": attn}}
    fetch(store.entry(tmp_path, before, 4), Encoder())
    now = {"image": was | {"_target_": "tfcli.models.resnet.ModifiedResNet"}, "attn": attn | {"scale": None}}
    found = store.entry(tmp_path, FACTS | {"settings": now}, 4, same=same)
    assert fetch(found, Encoder()) == (0, [])
    others = (
        now | {"attn": attn | {"scale": 1.0}},
        now | {"attn": attn | {"causal": True}},
        now | {"image": now["image"] | {"width": 9}},
        {"image": now["image"]},
    )
    for settings in others:
        assert not store.entry(tmp_path, FACTS | {"settings": settings}, 4, same=same).manifest()
    assert not store.entry(tmp_path, FACTS | {"settings": now, "weights": "w1"}, 4, same=same).manifest()
