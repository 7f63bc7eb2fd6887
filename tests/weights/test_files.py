"""Checkpoints of any make are opened, damaged and hostile ones are refused."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tfcli.errors import WeightsError
from tfcli.weights.files import open_checkpoint
from tfcli.weights.preprocessing import stated

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class Bad:
    """Runs a command when unpickled without care."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def same(state: dict) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("how", ["torch", "torch_old", "pickle"])
def test_a_pickle_with_code_is_refused_by_name_and_never_run(tmp_path: Path, how: str, protocol: int) -> None:
    marker, file = tmp_path / "owned", tmp_path / "model.pt"
    content = {"state_dict": STATE, "extra": Bad(marker)}
    if how == "pickle":
        file.write_bytes(pickle.dumps({"extra": Bad(marker)}, protocol=protocol))
    else:
        torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(WeightsError, match=r"refused: it asks to import `(posix|os)\.system`"):
        open_checkpoint(file)
    assert not marker.exists()


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "module", "lightning"])
@pytest.mark.parametrize("old", [False, True])
def test_wrappers_of_other_programs_are_taken_off(tmp_path: Path, wrap: str | None, old: bool) -> None:
    content: dict = dict(STATE)
    if wrap in ("state_dict", "model"):
        content = {wrap: content, "epoch": 3, "args": {"lr": 0.1}}
    elif wrap == "module":
        content = {"state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}, "best_prec1": 91.7}
    elif wrap == "lightning":
        tensors = {f"net.{name}": tensor for name, tensor in STATE.items()} | {"metric.total": torch.zeros(1)}
        content = {
            "state_dict": tensors,
            "pytorch-lightning_version": "2.6.6",
            "epoch": 1,
            "train_sums": torch.zeros(2),
        }
    torch.save(content, tmp_path / "model.th", _use_new_zipfile_serialization=not old)
    assert same(open_checkpoint(tmp_path / "model.th").state)


def test_folders(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"layer_norm_eps": 1e-12}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    found = open_checkpoint(tmp_path)
    assert same(found.state)
    assert found.config["layer_norm_eps"] == 1e-12
    told = stated(tmp_path, found.config)
    assert told
    assert told.settings == {"mean": [0.5] * 3, "std": [0.25] * 3}


def test_sharded_folder(tmp_path: Path) -> None:
    names = {"a.weight": "model-00001-of-00002.safetensors", "a.bias": "model-00002-of-00002.safetensors"}
    for name, shard in names.items():
        save_file({name: STATE[name]}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    assert same(open_checkpoint(tmp_path).state)
    (tmp_path / names["a.bias"]).unlink()
    with pytest.raises(WeightsError, match="is missing: one of 2 shards"):
        open_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}))
    with pytest.raises(WeightsError, match="outside its folder"):
        open_checkpoint(tmp_path)


def test_a_run_folder_gives_its_best_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name, factor in (("last", 2), ("best", 1)):
        tensors = {f"net.{key}": tensor * factor for key, tensor in STATE.items()}
        torch.save(
            {"state_dict": tensors, "pytorch-lightning_version": "2.6.6"}, tmp_path / "checkpoints" / f"{name}.ckpt"
        )
    assert same(open_checkpoint(tmp_path).state)


def test_a_missing_file_names_the_near_miss(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "resnet34.safetensors")
    with pytest.raises(WeightsError, match=r"holds resnet34.safetensors. Did you mean `resnet34.safetensors`\?"):
        open_checkpoint(tmp_path / "resnet43.safetensors")
    with pytest.raises(WeightsError, match="nor does"):
        open_checkpoint(tmp_path / "none" / "x.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no weights"):
        open_checkpoint(tmp_path / "empty")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"hello, this is not a checkpoint", "not a checkpoint|damaged"),
        (b"PK\x03\x04" + b"\0" * 100, "not a checkpoint|damaged"),
    ],
)
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        open_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_torn_torch_file(tmp_path: Path, keep: float) -> None:
    torch.save({"w": torch.randn(1000)}, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(WeightsError, match=r"damaged|not a checkpoint"):
        open_checkpoint(tmp_path / "x.pt")


def test_compressed_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data/0", b"\0" * 2**24)
    with pytest.raises(WeightsError, match="unpacks to"):
        open_checkpoint(tmp_path / "x.pt")


def test_a_tensor_larger_than_its_data_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(10**9)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="without the data for it"):
        open_checkpoint(tmp_path / "x.pt")


def header(entries: object, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list, begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


LIES = {
    "huge length": (struct.pack("<Q", 2**62) + b"{}", "claims 4,611,686,018,427,387,904 bytes"),
    "cut off": (header({"a": entry([4], 0, 16)}, b"\0" * 8), "overlap or leave a gap"),
    "overlap": (header({"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, b"\0" * 24), "overlap or leave a gap"),
    "negative shape": (header({"a": entry([-1, -4], 0, 16)}, b"\0" * 16), "has shape"),
    "huge shape": (header({"a": entry([2**40, 2**40], 0, 16)}, b"\0" * 16), "cannot fill"),
    "dtype": (header({"a": entry([4], 0, 16, "X9")}, b"\0" * 16), "unknown dtype"),
    "not json": (struct.pack("<Q", 4) + b"oops", "not JSON"),
    "deep json": (struct.pack("<Q", 200_000) + b"[" * 200_000, "not JSON"),
    "a list": (header([1, 2]), "not a table"),
    "no offsets": (header({"a": {"dtype": "F32", "shape": [1]}}, b"\0" * 4), "lacks"),
    "100k tensors": (header({f"t{i}": entry([0], 0, 0) for i in range(100_000)}), "100,000 tensors"),
    "short": (b"\0" * 4, "it has 4 bytes"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_refused(tmp_path: Path, lie: str) -> None:
    content, message = LIES[lie]
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        open_checkpoint(tmp_path / "x.safetensors")
