"""Baselines for texts: simple models with the figures of the task, by `method/figure`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.functional import one_hot

from tfcli.data.columns.splits import limited
from tfcli.data.common.rows import Columns, height
from tfcli.data.module import DataModule
from tfcli.data.texts.tokens import Tokens, running_text, sentences
from tfcli.data.views.masked import SENTENCES
from tfcli.metrics.bleu import translation_figures
from tfcli.metrics.entities import entity_figures
from tfcli.metrics.glue import LabelMetrics, score_figures
from tfcli.metrics.intervals import Figures
from tfcli.metrics.language import LanguageMetrics
from tfcli.tasks.baselines.classes import NOT_OF_A_GUESS
from tfcli.tasks.baselines.ngram import ngram, unigram
from tfcli.tasks.baselines.wordcounts import frequent_tags, tfidf_cosine, tfidf_logistic
from tfcli.text.tokenizer import Tokenizer

MOST_ROWS = 70_000
MOST_TOKENS = 5_000_000
MOST_TESTED = 1_000_000
"""Limits on the training rows and tokens that are counted, and on the test tokens that are predicted.

A figure's name says so if one is exceeded.
"""


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


def _ids(data: DataModule, array: str, encode: Callable[[list[Any], Tokenizer], Tokens]) -> tuple[Tokens, Tokens, str]:
    """Return the tokens of train and test, and a suffix for the figures' names if some of them are left out.

    Args:
        data: the data, whose samples may have the tokens already.
        array: name of an array that the tokens must have.
        encode: makes tokens of the texts of a split, where the samples have others.
    """

    def of_split(split: str) -> Tokens:
        tokens = getattr(data.samples(split), "tokens", None)
        if isinstance(tokens, Tokens) and array in tokens.arrays:
            return tokens
        return encode(data.rows[split]["text"], data.tokenizer)

    train, test = of_split("train"), of_split("test")
    of = f" of {MOST_TOKENS:,} tokens" if len(train["ids"]) > MOST_TOKENS else ""
    on = f" on the first {MOST_TESTED:,} test tokens" if len(test["ids"]) > MOST_TESTED else ""
    return train, test, of + on


def _counted(train: Tokens, test: Tokens) -> tuple[np.ndarray, np.ndarray]:
    return train["ids"][-MOST_TOKENS:].astype(np.int64), test["ids"][:MOST_TESTED].astype(np.int64)


def language_baselines(data: DataModule) -> dict[str, float]:
    """Measure trigrams of the model's tokens; for characters also 6-grams, which cover about a word."""
    tokenizer = data.tokenizer
    assert tokenizer is not None
    train, test, some = _ids(data, "sizes", running_text)
    tokens, targets = _counted(train, test)
    sizes = torch.from_numpy(test["sizes"][1:MOST_TESTED].sum(0, keepdims=True, dtype=np.int64))  # not of the first
    found: dict[str, float] = {}
    for name, order in {"trigram": 3, **({"6-gram": 6} if tokenizer.kind == "chars" else {})}.items():
        nats = ngram(tokens, targets, vocab_size=tokenizer.vocab_size, order=order)[1:]
        metric = LanguageMetrics()
        count, total = torch.tensor([len(nats)]), torch.tensor([nats.sum()]).float()
        metric.update(total, count, chars=sizes[:, 0], bytes=sizes[:, 1], words=sizes[:, 2])
        found |= _named(f"interpolated {name}{some}", _values(metric.with_intervals()))
    return found


def masked_baselines(data: DataModule) -> dict[str, float]:
    """Measure the most frequent token and the unigram frequencies."""
    tokenizer = data.tokenizer
    assert tokenizer is not None
    train, test, some = _ids(data, "sentences", partial(sentences, boundary=SENTENCES))
    share, nats = unigram(*_counted(train, test), vocab_size=tokenizer.vocab_size)
    loss = float(nats.mean())
    return _named(f"unigram{some}", {"masked_accuracy": share, "loss": loss, "perplexity": float(np.exp(loss))})


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
