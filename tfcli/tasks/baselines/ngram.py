"""Baselines for language models: an interpolated n-gram model and the most frequent token."""

from __future__ import annotations

import numpy as np

from tfcli.shapes import Float, Int

BUCKETS = 24
"""Number of frequency classes of contexts, by powers of two; the contexts of a class share their weights."""
ROUNDS = 60
"""Largest number of rounds of expectation maximisation."""
ENOUGH = 1e-4
"""Improvement per round, in nats per token, below which expectation maximisation ends."""


def ngram(
    train: Int[np.ndarray, "N"],
    test: Int[np.ndarray, "M"],
    *,
    vocab_size: int,
    order: int = 3,
    held_out_fraction: float = 0.1,
) -> Float[np.ndarray, "M"]:
    """Return the nats of each test token under an interpolated n-gram model (Jelinek and Mercer 1980).

    The weight of each order depends on the frequency of its context. The weights are fitted by expectation maximisation
    on the end of the training tokens, with counts of the rest (deleted interpolation); then all tokens are counted.

    Args:
        train, test: consecutive tokens.
        vocab_size: V; the lowest order is the uniform distribution 1 / V.
        order: n, the length of the n-grams: 1 unigrams, 3 trigrams.
        held_out_fraction: share of the training tokens, at their end, on which the weights are fitted.
    """
    cut = len(train) - max(1, round(held_out_fraction * len(train)))
    shares, counts = _shares(train[:cut], train[cut:], vocab_size=vocab_size, order=order)
    weights = _fit_weights(shares, counts, vocab_size)
    shares, counts = _shares(train, test, vocab_size=vocab_size, order=order)
    return -np.log(_probabilities(shares, counts, weights, vocab_size)[-1])


def unigram(
    train: Int[np.ndarray, "N"], target: Int[np.ndarray, "M"], *, vocab_size: int
) -> tuple[float, Float[np.ndarray, "M"]]:
    """Return the accuracy of the most frequent training token, and the nats of each target under unigram counts.

    A masked language model that ignores the context cannot do better.
    """
    frequent = np.bincount(train, minlength=vocab_size).argmax()
    return float((target == frequent).mean()), ngram(train, target, vocab_size=vocab_size, order=1)


def _shares(
    train: np.ndarray, test: np.ndarray, *, vocab_size: int, order: int
) -> tuple[Float[np.ndarray, "n M"], Int[np.ndarray, "n M"]]:
    """Return for each order the relative frequency of each test token after its context, and the context's count.

    A context is the index of an n-gram among all n-grams of its length; -1 where training has none.
    """
    context, here = np.zeros(len(train), np.int64), np.zeros(len(test), np.int64)
    shares, counts = np.zeros((order, len(test))), np.zeros((order, len(test)), np.int64)
    for level in range(order):
        known = context >= 0
        if not known.any():  # training is shorter than the n-gram
            break
        grams, gram, count = np.unique(
            context[known] * vocab_size + train[known], return_inverse=True, return_counts=True
        )
        total = np.bincount(context[known], minlength=int(here.max()) + 1)
        wanted = np.where(here >= 0, here * vocab_size + test, -1)
        place = np.minimum(np.searchsorted(grams, wanted), len(grams) - 1)
        hit = grams[place] == wanted
        counts[level] = np.where(here >= 0, total[here], 0)
        shares[level] = np.where(hit, count[place], 0) / np.maximum(counts[level], 1)
        grams_at = np.full(len(train), -1, np.int64)
        grams_at[known] = gram
        context, here = _previous(grams_at), _previous(np.where(hit, place, -1))
    return shares, counts


def _previous(gram: np.ndarray) -> np.ndarray:
    """Return the n-gram that ends before each place; -1 for the first place."""
    return np.concatenate([[-1], gram[:-1]])


def _buckets(counts: np.ndarray) -> np.ndarray:
    return np.minimum(np.ceil(np.log2(counts + 1)).astype(np.int64), BUCKETS - 1)


def _probabilities(
    shares: np.ndarray, counts: np.ndarray, weights: np.ndarray, vocab_size: int
) -> Float[np.ndarray, "n1 M"]:
    """Return the tokens' probabilities for each order, from uniform upwards, interpolated with the order below."""
    found = [np.full(shares.shape[1], 1 / vocab_size)]
    for share, weight, bucket in zip(shares, weights, _buckets(counts), strict=True):
        found.append(weight[bucket] * share + (1 - weight[bucket]) * found[-1])
    return np.stack(found)


def _fit_weights(shares: np.ndarray, counts: np.ndarray, vocab_size: int) -> Float[np.ndarray, "n buckets"]:
    """Return the maximum-likelihood weights of each order by the frequency class of its context."""
    order, buckets = len(shares), _buckets(counts)
    weights = np.full((order, BUCKETS), 0.5)
    weights[:, 0] = 0.0  # contexts that never occurred
    before = np.inf
    for _ in range(ROUNDS):
        found = _probabilities(shares, counts, weights, vocab_size)
        now = -np.log(found[-1]).mean()
        if before - now < ENOUGH:
            break
        before = now
        left = np.ones(shares.shape[1])  # share of each token that the higher orders do not explain
        for level in reversed(range(order)):
            explained = left * weights[level, buckets[level]] * shares[level] / found[level + 1]
            sums = np.stack([np.bincount(buckets[level], w, BUCKETS) for w in (explained, left)])
            weights[level] = np.divide(sums[0], sums[1], out=weights[level], where=sums[1] > 0)
            left = left - explained
        weights = np.minimum(weights, 1 - 1e-6)  # the lower orders keep some probability
    return weights
