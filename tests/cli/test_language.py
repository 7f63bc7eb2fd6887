"""Language as a user meets it: a tiny GPT on a text of one's own, asked to go on; a classifier asked of texts."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from conftest import tfcli

from tfcli.cli.app import app
from tfcli.errors import UserError

DRAWS = Random(0)
TEXT = "".join(f"the {DRAWS.choice(['cat', 'dog'])} sat on the {DRAWS.choice(['mat', 'log'])}.\n" for _ in range(800))
LABELS = {"sun": "neutral", "rain": "entailment"}
SMALL = ("model.width=32", "model.depth=2", "model.heads=2", "logger=csv", "trainer.precision=32", "trainer.threads=1")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a table, and a run on each."""
    folder = tmp_path_factory.mktemp("language")
    (folder / "own.txt").write_text(TEXT)
    rows = [
        f"{word} {thing}\t{label}" for word, label in (("good", "yes"), ("bad", "no")) for thing in "abcdefghij"
    ] * 6
    (folder / "own.tsv").write_text("review\tfine\n" + "\n".join(rows) + "\n")
    for part, word in (("train", "sun"), ("dev_matched", "sun"), ("dev_mismatched", "rain")):
        words = [word, "rain"] * 60 if part == "train" else [word] * 10
        lines = [f"{i}\tthe {w}\ta {w}\t{LABELS[w]}" for i, w in enumerate(words)]
        (folder / "MNLI").mkdir(exist_ok=True)
        (folder / "MNLI" / f"{part}.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tgold_label", *lines]))
    runs = {
        "follows": ["model=bert", "task=text_classify", "data=mnli", "data.root=.", "trainer.max_epochs=6",
                    "model.tokenizer.vocab_size=40", "data.batch_size=8", "data.val_fraction=0.2"],
        "speaks": ["model=gpt", "data=text", "data.root=own.txt", "model.context=32", "trainer.max_epochs=5",
                   "schedule.warmup_steps=10"],
        "fine": ["model=bert", "task=text_classify", "data=table", "data.root=own.tsv", "trainer.max_epochs=6",
                 "data.columns={text: review, label: fine}", "model.tokenizer.vocab_size=60", "data.batch_size=8"],
    }  # fmt: skip
    for name, words in runs.items():
        done = tfcli("train", *words, *SMALL, f"run.dir={name}", "optim.lr=0.005", cwd=folder)
        assert done.returncode == 0, done.stderr
    (folder / "gpt").symlink_to("speaks")  # called as a model is
    return folder


def metrics(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_a_run_on_text_leaves_its_vocabulary_and_figures_in_bits(work):
    record = metrics(work / "speaks")
    assert (work / "speaks" / "tokenizer.json").is_file()
    assert record["metrics"]["test/bits_per_char"] < 1.5  # single letters: 3.4
    low, high = record["intervals"]["test/bits_per_char"]
    assert low <= record["metrics"]["test/bits_per_char"] <= high
    assert record["units"] == {"counts": "windows", "rate": "tokens"}


@pytest.fixture
def call(work: Path, monkeypatch, capsys):
    """Run a command in this process, which has torch already; returns what it prints."""
    monkeypatch.chdir(work)

    def run(*words: str) -> str:
        capsys.readouterr()
        app(list(words), standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_sampling_is_repeatable_and_the_cache_changes_nothing(call):
    ask = ("sample", "speaks", "--text", "the ", "--length", "40")
    first, again, other = (call(*ask, "--seed", s) for s in ("1", "1", "2"))
    assert first == again
    assert first != other
    kept, read = (call(*ask, "--temperature", "0", flag) for flag in ("--cache", "--no-cache"))
    assert kept == read
    assert kept.startswith("the ")
    assert "sat on the" in kept  # beyond the context of 32 it goes on from the last half
    found = json.loads(call(*ask, "--count", "2", "--json"))
    assert [row["prompt"] for row in found] == ["the ", "the "]


def test_a_classifier_of_texts_is_trained_and_asked(work, call):
    assert metrics(work / "fine")["metrics"]["test/accuracy"] == 1.0
    assert "TF-IDF" in str(metrics(work / "fine")["baselines"])
    found = json.loads(call("predict", "fine", "--text", "good x", "--text", "bad x", "--json"))
    assert [row["classes"][0] for row in found] == ["yes", "no"]


def test_both_test_sets_of_mnli_are_measured(work):
    record = metrics(work / "follows")
    assert record["metrics"]["test/accuracy_matched"] == record["metrics"]["test/accuracy_mismatched"] == 1.0
    usual = {name: v for name, v in record["baselines"].items() if name.startswith("most frequent class/accuracy_m")}
    assert sorted(usual.values()) == [0.0, 1.0]
    assert record["counts"]["test"] == 20


def test_few_shot_answers_are_scored(work, call):
    words = ("data.columns={text: review, label: fine}", "data.root=own.tsv", "data.prompt={question: 'the {text}'}")
    record = json.loads(call("fewshot", "speaks", "table", *words, "--shots", "0", "--rows", "8", "--show", "--json"))
    assert record["baselines"]["chance/fewshot/shots=0/accuracy"] == 0.5
    assert "fewshot/shots=0/accuracy" in record["intervals"]
    assert (work / record["run"] / "figures" / "shots.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "speaks", "--top-p", "1.5"], "`--top-p` must lie above 0"),
        (["sample", "speaks", "stray"], "`stray`"),
        (["sample", "gpt"], "untrained weights give no useful output. The run in the folder `gpt` is `./gpt`."),
        (["sample", "optim.lr=1", "--text", "a"], "untrained weights give no useful output."),
        (["sample", "speeks"], "neither a model nor a run"),
        (["sample", "speaks", "--file", "none.txt"], "`none.txt` cannot be read"),
        (["sample", "fine", "--text", "a"], "does not continue a text"),
        (["fewshot", "fine", "table"], "does not continue a text"),
        (["predict", "speaks", "--text", "a"], "task `lm` does not answer texts; `tfcli sample RUN --text"),
        (["predict", "fine", "--text", "a", "--pair", "b", "--pair", "c"], "1 texts and 2 second ones"),
        (["fewshot", "speaks", "table", "--shots", "one"], "`--shots` takes whole numbers"),
        (["train", "model=gpt", "task=text_classify", "data=table", "data.root=own.tsv",
          "data.columns={text: reviw, label: fine}"], "Did you mean `review`"),
        (["train", "model=bert", "data=text", "data.root=own.txt", "model.tokenizer.kind=chars"], "wordpiece"),
        (["train", "model=gpt", "data=text", "data.root=own.txt", "data.max_length=999"], "for 128 tokens"),
        (["train", "model=vit", "data=text", "data.root=own.txt"], "model `vit` offers no task for data `text`"),
    ],
)  # fmt: skip
def test_slips_are_named(work, words, said, monkeypatch):
    monkeypatch.chdir(work)
    with pytest.raises(UserError) as refused:  # in this process, which has torch already
        app(words, standalone_mode=False)
    assert said in str(refused.value)
