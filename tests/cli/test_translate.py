"""Translation as a user meets it: a network that learns to turn short strings round, its figures, and what it says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import tfcli

from tfcli.cli.app import app
from tfcli.cli.closing import print_run
from tfcli.engine.runs.record import read_record

WORDS = (
    "train", "model=rnn_attention", "data=reversal", "data.symbols=6", "data.shortest=2", "data.longest=5",
    "data.num_train=1500", "data.num_val=100", "data.num_test=200", "data.batch_tokens=256", "model.width=32",
    "model.embed_width=32", "model.dropout=0", "model.tokenizer.kind=words", "trainer.max_epochs=6",
    "trainer.threads=1", "trainer.precision=32", "optim.lr=0.01", "schedule.warmup_steps=20", "task.label_smoothing=0",
    "logger=csv",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    work = tmp_path_factory.mktemp("translation")
    done = tfcli(*WORDS, "run.dir=turns", cwd=work)
    assert done.returncode == 0, done.stderr
    return work / "turns"


def test_a_run_is_scored_beside_copying_and_keeps_what_it_said(run):
    record = json.loads((run / "results.json").read_text())
    assert record["metrics"]["test/exact_match"] > 0.8 > 0.3 > record["baselines"]["copying the source/exact_match"]
    assert record["metrics"]["test/bleu"] > record["baselines"]["copying the source/bleu"] + 30
    low, high = record["intervals"]["test/bleu"]
    assert low <= record["metrics"]["test/bleu"] <= high
    assert record["signatures"]["bleu"].startswith("nrefs:1|")
    with (run / "translations.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    right = sum(row["ours"] == row["reference"] == row["source"][::-1] for row in rows)
    assert right / len(rows) == pytest.approx(record["metrics"]["test/exact_match"])


def test_the_closing_table_says_bleu_to_one_decimal_and_lengths_in_words(run, capsys):
    record = read_record(run)
    print_run(run, record)
    lines = capsys.readouterr().out.splitlines()
    bleu = next(line.split() for line in lines if line.startswith("BLEU "))
    assert bleu[1] == f"{record.metrics['test/bleu']:.1f}"
    right = [line for line in lines if line.startswith("exact match, up to ")]
    assert [line.split()[4:6] for line in right] == [[str(n), "words"] for n in (2, 3, 4, 5)]


def test_a_run_is_asked_for_the_best_translations(run, monkeypatch, capsys):
    monkeypatch.chdir(run.parent)

    def said(*words: str) -> list[dict]:
        capsys.readouterr()
        app(["sample", "turns", "--text", "a b c d", "--text", "f e", "--json", *words], standalone_mode=False)
        return json.loads(capsys.readouterr().out)

    several = said("--count", "3", "--beam", "4")
    assert [row["translations"][0]["text"] for row in several] == ["d c b a", "e f"]
    for row in several:
        scores = [one["score"] for one in row["translations"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
    assert [len(row["translations"]) for row in said("--beam", "1")] == [1, 1]
