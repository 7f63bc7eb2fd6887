"""Baselines for texts: simple models with the figures of the task, by `method/figure`."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import one_hot

from tfcli.data.columns.splits import limited
from tfcli.data.common.rows import Columns, height
from tfcli.data.module import DataModule
from tfcli.data.texts.tokens import sentences
from tfcli.data.views.masked import SENTENCES
from tfcli.data.views.streams import Stream
from tfcli.metrics.bleu import translation_figures
from tfcli.metrics.entities import entity_figures
from tfcli.metrics.glue import LabelMetrics, score_figures
from tfcli.metrics.intervals import Figures
from tfcli.metrics.language import LanguageMetrics
from tfcli.tasks.baselines.classes import NOT_OF_A_GUESS
from tfcli.tasks.baselines.ngram import ngram, unigram
from tfcli.tasks.baselines.wordcounts import frequent_tags, tfidf_cosine, tfidf_logistic

MOST_ROWS = 70_000
MOST_TOKENS = 5_000_000
"""Limits on the training rows and tokens that are counted; a figure's name says so if they are exceeded."""


def _rows(data: DataModule) -> tuple[Columns, str]:
    """Return at most `MOST_ROWS` training rows, and a suffix for the figures' names if some were left out."""
    train = data.rows["train"]
    some = limited(train, MOST_ROWS, seed=data.split_seed)
    return some, "" if height(some) == height(train) else f" of {MOST_ROWS:,} rows"


def _named(method: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{method}/{name}": value for name, value in figures.items()}


def _values(figures: Figures) -> dict[str, float]:
    """Return figures without intervals; a metric's `compute` would wait for other ranks, and one rank calls this."""
    return {name: value for name, (value, _) in figures.items()}


def language_baselines(data: DataModule) -> dict[str, float]:
    """Measure trigrams of the model's tokens; for characters also 6-grams, which cover about a word."""
    tokenizer = data.tokenizer
    assert tokenizer is not None
    train, test = (Stream(data.rows[split]["text"], tokenizer, length=1, train=False) for split in ("train", "test"))
    tokens, targets = (stream.ids[start:].astype(np.int64) for stream, start in ((train, -MOST_TOKENS), (test, 0)))
    of = f" of {MOST_TOKENS:,} tokens" if len(tokens) < len(train.ids) else ""
    sizes = torch.from_numpy(test.sizes[1:].sum(0, keepdims=True, dtype=np.int64))  # the first token is not predicted
    found: dict[str, float] = {}
    for name, order in {"trigram": 3, **({"6-gram": 6} if tokenizer.kind == "chars" else {})}.items():
        nats = ngram(tokens, targets, vocab_size=tokenizer.vocab_size, order=order)[1:]
        metric = LanguageMetrics()
        count, total = torch.tensor([len(nats)]), torch.tensor([nats.sum()]).float()
        metric.update(total, count, chars=sizes[:, 0], bytes=sizes[:, 1], words=sizes[:, 2])
        found |= _named(f"interpolated {name}{of}", _values(metric.with_intervals()))
    return found


def masked_baselines(data: DataModule) -> dict[str, float]:
    """Measure the most frequent token and the unigram frequencies."""
    tokenizer = data.tokenizer
    assert tokenizer is not None
    train, test = (sentences(data.rows[s]["text"], tokenizer, SENTENCES)["ids"] for s in ("train", "test"))
    tokens, targets = train[-MOST_TOKENS:].astype(np.int64), test.astype(np.int64)
    share, nats = unigram(tokens, targets, vocab_size=tokenizer.vocab_size)
    loss = float(nats.mean())
    return _named("unigram", {"masked_accuracy": share, "loss": loss, "perplexity": float(np.exp(loss))})


def label_baselines(data: DataModule) -> dict[str, float]:
    """Measure logistic regression on TF-IDF vectors."""
    (train, cut), test = _rows(data), data.rows["test"]
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
    kept = {name: value for name, value in figures.items() if name not in NOT_OF_A_GUESS}
    return _named(f"TF-IDF regression{cut}", kept)


def score_baselines(data: DataModule) -> dict[str, float]:
    """Measure the cosine of the TF-IDF vectors of two texts; return nothing where rows are single texts."""
    (train, cut), test = _rows(data), data.rows["test"]
    if "pair" not in train:
        return {}
    cosine = tfidf_cosine([train["text"], train["pair"]], [test["text"], test["pair"]])
    figures = score_figures(cosine, np.array(test["score"], float))
    return _named(f"TF-IDF cosine{cut}", {name: figures[name][0] for name in ("pearson", "spearman")})


def tag_baselines(data: DataModule) -> dict[str, float]:
    """Measure the most frequent training tag of each word."""
    train, test = data.rows["train"], data.rows["test"]
    tags = frequent_tags(train["words"], train["tags"], test["words"])
    guess, true = ([[data.classes[tag] for tag in row] for row in rows] for rows in (tags, test["tags"]))
    figures = entity_figures(guess, true, test["words"])
    return _named("most frequent tag", {name: value for name, (value, _) in figures.items() if "/" not in name})


def translation_baselines(data: DataModule) -> dict[str, float]:
    """Measure untranslated sources as translations."""
    test = data.rows["test"]
    figures, _ = translation_figures(test["source"], test["target"], intervals=False)
    return _named("copying the source", _values(figures))
