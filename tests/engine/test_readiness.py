"""`doctor` tries the network, and says what one experiment lacks on this machine."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tfcli.engine.config.compose import compose
from tfcli.engine.tools import doctor, readiness


@pytest.fixture
def online(monkeypatch):
    """No switch forbids the network; what was found before is forgotten."""
    for name in ("TFCLI_OFFLINE", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    doctor.network.cache_clear()
    yield
    doctor.network.cache_clear()


def test_the_network_is_tried_on_every_host(online, monkeypatch):
    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(403)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        here, dead = (f"http://127.0.0.1:{port}" for port in (server.server_port, closed.getsockname()[1]))
        monkeypatch.setattr(doctor, "HOSTS", (here,))
        assert doctor.network().state == "ok"  # it answers, if only that nothing is to be had at its root
        doctor.network.cache_clear()
        monkeypatch.setattr(doctor, "HOSTS", (here, dead))
        found = doctor.network()
    server.shutdown()
    server.server_close()
    assert (found.state, "refused" in found.found) == ("note", True)
    assert here.partition("//")[2] not in found.found
    assert "TFCLI_OFFLINE=1" in found.mend


def test_nothing_is_tried_offline(online, monkeypatch):
    monkeypatch.setenv("TFCLI_OFFLINE", "1")
    monkeypatch.setattr(doctor, "HOSTS", ("http://no.such.host.invalid",))
    assert doctor.network().found == "not tried: TFCLI_OFFLINE=1"


def checks(*words: str, network: bool) -> dict[str, doctor.Check]:
    return {check.name: check for check in readiness.examine(compose("train", list(words)), network=network)}


def test_what_an_experiment_lacks_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    words = ("experiment=pets_resnet34", f"data.root={tmp_path}")
    cut_off = checks(*words, network=False)
    assert [cut_off[name].state for name in ("data pets", "weights IMAGENET1K_V1")] == ["broken", "broken"]
    assert "data.root=FOLDER" in cut_off["data pets"].mend
    online = checks(*words, network=True)
    assert [online[name].state for name in ("data pets", "weights IMAGENET1K_V1")] == ["note", "note"]
    assert "tfcli data get pets" in online["data pets"].mend


def test_what_is_there_is_ok_and_what_cannot_be_is_said(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert {check.state for check in checks("vit", "digits", "logger=csv", network=False).values()} == {"ok"}
    (tmp_path / "w.pt").write_bytes(b"x")
    found = checks("model=vit", f"model.weights={tmp_path / 'w.pt'}", "logger=wandb_required", network=False)
    assert found[f"weights {tmp_path / 'w.pt'}"].state == "ok"
    assert found["W&B login"].state == "broken"
    assert checks("model=vit", "model.weights=gone.pt", network=True)["weights gone.pt"].state == "broken"
