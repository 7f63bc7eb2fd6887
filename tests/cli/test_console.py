"""Output: tables, JSON, encodings, closed pipes."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from tfcli.cli import console

ROWS = [{"name": "ein Kätzchen 🐈", "score": 0.9123, "n": 3}, {"name": "two\nlines", "score": None, "n": 12345}]


def test_a_pipe_gets_plain_aligned_text(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    console.table(None, {"name": "name", "score": "score", "n": "n"}, ROWS, notes=["below"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "name            score      n",
        "ein Kätzchen 🐈  0.912      3",
        "two\\nlines             12345",
        "below",
    ]


def test_columns_are_narrowed_only_where_columns_is_set(capsys, monkeypatch):
    rows = [{"text": "x" * 100}]
    monkeypatch.delenv("COLUMNS", raising=False)
    console.table(None, ["text"], rows)
    assert "x" * 100 in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "40")
    console.table(None, ["text"], rows)
    assert max(map(len, capsys.readouterr().out.splitlines())) == 40


def test_formats(capsys):
    console.table(None, ["name", "n"], ROWS, json=True)
    assert json.loads(capsys.readouterr().out) == ROWS
    console.table(None, ["n", "score"], ROWS, format="csv")
    assert capsys.readouterr().out == "n,score\n3,0.9123\n12345,\n"
    console.table(None, {"n": "how many"}, ROWS, format="markdown")
    assert capsys.readouterr().out.splitlines()[:2] == ["| how many |", "| -------: |"]


def test_nothing_to_show_is_said_on_stderr(capsys):
    console.table(None, ["n"], [], empty="no runs yet")
    assert capsys.readouterr() == ("", "no runs yet\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_ascii_output_never_fails(monkeypatch, as_json):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console.table(None, ["name", "n"], [*ROWS, {"name": "a ± b", "n": 1}], json=as_json)
    text = raw.getvalue().decode("ascii")
    if as_json:
        assert json.loads(text)[0]["name"] == ROWS[0]["name"]
    else:
        assert "a +/- b" in text
        assert "ein K?tzchen ?" in text


def test_a_terminal_gets_a_table_of_its_width(monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [{"name": "n" * 20, "score": 0.5, "note": "m" * 20}]
    console.table("title", ["name", "score", "note"], rows, optional=("note",), style={"name": lambda value: "red"})
    text = raw.getvalue().decode()
    assert "mmm" not in text
    assert "n" * 20 in text
    assert "\x1b[31m" not in text


@pytest.mark.parametrize("terminal", [False, True])
def test_names_that_one_copies_are_never_cut(monkeypatch, terminal):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", stream)
    for name, value in {"TERM": "xterm", "COLUMNS": "60", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    run = "20261121-025601-1e9e/7-optim.lr=0.001,seed=3"
    rows = [
        {"run": run, "model": "vit", "data": "digits", "status": "interrupted", "score": 0.123, "n": n} for n in (1, 2)
    ]
    console.table(None, ["run", "model", "data", "status", "score", "n"], rows, whole=("run",))
    assert raw.getvalue().decode().count(run) == 2


def test_a_closed_pipe_ends_quietly():
    code = (
        "from tfcli.cli import console\n"
        "for i in range(20000): console.out('line ' * 20)\n"
        "console.say('went on to the end')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"went on to the end\n"
    assert process.wait() == 0
    process.stderr.close()


def test_numbers_that_json_lacks(capsys):
    console.emit_json({"a": float("nan"), "b": [float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5]}
