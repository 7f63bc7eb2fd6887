"""Learning in context: zero-, one- and few-shot evaluation of a language model without any training."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from tfcli.data.common.counter_rng import hash64
from tfcli.data.common.rows import height, padded
from tfcli.data.module import DataModule
from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import compose
from tfcli.engine.runs.folder import check_writable, locked, logged, relative_path, run_folder, say, write_start
from tfcli.engine.runs.lifecycle import recorded
from tfcli.engine.runs.record import Record
from tfcli.engine.runs.terminal import progress
from tfcli.engine.train.numerics import peak_memory
from tfcli.engine.use.language_model import LoadedLanguageModel, load_language_model
from tfcli.engine.use.sample import greedy, prompt_ids
from tfcli.errors import ConfigError, DataError
from tfcli.metrics.info import FigureInfo
from tfcli.metrics.intervals import wilson
from tfcli.text.prompting import Prompt, make_prompt

BATCH_TOKENS = 16_384


@dataclass
class PromptedQuestion:
    """A question with K demonstrations, cut to what the model takes."""

    prompt: str
    ids: list[int]
    shots: int
    right: str
    candidates: Sequence[str] | None


@dataclass
class ShotResult:
    """Result with K demonstrations in the prompt.

    Attributes:
        used: demonstrations that fitted into the context, on average.
        example: one prompt, with the answer that was given.
    """

    shots: int
    right: int = 0
    asked: int = 0
    used: float = 0.0
    chance: float = 0.0
    example: str = ""
    interval: tuple[float, float] = field(default=(0.0, 1.0))

    @property
    def accuracy(self) -> float:
        return self.right / max(1, self.asked)


def fewshot(
    run: Path | None,
    words: list[str],
    data: str,
    *,
    shots: Sequence[int],
    rows: int,
    seed: int,
    calibrate: bool,
    config_dir: str | None = None,
) -> tuple[Path, Record, list[ShotResult]]:
    """Ask a model about rows of a test set, with demonstrations from its training set, and keep a record.

    Args:
        run: the run of which the best checkpoint is evaluated; None: the model and weights that `words` name.
        words: settings of the model and of the data.
        data: the set.
        shots: numbers of demonstrations.
        rows: of the test set, at most.
        seed: of the draw of rows and demonstrations; fewer demonstrations are the first of more.
        calibrate: score a candidate by how much the question makes it likelier than a bare `Answer:` does (Brown et
            al. 2020, section 2.4), in place of its likelihood for each token.

    Raises:
        ConfigError: the model writes no text, or the set cannot be turned into prompts.
    """
    own = [w for w in words if not w.startswith("data")]
    loaded = load_language_model(run, own if run is None else [], config_dir=config_dir)
    loaded.check_writes()
    texts = _data(data, words, config_dir)
    columns = [name for name in texts.rows["test"] if name != "demonstrations"]
    prompt = make_prompt(columns, texts.classes, texts.facts.get("prompt") or {})
    check_writable(Path("outputs"))
    name = f"{loaded.choices['model']}-{data}"
    folder = run_folder("fewshot", name, root=Path("outputs"), given=None)
    record = Record("fewshot", "failed", loaded.choices["model"], data, task="fewshot", seed=seed, overrides=words)
    began = time.monotonic()
    with locked(folder), logged(folder), recorded(folder, record) as active:
        active.stop.doing = "while the model answered"
        values = {**plain(loaded.config), "choices": {**loaded.choices, "data": data}}
        write_start(folder, config=values, overrides=words, devices=str(loaded.device))
        there = texts.counts["test"]
        say(f"{name} · {there:,} test rows, {min(rows, there):,} asked · {relative_path(folder)}")
        for note in texts.notes:
            say(note)
        found = [_ask(loaded, texts, prompt, k, rows=rows, seed=seed, calibrate=calibrate) for k in sorted(set(shots))]
        _write(folder, record, found, texts, began)
    return folder, record, found


def _data(name: str, words: list[str], config_dir: str | None) -> DataModule:
    settings = [w for w in words if w.startswith("data.")]
    config = compose("data", [f"data={name}", *settings], config_dir).config.data
    if not isinstance(config.get("prompt"), DictConfig | None):
        raise ConfigError(f"`data.prompt` must be a mapping, but is `{config.prompt}`: data.prompt.question=TEXT")
    if "image" in config.columns:
        raise ConfigError(f"data `{name}` has no texts, and few-shot evaluation needs texts.")
    data: DataModule = build(config)
    data.prepare()
    if not data.counts["test"]:
        raise DataError(f"data `{name}` has no test split to ask about.")
    return data


def rows_of(table: dict[str, list[Any]], which: np.ndarray) -> list[dict[str, Any]]:
    """Return some rows of a table, each by its column names."""
    return [{name: column[i] for name, column in table.items()} for i in which]


def questions(
    data: DataModule, prompt: Prompt, encode, *, shots: int, rows: int, seed: int, room: int
) -> Iterator[PromptedQuestion]:
    """Test rows with demonstrations from the training rows, or with their own where they bring some.

    Args:
        encode: a text to ids.
        room: tokens that a prompt may have; what does not fit loses its first demonstrations.

    Raises:
        DataError: a row does not fit without any.
    """
    test, train = data.rows["test"], data.rows["train"]
    order = np.argsort(hash64(seed, "fewshot rows", np.arange(height(test))), kind="stable")[:rows]
    for index, row in zip(order, rows_of(test, order), strict=True):
        if "demonstrations" in row:
            pool = row["demonstrations"][:shots]
        else:
            drawn = np.argsort(hash64(seed, "demonstrations", int(index), np.arange(height(train))), kind="stable")
            pool = rows_of(train, drawn[:shots])
        while True:
            text = prompt.whole(pool, row)
            ids = encode(text)
            if len(ids) <= room:
                break
            if not pool:
                raise DataError(f"a question has {len(ids)} tokens, and the model has room for {room}: {text[:60]!r}")
            pool = pool[1:]
        yield PromptedQuestion(text, ids, len(pool), prompt.right(row), prompt.candidates(row))


def _ask(
    loaded: LoadedLanguageModel, data: DataModule, prompt: Prompt, shots: int, *, rows: int, seed: int, calibrate: bool
) -> ShotResult:
    context, encode = loaded.context or 10**9, partial(prompt_ids, loaded)
    found, used, chances = ShotResult(shots), [], []
    longest = max((len(encode(prompt.tell(c))) for c in prompt.labels), default=32)
    asked = list(questions(data, prompt, encode, shots=shots, rows=rows, seed=seed, room=context - longest))
    with progress(f"{shots} demonstrations", len(asked), "questions") as advance:
        for question, answer in zip(asked, _answers(loaded, prompt, asked, calibrate, advance), strict=True):
            found.right += answer.strip() == question.right.strip()
            used.append(question.shots)
            chances.append(1 / len(question.candidates) if question.candidates else 0.0)
            if not found.example:
                found.example = question.prompt + prompt.tell(answer)
    found.asked, found.used, found.chance = len(asked), float(np.mean(used)), float(np.mean(chances))
    found.interval = wilson(found.right, found.asked)
    return found


@torch.no_grad()
def _answers(
    loaded: LoadedLanguageModel, prompt: Prompt, asked: list[PromptedQuestion], calibrate: bool, advance
) -> Iterator[str]:
    """Return the likeliest candidate of each question; without candidates, the text up to the separator."""
    if asked and asked[0].candidates is None:
        for question in asked:
            yield greedy(loaded, question.ids, until=prompt.separator, length=48)
            advance(1)
        return
    bare: dict[str, float] = {}
    if calibrate:
        every = list(dict.fromkeys(c for question in asked for c in question.candidates or ()))
        head = prompt_ids(loaded, "Answer:")
        tails = [loaded.tokenizer.encode([prompt.tell(c)])[0] for c in every]
        bare = dict(zip(every, (total for total, _ in _scores(loaded, [head] * len(every), tails)), strict=True))
    for question in asked:
        candidates = list(question.candidates or ())
        tails = [loaded.tokenizer.encode([prompt.tell(c)])[0] for c in candidates]
        scores = _scores(loaded, [question.ids] * len(candidates), tails)
        ranked = [s - bare[c] if calibrate else s / n for (s, n), c in zip(scores, candidates, strict=True)]
        yield candidates[int(np.argmax(ranked))]
        advance(1)


def _scores(loaded: LoadedLanguageModel, heads: list[list[int]], tails: list[list[int]]) -> list[tuple[float, int]]:
    """Return the log-likelihood of each tail after its head, and its number of tokens."""
    found: list[tuple[float, int]] = []
    size = max(1, BATCH_TOKENS // max(len(h) + len(t) for h, t in zip(heads, tails, strict=True)))
    for first in range(0, len(heads), size):
        some = slice(first, first + size)
        rows = [np.array([*h, *t]) for h, t in zip(heads[some], tails[some], strict=True)]
        tokens = torch.from_numpy(padded(rows, 0)).to(loaded.device)
        logs: Tensor = loaded.net(tokens[:, :-1]).float().log_softmax(-1)
        picked = logs.gather(2, tokens[:, 1:, None]).squeeze(2)
        for line, h, t in zip(picked, heads[some], tails[some], strict=True):
            found.append((float(line[len(h) - 1 : len(h) + len(t) - 1].sum()), len(t)))
    return found


def _write(folder: Path, record: Record, found: list[ShotResult], data: DataModule, began: float) -> None:
    for result in found:
        key = f"fewshot/shots={result.shots}/accuracy"
        record.metrics[key], record.intervals[key] = result.accuracy, list(result.interval)
        if result.chance:
            record.baselines[f"chance/{key}"] = result.chance
    record.figures, record.main = {"accuracy": FigureInfo("accuracy")}, "fewshot/accuracy"
    best = max(found, key=lambda result: result.accuracy)
    record.metrics |= {"fewshot/accuracy": best.accuracy, "fewshot/best_shots": best.shots}
    record.intervals["fewshot/accuracy"] = list(best.interval)
    record.counts, record.units = dict(data.counts), {"counts": "rows", "rate": "questions"}
    seconds = time.monotonic() - began
    record.cost = {
        "seconds": seconds,
        "examples_per_second": sum(result.asked for result in found) / seconds,
        "peak_memory_bytes": peak_memory(),
    }
    prompts = "\n".join(f"==== {result.shots} demonstrations\n{result.example}" for result in found)
    (folder / "prompts.txt").write_text(prompts + "\n", encoding="utf-8")
    from tfcli.viz.shots import accuracy_by_shots

    rows = [(result.shots, result.accuracy, *result.interval) for result in found]
    accuracy_by_shots(rows, folder / "figures" / "shots.png", chance=found[0].chance or None, title=folder.parent.name)
    record.status = "finished"
