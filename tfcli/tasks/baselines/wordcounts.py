"""Baselines from counts of words and tags."""

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


def tfidf_logistic(
    train: Texts,
    train_label: Int[np.ndarray, "N"],
    val: Texts,
    val_label: Int[np.ndarray, "L"],
    test: Texts,
    *,
    costs: Sequence[float] = COSTS,
) -> tuple[Int[np.ndarray, "M"], float]:
    """Return the test classes of logistic regression on TF-IDF of words and bigrams, and the C chosen on validation.

    The features of a pair are the vectors of both texts, their product and their absolute difference. scikit-learn's
    solver stops after 300 iterations.

    Args:
        train, val, test: texts.
        train_label, val_label: their classes.
        costs: candidates for C, the inverse of the penalty.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    vectors = _vectorizer(train)
    x, x_val = _features(vectors, train), _features(vectors, val)
    x_test = _features(vectors, test)
    model = LogisticRegression(max_iter=300, warm_start=True)  # each C starts from the weights of the one before
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
    """Return the cosine of the TF-IDF vectors of the two texts of each pair; only the frequencies are learned."""
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
    """Return the most frequent training tag of each word; the most frequent of all tags for an unknown word."""
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for sentence, row in zip(words, tags, strict=True):
        for word, tag in zip(sentence, row, strict=True):
            counts[word][tag] += 1
    default = sum(counts.values(), Counter()).most_common(1)[0][0]
    best = {word: tags_of.most_common(1)[0][0] for word, tags_of in counts.items()}
    return [[best.get(word, default) for word in sentence] for sentence in test]
