"""Counting tokens: the n-gram model that a language model must beat, and the most frequent token."""

from __future__ import annotations

import numpy as np

from tfcli.shapes import Float, Int

BUCKETS = 24  # contexts seen as often, by powers of two, share their weights
ROUNDS = 60  # of expectation maximisation at most, which ends when a token gains less than
ENOUGH = 1e-4  # nats by one


def ngram(
    train: Int[np.ndarray, "N"],
    test: Int[np.ndarray, "M"],
    *,
    vocab_size: int,
    order: int = 3,
    held_out_fraction: float = 0.1,
) -> Float[np.ndarray, "M"]:
    """Nats of each test token by an interpolated n-gram model (Jelinek and Mercer 1980).

    The share of each order hangs on how often its context was seen. The weights are fitted on the end of the training
    tokens by counts of the rest (deleted interpolation), by expectation maximisation; then all of them are counted.

    Args:
        train, test: tokens in line.
        vocab_size: V; a token that was never seen has a share of 1 / V of what is left.
        order: n, the tokens of which the last is predicted: 1 unigrams, 3 trigrams.
        held_out_fraction: of the training tokens, at their end.
    """
    cut = len(train) - max(1, round(held_out_fraction * len(train)))
    shares, seen = _shares(train[:cut], train[cut:], vocab_size=vocab_size, order=order)
    weights = _fitted(shares, seen, vocab_size)
    shares, seen = _shares(train, test, vocab_size=vocab_size, order=order)
    return -np.log(_chances(shares, seen, weights, vocab_size)[-1])


def unigram(
    train: Int[np.ndarray, "N"], target: Int[np.ndarray, "M"], *, vocab_size: int
) -> tuple[float, Float[np.ndarray, "M"]]:
    """Return how often the most frequent training token is right, and the nats of each target under unigram counts.

    A model of masked tokens that sees nothing around them can do no better.
    """
    frequent = np.bincount(train, minlength=vocab_size).argmax()
    return float((target == frequent).mean()), ngram(train, target, vocab_size=vocab_size, order=1)


def _shares(
    train: np.ndarray, test: np.ndarray, *, vocab_size: int, order: int
) -> tuple[Float[np.ndarray, "n M"], Int[np.ndarray, "n M"]]:
    """For every order the share of each test token after its context in training, and how often that was seen.

    A context is the number of the gram before it among those of its length; -1 where training has none.
    """
    context, here = np.zeros(len(train), np.int64), np.zeros(len(test), np.int64)
    shares, seen = np.zeros((order, len(test))), np.zeros((order, len(test)), np.int64)
    for level in range(order):
        known = context >= 0
        if not known.any():  # training is shorter than such a gram
            break
        grams, gram, count = np.unique(
            context[known] * vocab_size + train[known], return_inverse=True, return_counts=True
        )
        total = np.bincount(context[known], minlength=int(here.max()) + 1)
        wanted = np.where(here >= 0, here * vocab_size + test, -1)
        place = np.minimum(np.searchsorted(grams, wanted), len(grams) - 1)
        hit = grams[place] == wanted
        seen[level] = np.where(here >= 0, total[here], 0)
        shares[level] = np.where(hit, count[place], 0) / np.maximum(seen[level], 1)
        whole = np.full(len(train), -1, np.int64)
        whole[known] = gram
        context, here = _before(whole), _before(np.where(hit, place, -1))
    return shares, seen


def _before(gram: np.ndarray) -> np.ndarray:
    """The gram that ends before each place; -1 at the first."""
    return np.concatenate([[-1], gram[:-1]])


def _buckets(seen: np.ndarray) -> np.ndarray:
    return np.minimum(np.ceil(np.log2(seen + 1)).astype(np.int64), BUCKETS - 1)


def _chances(shares: np.ndarray, seen: np.ndarray, weights: np.ndarray, vocab_size: int) -> Float[np.ndarray, "n1 M"]:
    """Of every order from none (each token alike) up, the chances of the tokens, mixed with the order below."""
    chances = [np.full(shares.shape[1], 1 / vocab_size)]
    for share, weight, bucket in zip(shares, weights, _buckets(seen), strict=True):
        chances.append(weight[bucket] * share + (1 - weight[bucket]) * chances[-1])
    return np.stack(chances)


def _fitted(shares: np.ndarray, seen: np.ndarray, vocab_size: int) -> Float[np.ndarray, "n buckets"]:
    """The weights of each order by how often its context was seen, most likely on these tokens."""
    order, buckets = len(shares), _buckets(seen)
    weights = np.full((order, BUCKETS), 0.5)
    weights[:, 0] = 0.0  # of a context that was never seen
    before = np.inf
    for _ in range(ROUNDS):
        chances = _chances(shares, seen, weights, vocab_size)
        now = -np.log(chances[-1]).mean()
        if before - now < ENOUGH:
            break
        before = now
        left = np.ones(shares.shape[1])  # of each token what the orders above do not explain
        for level in reversed(range(order)):
            mine = left * weights[level, buckets[level]] * shares[level] / chances[level + 1]
            sums = np.stack([np.bincount(buckets[level], w, BUCKETS) for w in (mine, left)])
            weights[level] = np.divide(sums[0], sums[1], out=weights[level], where=sums[1] > 0)
            left = left - mine
        weights = np.minimum(weights, 1 - 1e-6)  # a token that the end happens not to need must stay possible
    return weights
