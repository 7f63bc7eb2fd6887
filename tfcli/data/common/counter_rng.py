"""Counter-based random numbers: each number is a function of its address, never of what was drawn before it.


A counter hash (the finaliser of splitmix64, Steele, Lea and Flood 2014) over (seed, purpose, epoch, index, ...)
replaces generator objects: the order of an epoch, the augmentation of a sample and a synthetic scene can each be
computed alone, in any process and any order, and in whole batches.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

MASK = 0xFFFFFFFFFFFFFFFF
GOLDEN, _MULTIPLY_1, _MULTIPLY_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_UNDO_1, _UNDO_2 = (np.uint64(pow(factor, -1, 2**64)) for factor in (_MULTIPLY_1, _MULTIPLY_2))

Part = int | str | np.ndarray


def finalise(x: np.ndarray) -> np.ndarray:
    """Apply the splitmix64 finaliser, a bijection of 64-bit words in which every input bit affects every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MULTIPLY_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MULTIPLY_2)
    return x ^ (x >> np.uint64(31))


def _undo(x: np.ndarray) -> np.ndarray:
    """Return the words that `finalise` maps to `x`."""
    x = (x ^ (x >> np.uint64(31)) ^ (x >> np.uint64(62))) * _UNDO_2
    x = (x ^ (x >> np.uint64(27)) ^ (x >> np.uint64(54))) * _UNDO_1
    return x ^ (x >> np.uint64(30)) ^ (x >> np.uint64(60))


def _finalise_one(x: int) -> int:
    """Apply `finalise` to one word: an array of one word takes twenty times as long."""
    x = ((x ^ (x >> 30)) * _MULTIPLY_1) & MASK
    x = ((x ^ (x >> 27)) * _MULTIPLY_2) & MASK
    return x ^ (x >> 31)


@lru_cache(256)
def _name(part: str) -> int:
    return int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")


def _word(part: Part) -> int | np.ndarray:
    """Return one part of an address as a 64-bit word, or as an array of words."""
    if isinstance(part, str):
        return _name(part)
    return int(part) & MASK if isinstance(part, int | np.integer) else np.asarray(part).astype(np.uint64)


def _array(words: int | np.ndarray) -> np.ndarray:
    """Return words as an array of at least one dimension (scalars would warn on overflow)."""
    return np.atleast_1d(np.asarray(words, dtype=np.uint64))


def _state(parts: tuple[Part, ...]) -> int | np.ndarray:
    """Return the words of an address: one integer where it has no array."""
    state: int | np.ndarray = 0
    for part in parts:
        word = _word(part)
        if isinstance(state, int) and isinstance(word, int):
            state = _finalise_one(((state + GOLDEN) & MASK) ^ word)
        else:
            state = finalise((_array(state) + np.uint64(GOLDEN)) ^ _array(word))
    return state


def hash64(*parts: Part) -> np.ndarray:
    """Return random 64-bit words for an address of integers, names and arrays that broadcast; at least 1-D."""
    return _array(_state(parts))


def permutation(count: int, *parts: Part) -> np.ndarray:
    """Return 0..count-1 (N,) int64 in the order of their words: `np.argsort(hash64(*parts, np.arange(count)))`.

    Words of different numbers differ, and each tells its number: sorting words is ten times as fast as `argsort`.
    """
    words = hash64(*parts, np.arange(count))
    words.sort()
    return (_undo(words) ^ (hash64(*parts) + np.uint64(GOLDEN))).astype(np.int64)


def uniform(words: np.ndarray) -> np.ndarray:
    """Convert words to float64 in [0, 1), from their upper 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(words: np.ndarray, limit: int | np.ndarray) -> np.ndarray:
    """Convert words to int64 in [0, limit)."""
    return (uniform(words) * limit).astype(np.int64)


def fields(seed: int, stream: int | str, indices: np.ndarray, count: int) -> np.ndarray:
    """Return `count` independent random words for each index, (N, count)."""
    return hash64(seed, stream, np.asarray(indices)[:, None], np.arange(count)[None, :])


def seed_for(*parts: Part) -> int:
    """Return one non-negative 63-bit seed for a library's own generator."""
    state = _state(parts)
    return (state if isinstance(state, int) else int(state[0])) >> 1
