"""Of a TorchScript archive the tensors are taken; whatever else one could hide in it is refused and never run."""

from __future__ import annotations

import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tfcli.errors import WeightsError
from tfcli.weights.files import open_checkpoint

Change = Callable[[str, bytes], bytes | None]


class Net(nn.Module):
    """Tensors, and everything else that scripted modules have among their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).half()
        self.table = nn.Parameter(torch.randn(2, 3).T)
        self.register_buffer("ids", torch.arange(4))
        self.number, self.names, self.sizes, self.pair = 3, ["a"], [1, 2], (1.0, True)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.number


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def archive(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("script") / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is deprecated
        torch.jit.save(torch.jit.script(net), str(file))
    return file


def rewritten(
    archive: Path, target: Path, change: Callable[[str, bytes], bytes | None], *, packed: bool = False
) -> Path:
    """The archive with its parts changed; None leaves one out."""
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def with_pickle(archive: Path, target: Path, content: bytes) -> Path:
    return rewritten(archive, target, lambda name, old: content if name.endswith("data.pkl") else old)


def test_every_tensor_comes_out_as_it_was(net: Net, archive: Path) -> None:
    state = open_checkpoint(archive).state
    assert state.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor), name


def test_tensors_that_do_not_lie_on_their_own_boundary(net: Net, archive: Path, tmp_path: Path) -> None:
    moved = rewritten(archive, tmp_path / "moved.pt", lambda name, old: old)  # zipfile does not align as torch does
    for name, tensor in open_checkpoint(moved).state.items():
        assert torch.equal(tensor, net.state_dict()[name]), name


def test_the_program_is_not_read(net: Net, archive: Path, tmp_path: Path) -> None:
    file = rewritten(archive, tmp_path / "x.pt", lambda name, old: b"import os" if "/code/" in name else old)
    assert len(open_checkpoint(file).state) == len(net.state_dict())


class Bad:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return shutil.copy, ("/dev/null", str(self.marker))


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_the_attributes_is_refused_and_never_run(archive: Path, tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "owned"
    bad = pickle.dumps({"x": Bad(marker)}, protocol=protocol)
    with pytest.raises(WeightsError, match=r"refused: (it asks to import `shutil\.copy`|.* opcode)"):
        open_checkpoint(with_pickle(archive, tmp_path / "x.pt", bad))
    assert not marker.exists()


def op(text: str) -> bytes:
    """A pickle written by hand: `c module name` imports, everything else is bytes."""
    return b"\x80\x02" + text.encode("latin-1") + b"."


STORAGE = "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ"
REBUILD = "ctorch._utils\n_rebuild_tensor_v2\n"
MODULE = "c__torch__\nNet\n)\x81"
TENSOR = "}X\x01\0\0\0w" + REBUILD
HOSTILE = {
    "builtins": (op("cbuiltins\neval\nX\x01\0\0\x001\x85R"), r"import `builtins\.eval`"),
    "torch itself": (op("ctorch.serialization\nload\n)R"), r"import `torch\.serialization\.load`"),
    "a path through our own": (op("ctfcli.weights.script\nos.system\n)R"), "asks to import"),
    "memo": (op("Nr\xff\xff\xff\x7f"), "memory cells"),
    "attributes of a function": (op(REBUILD + "}b"), "attributes to a function"),
    "attributes of a class": (op("c__torch__\nNet\n}b"), "damaged"),
    "a call of a module": (op("c__torch__\nNet\n(K\x01tR"), "damaged"),
    "no modules": (op("}"), "without tensors"),
    "no storage": (op(MODULE + TENSOR + "(NK\0K\x01\x85K\x01\x85tRsb"), "without its bytes"),
    "negative": (
        op(MODULE + TENSOR + f"({STORAGE}K\0J\xff\xff\xff\xff\x85K\x01\x85tRsb"),
        "of shape",
    ),
    "too large": (
        op(MODULE + TENSOR + f"({STORAGE}K\0J\0\0\0\x7f\x85K\x01\x85tRsb"),
        "claims shape",
    ),
    "repeated": (op(MODULE + TENSOR + f"({STORAGE}K\0J\0\0\0\x7f\x85K\0\x85tRsb"), "claims shape"),
    "past its end": (op(MODULE + TENSOR + f"({STORAGE}K\xffK\x02\x85K\x01\x85tRsb"), "claims shape"),
    "modules in circles": (op("c__torch__\nNet\n)\x81q\x00}X\x01\0\0\0ah\0sb"), "contain each other"),
    "cut off": (b"\x80\x02}X\x01", "damaged"),
    "empty": (b"", "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_attributes(archive: Path, tmp_path: Path, name: str) -> None:
    content, match = HOSTILE[name]
    with pytest.raises(WeightsError, match=match):
        open_checkpoint(with_pickle(archive, tmp_path / "x.pt", content))


def test_a_missing_or_packed_tensor_is_refused(archive: Path, tmp_path: Path) -> None:
    def without(name: str, old: bytes) -> bytes | None:
        return None if name.endswith("/data/0") else old

    with pytest.raises(WeightsError, match="data/0 is missing"):
        open_checkpoint(rewritten(archive, tmp_path / "x.pt", without))
    with pytest.raises(WeightsError, match="is compressed"):
        open_checkpoint(rewritten(archive, tmp_path / "y.pt", lambda name, old: old, packed=True))


def test_two_parts_of_one_name_are_refused(archive: Path, tmp_path: Path) -> None:
    shutil.copy(archive, tmp_path / "x.pt")
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "x.pt", "a") as twice:
        warnings.simplefilter("ignore")
        twice.writestr("net/data.pkl", b"")
    with pytest.raises(WeightsError, match="the same name"):
        open_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_torn_archive(archive: Path, tmp_path: Path, keep: float) -> None:
    whole = archive.read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(WeightsError, match=r"damaged|not a checkpoint"):
        open_checkpoint(tmp_path / "x.pt")
