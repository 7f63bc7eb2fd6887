"""Baselines printed beside a run's result: chance, the most frequent class, and simple models of the same texts."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch.nn.functional import one_hot

from tfcli.data.streams import Stream
from tfcli.data.textitems import Columns, height
from tfcli.data.textrows import limited
from tfcli.data.texts import TextData
from tfcli.metrics.bleu import translation_figures
from tfcli.metrics.classification import ClassificationMetrics
from tfcli.metrics.entities import entity_figures
from tfcli.metrics.glue import LabelMetrics, score_figures
from tfcli.metrics.intervals import Figures
from tfcli.metrics.language import LanguageMetrics
from tfcli.probes.ngram import ngram, unigram
from tfcli.probes.wordcounts import frequent_tags, majority, tfidf_cosine, tfidf_logistic
from tfcli.tasks.protocols import Data

MOST_ROWS = 70_000
MOST_TOKENS = 5_000_000
"""Limits on the training rows and tokens that are counted; the figure's name says where they cut."""


def of_classes(prefix: str, metric: ClassificationMetrics, data: Data) -> dict[str, float]:
    """Return what chance and the most frequent class of training come to, by `what/metric`.

    Args:
        prefix: of the figures' names.
        metric: what the model was measured with.
        data: whose labels.
    """
    classes, train, test = metric.num_classes, data.labels("train"), torch.from_numpy(data.labels("test"))
    found = {f"chance/{prefix}accuracy": 1 / classes}
    if classes > 5:
        found[f"chance/{prefix}accuracy_top5"] = 5 / classes
    if not len(train) or not len(test):
        return found
    metric = deepcopy(metric).cpu()
    metric.reset()
    guess = torch.from_numpy(majority(train, len(test)))
    group = {"group": torch.tensor(data.rows["test"]["group"])} if isinstance(data, TextData) and data.groups else {}
    metric.update(one_hot(guess, classes).float(), test, torch.zeros(len(test)), **group)
    figures = {name: value for name, value in metric.compute().items() if name not in OF_CHANCES}
    return found | {f"most frequent class/{prefix}{name}": value for name, value in figures.items()}


def of_texts(task: str, data: TextData) -> dict[str, float]:
    """Figures by `what/metric`, for instance `interpolated trigram/bits_per_char`; empty for a task without any."""
    if task not in BASELINES or "test" not in data.rows:
        return {}
    train = data.rows["train"]
    some = limited(train, MOST_ROWS, seed=data.split_seed) if task in CUT else train
    cut = "" if height(some) == height(train) else f" of {MOST_ROWS:,} rows"
    found = BASELINES[task](data, some, data.rows["test"])
    return {f"{what}{cut}/{name}": value for what, figures in found.items() for name, value in figures.items()}


OF_CHANCES = ("loss", "accuracy_top5", "calibration_error")
"""Figures that a guess alone does not give."""

Named = dict[str, dict[str, float]]
"""Figures of each simple model."""


def _values(figures: Figures) -> dict[str, float]:
    """Figures without their intervals. A metric's `compute` would wait for other ranks, and here there is one alone."""
    return {name: value for name, (value, _) in figures.items()}


def _lm(data: TextData, train: Columns, test: Columns) -> Named:
    """n-grams of the model's own tokens; of characters also one that sees as far as a word."""
    tokenizer = data.tokenizer
    assert tokenizer is not None
    known, asked = (Stream(rows["text"], tokenizer, length=1, train=False) for rows in (train, test))
    tokens = known.ids[-MOST_TOKENS:]
    of = f" of {MOST_TOKENS:,} tokens" if len(tokens) < len(known.ids) else ""
    sizes = torch.from_numpy(asked.sizes[1:].sum(0, keepdims=True))  # nothing stands before the first token
    found = {}
    for name, order in {"trigram": 3, **({"6-gram": 6} if tokenizer.kind == "chars" else {})}.items():
        nats = ngram(tokens, asked.ids, vocab_size=tokenizer.vocab_size, order=order)[1:]
        metric = LanguageMetrics()
        count, total = torch.tensor([len(nats)]), torch.tensor([nats.sum()]).float()
        metric.update(total, count, chars=sizes[:, 0], bytes=sizes[:, 1], words=sizes[:, 2])
        found[f"interpolated {name}{of}"] = _values(metric.with_intervals())
    return found


def _mlm(data: TextData, train: Columns, test: Columns) -> Named:
    """The most frequent token, and the frequencies of all."""
    tokenizer = data.tokenizer
    assert tokenizer is not None
    known, asked = (np.concatenate([np.array(i, np.int64) for i in tokenizer.encode(r["text"])]) for r in (train, test))
    share, nats = unigram(known[-MOST_TOKENS:], asked, vocab_size=tokenizer.vocab_size)
    return {"unigram": {"masked_accuracy": share, "loss": float(nats.mean()), "perplexity": float(np.exp(nats.mean()))}}


def _text_classify(data: TextData, train: Columns, test: Columns) -> Named:
    texts = [name for name in ("text", "pair") if name in train]
    val = data.rows.get("val") or train
    labels = [np.array(rows["label"]) for rows in (train, val)]
    guess, _ = tfidf_logistic(
        [train[name] for name in texts], labels[0], [val[name] for name in texts], labels[1], [test[n] for n in texts]
    )
    label, group = torch.tensor(test["label"]), torch.tensor(test["group"]) if data.groups else None
    metric = LabelMetrics(data.num_classes, groups=tuple(data.groups))
    metric.update(one_hot(torch.from_numpy(guess), data.num_classes).float(), label, torch.zeros(len(guess)), group)
    figures = metric.compute()
    return {"TF-IDF regression": {name: value for name, value in figures.items() if name not in OF_CHANCES}}


def _text_regress(data: TextData, train: Columns, test: Columns) -> Named:
    if "pair" not in train:
        return {}
    alike = tfidf_cosine([train["text"], train["pair"]], [test["text"], test["pair"]])
    figures = score_figures(alike, np.array(test["score"], float))
    return {"TF-IDF cosine": {name: figures[name][0] for name in ("pearson", "spearman")}}


def _tag(data: TextData, train: Columns, test: Columns) -> Named:
    guess = frequent_tags(train["words"], train["tags"], test["words"])
    said, true = ([[data.classes[tag] for tag in tags] for tags in rows] for rows in (guess, test["tags"]))
    figures = entity_figures(said, true, test["words"])
    return {"most frequent tag": {name: value for name, (value, _) in figures.items() if "/" not in name}}


def _translate(data: TextData, train: Columns, test: Columns) -> Named:
    figures, _ = translation_figures(test["source"], test["target"], intervals=False)
    return {"copying the source": _values(figures)}


BASELINES: dict[str, Callable[[TextData, Columns, Columns], Named]] = {
    "lm": _lm,
    "mlm": _mlm,
    "text_classify": _text_classify,
    "text_regress": _text_regress,
    "tag": _tag,
    "translate": _translate,
}
CUT = ("text_classify", "text_regress")
