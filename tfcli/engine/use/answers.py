"""Predictions of a fine-tuned language model for texts: classes, scores, tags, or an answer span."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfcli.data.common.rows import Columns
from tfcli.engine.config.build import build
from tfcli.engine.use.language_model import LoadedLanguageModel, load_language_model
from tfcli.engine.use.public_head import answering, with_its_head
from tfcli.errors import ConfigError
from tfcli.metrics.squad import best_spans
from tfcli.tasks.text_classify import head_output

Row = dict[str, Any]


@torch.no_grad()
def answers(
    run: Path | None,
    overrides: list[str],
    texts: Sequence[str],
    seconds: Sequence[str],
    *,
    top: int,
    config_dir: str | None = None,
) -> list[Row]:
    """Predict for texts with a run whose task declares one of the kinds of `answer` below.

    Args:
        run: its folder; None: the model and weights that `overrides` name, with the head that these have.
        overrides: settings.
        texts: sentences; questions of spans; one context of choices.
        seconds: the second text of each pair; the contexts of questions (one serves all); what may follow a context.
        top: classes to give for each text.

    Raises:
        ConfigError: the run is of another task, or the texts are not as many as it needs.
    """
    loaded = load_language_model(run, overrides) if run else with_its_head(overrides, ASKED, config_dir=config_dir)
    answer = loaded.config.task.get("answer")
    if answer not in ASKED:
        tasks = ", ".join(answering(ASKED, config_dir))
        raise ConfigError(f"a run of task `{loaded.choices['task']}` does not answer texts; those of {tasks} do.")
    if not texts:
        raise ConfigError("what is to be answered? Give it with --text.")
    return ASKED[answer](loaded, list(texts), list(seconds), top)


def _outputs(loaded: LoadedLanguageModel, rows: Columns) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the head's output for rows, and their batch."""
    view = build(loaded.config.task.view)
    encoded = view.encode(rows, loaded.tokenizer, length=loaded.context, train=False)
    loaded.warn_truncated(encoded.cut)
    batch = encoded.batch(np.arange(len(encoded.lengths)), seed=0, epoch=0)
    batch = {name: tensor.to(loaded.device) for name, tensor in batch.items()}
    return head_output(loaded.net, batch).float(), batch


def _paired(texts: list[str], seconds: list[str]) -> Columns:
    if seconds and len(seconds) != len(texts):
        raise ConfigError(f"there are {len(texts)} texts and {len(seconds)} second ones (--pair): as many are needed.")
    return {"text": texts, **({"pair": seconds} if seconds else {})}


def _classes(loaded: LoadedLanguageModel, texts: list[str], seconds: list[str], top: int) -> list[Row]:
    logits, _ = _outputs(loaded, _paired(texts, seconds))
    return _ranked(logits, [*texts], loaded.classes, top)


def _ranked(logits: Tensor, texts: list[str], names: Sequence[str], top: int) -> list[Row]:
    chance, best = logits.softmax(1).cpu().topk(min(top, len(names)), 1)
    return [
        {"text": text, "classes": [names[i] for i in k], "probabilities": p}
        for text, k, p in zip(texts, best.tolist(), chance.tolist(), strict=True)
    ]


def _scores(loaded: LoadedLanguageModel, texts: list[str], seconds: list[str], top: int) -> list[Row]:
    logits, _ = _outputs(loaded, _paired(texts, seconds))
    scores = logits.cpu()
    if loaded.run is not None:  # it was trained on scores that were brought to one scale
        scores = scores * loaded.state["spread"] + loaded.state["centre"]
    return [{"text": text, "answer": round(score, 4)} for text, score in zip(texts, scores.tolist(), strict=True)]


def _tags(loaded: LoadedLanguageModel, texts: list[str], seconds: list[str], top: int) -> list[Row]:
    words = [text.split() for text in texts]
    logits, batch = _outputs(loaded, {"words": words, "tags": [[0] * len(own) for own in words]})
    rows = []
    for text, own, guess, target in zip(texts, words, logits.argmax(-1).cpu(), batch["target"].cpu(), strict=True):
        names = [loaded.classes[i] for i in guess[target >= 0].tolist()]
        pairs = [{"word": word, "tag": name} for word, name in zip(own, names, strict=False)]
        tagged = " ".join(f"{p['word']}/{p['tag']}" if p["tag"] != "O" else p["word"] for p in pairs)
        rows.append({"text": text, "answer": tagged, "tags": pairs})
    return rows


def _spans(loaded: LoadedLanguageModel, texts: list[str], seconds: list[str], top: int) -> list[Row]:
    contexts = seconds * len(texts) if len(seconds) == 1 else seconds
    if len(contexts) != len(texts):
        raise ConfigError("each question (--text) needs the text that its answer is cut from: --pair TEXT.")
    columns: Columns = {"question": texts, "context": contexts, "answers": [[]] * len(texts), "id": texts}
    logits, batch = _outputs(loaded, columns)
    start, end = logits.unbind(-1)
    score, first, last = best_spans(start, end, batch["inside"])
    none, most = start[:, 0] + end[:, 0], torch.inf
    if loaded.run is not None and loaded.config.data.source.get("version") == "2.0":  # there may be no answer
        most = float(loaded.state["threshold"])
    rows = []
    for number, (text, context) in enumerate(zip(texts, contexts, strict=True)):
        windows = (batch["question"] == number).nonzero()[:, 0]
        best = int(windows[score[windows].argmax()])
        if none[windows].min() - score[best] > most:
            rows.append({"text": text, "answer": ""})
            continue
        begin, stop = (int(batch["offsets"][best, at, side]) for at, side in ((first[best], 0), (last[best], 1)))
        rows.append({"text": text, "answer": context[begin:stop]})
    return rows


def _choices(loaded: LoadedLanguageModel, texts: list[str], seconds: list[str], top: int) -> list[Row]:
    if len(texts) != 1 or len(seconds) < 2:
        raise ConfigError("one context (--text) and at least two ways to go on (--pair) are needed.")
    logits, _ = _outputs(loaded, {"context": texts, "choices": [seconds], "label": [0]})
    return _ranked(logits, texts, seconds, top)


ASKED: dict[str, Callable[[LoadedLanguageModel, list[str], list[str], int], list[Row]]] = {
    "classes": _classes,
    "score": _scores,
    "tags": _tags,
    "span": _spans,
    "choice": _choices,
}
"""How the output of each kind of head is turned into rows."""
