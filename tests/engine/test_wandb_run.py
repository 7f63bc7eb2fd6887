"""W&B beside a run: ids of their own, and no dead host, bad setting or killed service that the run feels."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb

from tfcli.engine.train.loggers import check_logger, finish_loggers, make_loggers
from tfcli.engine.train.wandb_run import WandbRun, run_id
from tfcli.errors import ConfigError

NODE = {"mode": "auto", "project": "tfcli", "entity": None, "name": None, "group": None, "tags": []}
KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def _no_wandb_settings(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    yield
    with suppress(ConnectionResetError):  # of the killed service
        wandb.teardown()


class Logged:
    """A run's loggers over a folder, and what they said."""

    def __init__(self, folder: Path, *, resumed: bool = False, **node: Any):
        folder.mkdir(parents=True, exist_ok=True)
        self.said: list[str] = []
        began = time.monotonic()
        self.loggers = make_loggers(
            {"wandb": {**NODE, **node}}, folder, name="n", run_config={}, resumed=resumed, say=self.said.append
        )
        self.waited = time.monotonic() - began

    @property
    def wandb(self) -> WandbRun:
        return next(one for one in self.loggers if isinstance(one, WandbRun))

    def end(self) -> str:
        """Log a value, finish, and return the id of the W&B run."""
        self.wandb.log_metrics({"train/loss": 1.0}, step=1)
        finish_loggers(self.loggers, {"test/accuracy": 0.5}, [], failed=False)
        return self.wandb.experiment.id


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A host on loopback that answers every request with `answer`, or takes it and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):  # the server is closed
                while True:
                    held.append(server.accept()[0])
                    if answer is not None:
                        with held[-1] as connection, suppress(OSError):
                            connection.recv(2**16)
                            connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


def test_every_run_folder_has_an_id_of_its_own_and_keeps_it(tmp_path):
    ids = [
        run_id(folder)
        for folder in (tmp_path / "a" / "seed0", tmp_path / "b" / "seed0")
        if not folder.mkdir(parents=True)
    ]
    assert len(set(ids)) == 2
    assert run_id(tmp_path / "a" / "seed0") == ids[0]
    assert Logged(tmp_path / "a" / "seed0", mode="offline").end() == ids[0]
    assert Logged(tmp_path / "a" / "seed0", mode="offline", resumed=True).end() == ids[0]
    old = tmp_path / "c" / "seed0"
    file = old / "wandb" / "offline-run-20261101_101010-seed0" / "run-seed0.wandb"
    file.parent.mkdir(parents=True)
    file.touch()
    assert run_id(old) == "seed0"  # as it was named before ids were made by chance


@pytest.mark.parametrize(
    "host",
    [
        "dead",
        "refusing",
        pytest.param("silent", marks=pytest.mark.slow),
        pytest.param("broken", marks=pytest.mark.slow),
    ],
)
def test_a_host_that_does_not_answer_costs_seconds_and_nothing_else(host, tmp_path, monkeypatch):
    answers = {"silent": None, "broken": b"500 Oops", "refusing": b"401 No"}
    line = answers.get(host)
    with listening(line and b"HTTP/1.1 " + line + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}") as port:
        if host == "dead":
            with socket.create_server(("127.0.0.1", 0)) as gone:
                port = gone.getsockname()[1]
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        run = Logged(tmp_path / "runs" / "seed0")
        assert run.waited < 12  # 4 s for an answer, the rest for this machine
        (said,) = run.said
        assert said.startswith("W&B: ")
        assert "is logged offline" in said
        run.end()
    (kept,) = (tmp_path / "runs" / "seed0" / "wandb").glob("*run-*/run-*.wandb")
    assert kept.parent.name.startswith("offline-run-")
    assert str(kept.parent.relative_to(tmp_path)) in said
    assert not (tmp_path / "wandb").exists()


