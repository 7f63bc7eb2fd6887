"""Baselines from word counts, beside which a language model's results stand."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcli.shapes import Float, Int

COSTS = (0.3, 1.0, 3.0, 10.0)
TOKEN = r"\w+|[^\w\s]"
Texts = Sequence[Sequence[str]]
"""One column of texts, or the two columns of pairs."""


def majority(train_label: Int[np.ndarray, "N"], count: int) -> Int[np.ndarray, "M"]:
    """The most frequent class of training, `count` times."""
    return np.full(count, np.bincount(train_label).argmax())


def tfidf_logistic(
    train: Texts,
    train_label: Int[np.ndarray, "N"],
    val: Texts,
    val_label: Int[np.ndarray, "L"],
    test: Texts,
    *,
    costs: Sequence[float] = COSTS,
) -> tuple[Int[np.ndarray, "M"], float]:
    """Classes by logistic regression on TF-IDF of words and pairs of words, and the C that validation chose.

    Of pairs of texts both, and the product and difference of the two. scikit-learn's solver is stopped after 300
    iterations.

    Args:
        train, val, test: the texts.
        train_label, val_label: their classes.
        costs: values of C to choose from, the inverse of the penalty.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    vectors = _vectorizer(train)
    x, x_val = _features(vectors, train), _features(vectors, val)
    x_test = _features(vectors, test)
    model = LogisticRegression(max_iter=300, warm_start=True)  # each C begins with the weights of the one before
    best, guess, chosen = -1.0, np.zeros(0, np.int64), 0.0
    for cost in sorted(costs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=cost).fit(x, train_label)
        score = float((model.predict(x_val) == val_label).mean())
        if score > best:
            best, guess, chosen = score, model.predict(x_test), cost
    return guess, chosen


def tfidf_cosine(train: Texts, test: Texts) -> Float[np.ndarray, "M"]:
    """Return the cosine of the TF-IDF vectors of the two texts of each pair. Only the frequencies are learnt."""
    vectors = _vectorizer(train)
    a, b = (vectors.transform(column) for column in test)
    return np.asarray(a.multiply(b).sum(1)).ravel()


def _vectorizer(train: Texts) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    rare = 2 if len(train[0]) > 1000 else 1
    vectors = TfidfVectorizer(token_pattern=TOKEN, ngram_range=(1, 2), min_df=rare, sublinear_tf=True)
    return vectors.fit([text for column in train for text in column])


def _features(vectors: Any, texts: Texts) -> Any:
    from scipy.sparse import hstack

    parts = [vectors.transform(column) for column in texts]
    if len(parts) == 2:
        parts += [parts[0].multiply(parts[1]), abs(parts[0] - parts[1])]
    return hstack(parts).tocsr()


def frequent_tags(
    words: Sequence[Sequence[str]], tags: Sequence[Sequence[int]], test: Sequence[Sequence[str]]
) -> list[list[int]]:
    """The tag that each word has most often in training; of a word that it lacks the most frequent of all tags."""
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for sentence, row in zip(words, tags, strict=True):
        for word, tag in zip(sentence, row, strict=True):
            counts[word][tag] += 1
    usual = sum(counts.values(), Counter()).most_common(1)[0][0]
    best = {word: seen.most_common(1)[0][0] for word, seen in counts.items()}
    return [[best.get(word, usual) for word in sentence] for sentence in test]
