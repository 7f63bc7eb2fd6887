"""Names of public checkpoints without a network: quick, clear, and never random weights instead."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from tfcli.engine.config.configs import options, torchvision_names
from tfcli.errors import WeightsError
from tfcli.weights import fetch, hub
from tfcli.weights.hub import find, here, public
from tfcli.weights.torchvision_weights import parts_of


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("TFCLI_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "model", "words"),
    [
        (
            "google/vit-base-patch16-224",
            None,
            ["belongs to google on the Hugging Face hub", "model.safetensors", "model.weights=FOLDER"],
        ),
        ("IMAGENET1K_V1", "resnet34", ["resnet34-b627a593.pth of pytorch.org", "looked for", "model.weights=PATH"]),
        ("ResNet34_Weights.DEFAULT", None, ["resnet34-b627a593.pth"]),
        ("ViT_B_16_Weights.IMAGENET1K_V1", None, ["vit_b_16-c867db91.pth"]),
        ("cifar10_resnet20", None, ["resnet20-12fca82f.th of github.com", "By hand"]),
        ("https://example.org/models/x.pth", None, ["x.pth of example.org"]),
    ],
)
def test_offline_says_what_is_missing_and_the_manual_step(name: str, model: str | None, words: list[str]) -> None:
    with pytest.raises(WeightsError) as caught:
        find(name, torchvision_name=model)
    for word in ["TFCLI_OFFLINE=1 forbids the network", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        (
            "IMAGENET1K_V9",
            "resnet34",
            r"no `IMAGENET1K_V9` for resnet34, but IMAGENET1K_V1. Did you mean `IMAGENET1K_V1`\?",
        ),
        ("IMAGENET1K_V1", None, "no weights for a model of this family and size"),
        ("resnet35.IMAGENET1K_V1", None, r"no model `resnet35`. Did you mean `resnet50`\?"),
        ("google/-vit--base.", None, "nor a name that the hub could have"),
        ("cifar10_resnet21", None, r"Did you mean `cifar10_resnet20`\?"),
    ],
)
def test_a_wrong_name_has_its_near_miss(name: str, model: str | None, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        find(name, torchvision_name=model)


def test_a_fetched_file_is_found_with_its_normalisation(tmp_path: Path) -> None:
    file = tmp_path / "torch/hub/checkpoints/resnet34-b627a593.pth"
    file.parent.mkdir(parents=True)
    torch.save({}, file)
    place = find("IMAGENET1K_V1", torchvision_name="resnet34")
    assert place.path == file
    assert place.preprocessing
    assert place.preprocessing.settings == {
        "image_size": 224,
        "resize": "shorter",
        "eval_crop": 0.875,
        "interpolation": "bilinear",
        "resizer": "pillow",
        "fill": [0, 0, 0],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    assert (len(place.classes), place.classes[0]) == (1000, "tench")
    assert find(str(file)) == place  # a copy keeps torchvision's name
    assert here("resnet34.IMAGENET1K_V1") == file
    assert here("resnet18.IMAGENET1K_V1") is None


def test_the_hubs_own_cache_is_found(tmp_path: Path) -> None:
    repository = tmp_path / "hub/models--google--vit-tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0" * 40)
    with pytest.raises(WeightsError, match="could not be fetched"):
        find("google/vit-tiny")
    save_file({"a": torch.zeros(1)}, snapshot / "model.safetensors")
    assert find("google/vit-tiny").path == snapshot


def test_the_hub_is_asked_for_the_needed_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"model.safetensors": 2**21, "pytorch_model.bin": 2**21, "tf_model.h5": 2**21, "config.json": 100}
    siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
    info = SimpleNamespace(siblings=siblings, card_data={"license": "apache-2.0"})
    asked: list[list[str]] = []

    def snapshot(name: str, *, local_files_only: bool = False, allow_patterns: list[str] | None = None) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        asked.append(allow_patterns or [])
        return str(tmp_path)

    monkeypatch.delenv("TFCLI_OFFLINE")
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_args, **_options: info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert find("google/vit-tiny").path == tmp_path
    assert set(asked[0]) & set(sizes) == {"config.json", "model.safetensors"}
    assert "fetching google/vit-tiny (2.0 MiB, licence apache-2.0) from the Hugging Face hub" in capsys.readouterr().err


def test_paths_come_before_names(tmp_path: Path) -> None:
    (tmp_path / "google").mkdir()
    (tmp_path / "google/vit.pt").touch()
    assert find("google/vit.pt").path == Path("google/vit.pt")
    assert find("runs/a/b").path == Path("runs/a/b")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on this machine that hands out `tmp_path/served`."""
    monkeypatch.delenv("TFCLI_OFFLINE")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *args) -> None:
            pass

    (tmp_path / "served").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_download_is_checked_then_renamed(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = b"weights" * 1000
    digest = hashlib.sha256(content).hexdigest()
    name = f"net-{digest[:8]}.pth"
    (tmp_path / "served" / name).write_bytes(content)
    place = find(f"{server}/{name}")
    assert place.path.read_bytes() == content
    assert "0.0 MiB" in capsys.readouterr().err
    bad = "net-00000000.pth"
    (tmp_path / "served" / bad).write_bytes(content)
    with pytest.raises(WeightsError, match="00000000 was promised; nothing was kept"):
        find(f"{server}/{bad}")
    assert [file.name for file in place.path.parent.iterdir()] == [name]


def test_a_page_instead_of_a_file_is_refused(server: str, tmp_path: Path) -> None:
    (tmp_path / "served/login.html").write_text("<html>")
    with pytest.raises(WeightsError, match="web page"):
        fetch.download(f"{server}/login.html", tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


def test_a_file_that_is_not_there_says_so(server: str) -> None:
    with pytest.raises(WeightsError, match=r"could not be fetched \(HTTP 404"):
        find(f"{server}/none.pth")


def test_a_silent_host_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    with pytest.raises(fetch.Unreachable, match="no answer within"):
        fetch.within(lambda: answered.wait(60), timeout_s=0.2)
    assert not answered.is_set()
    answered.set()


def test_the_list_is_consistent() -> None:
    rows = public()
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.bytes > 0
        assert row.licence
        assert row.url or hub.HUB_NAME.fullmatch(row.name)
        assert row.model.split()[0] in {*options("model"), *torchvision_names()}


def test_torchvision_rows_have_torchvisions_addresses() -> None:
    from torchvision.models import get_model_weights

    for row in public():
        parts = parts_of(row.name)
        if parts:
            entry = get_model_weights(parts[0])[parts[1]]
            assert entry.url == row.url
            assert abs(entry.meta["_file_size"] * 2**20 - row.bytes) < 20_000