class Answers(BaseHTTPRequestHandler):
    """As much of W&B's server as a run needs to begin, and to be uploaded."""

    seen: list[str]

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        self.seen.append(text)
        answer: dict[str, Any] = {"data": {}}
        if "UpsertBucket" in text:
            name = json.loads(text)["variables"]["name"]
            project = {"id": "P", "name": "tfcli", "entity": {"id": "E", "name": "e"}}
            bucket = {"id": "B", "name": name, "displayName": name, "description": "", "config": "{}"}
            bucket |= {"sweepName": None, "historyLineCount": 0, "project": project}
            answer = {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        elif "CreateRunFiles" in text:
            names = json.loads(text)["variables"]["files"]
            files = [{"name": name, "uploadUrl": f"http://{self.headers['Host']}/files"} for name in names]
            answer = {"data": {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}}}
        elif "viewer" in text.lower():
            viewer = {"id": "u", "username": "u", "entity": "e", "flags": "{}", "teams": {"edges": []}}
            answer = {"data": {"viewer": viewer, "serverInfo": {}}}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET = do_POST

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    Answers.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{one.server_address[1]}")
        yield one
        one.shutdown()


@pytest.mark.slow
def test_a_host_that_dies_in_the_middle_holds_the_end_for_a_bounded_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr("tfcli.engine.train.wandb_run.FINISH_S", 2)
    run = Logged(tmp_path / "run")
    assert run.said == []
    assert any(run_id(tmp_path / "run") in text for text in Answers.seen)
    server.shutdown()
    server.server_close()
    began = time.monotonic()
    run.end()
    assert time.monotonic() - began < 15
    (said,) = run.said
    assert "not everything was uploaded" in said


def test_a_killed_service_is_said_once_and_the_run_goes_on(tmp_path):
    run = Logged(tmp_path / "run", mode="offline")
    (service,) = [one for one in gc.get_objects() if type(one) is subprocess.Popen and one.returncode is None]
    service.kill()
    service.wait()
    time.sleep(0.3)
    run.end()
    run.end()
    (said,) = run.said
    assert "not everything was uploaded" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_MODE", "of"),
        ("WANDB_BASE_URL", "nonsense"),
        ("WANDB_BASE_URL", "http://127.0.0.1:99999"),
        ("WANDB_INIT_TIMEOUT", "soon"),
        ("WANDB_RESUME", "perhaps"),
        ("WANDB_SILENT", "perhaps"),
        ("WANDB_PROJECT", "a/b"),
        ("WANDB_RUN_ID", "a/b"),
        ("WANDB_TAGS", ",,"),
    ],
)
def test_bad_variables_are_refused_in_a_line(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"^`{name}={re.escape(value)}` in the environment is refused[^\n]*$"):
        check_logger({"wandb": NODE})


def test_bad_settings_and_a_missing_login_are_refused_before_a_run_begins(tmp_path):
    for key, value in (("project", "a/b"), ("tags", [""])):
        with pytest.raises(ConfigError, match=rf"^`logger\.wandb\.{key}="):
            check_logger({"wandb": {**NODE, key: value}})
    with pytest.raises(ConfigError, match="there is no W&B login"):
        check_logger({"wandb": {**NODE, "mode": "required"}})


@pytest.mark.slow
def test_the_printed_upload_uploads(server, tmp_path, monkeypatch):
    key = os.environ["WANDB_API_KEY"]
    monkeypatch.delenv("WANDB_API_KEY")
    run = Logged(tmp_path / "the run")
    (said,) = run.said
    run.end()
    wandb.teardown()
    (command,) = re.findall(r"`(wandb sync [^`]+)`", said)
    program = [str(Path(sys.executable).with_name("wandb")), *shlex.split(command)[1:]]
    environment = {**os.environ, "WANDB_API_KEY": key}
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert any("UpsertBucket" in text and run_id(tmp_path / "the run") in text for text in Answers.seen)
