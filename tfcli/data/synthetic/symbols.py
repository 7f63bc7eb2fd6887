"""Synthetic symbol tasks: reversal of strings, numbers from words to digits, and maps that are learned in context."""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase
from typing import Annotated

import numpy as np

from tfcli.bounds import Bounds, Count
from tfcli.data.common.counter_rng import below, fields, hash64, uniform
from tfcli.data.common.rows import Columns
from tfcli.errors import ConfigError

WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen - - twenty thirty forty fifty sixty seventy eighty ninety"""
ONES, TENS = WORDS.split()[:20], WORDS.split()[20:]
LETTERS = 16
"""Number of small letters, and of large letters to which they map, in `symbol_maps`."""
HELD_OUT = 0.15
"""Fraction of the pairs of tens and ones that occur only in the split `comp`."""


def reversal(
    seed: int,
    split: str,
    indices: np.ndarray,
    *,
    symbols: Annotated[int, Bounds(low=1, high=26)] = 20,
    shortest: Count = 4,
    longest: Count = 12,
) -> Columns:
    """Make strings of letters and their reversals, `c a d` and `d a c`, with uniform lengths.

    A recurrent model without attention must hold the whole string in one vector.

    Args:
        seed, split, indices: seed, split and indices of the rows.
        symbols: number of different letters, at most 26.
        shortest, longest: smallest and largest number of letters in a string.

    Raises:
        ConfigError: a number is out of range.
    """
    if not 1 <= symbols <= 26 or not 1 <= shortest <= longest:
        raise ConfigError(
            f"`data.symbols` must be in 1..26 and `data.shortest` at most `data.longest`, but they are {symbols}, "
            f"{shortest} and {longest}."
        )
    words = fields(seed, f"reversal {split}", indices, 1 + longest)
    lengths = shortest + below(words[:, 0], longest - shortest + 1)
    letters = below(words[:, 1:], symbols)
    source = [" ".join(ascii_lowercase[c] for c in row[:n]) for row, n in zip(letters, lengths, strict=True)]
    return {"source": source, "target": [text[::-1] for text in source]}


def number_words(
    seed: int, split: str, indices: np.ndarray, *, digits: Annotated[int, Bounds(low=3, high=6)] = 6
) -> Columns:
    """Make numbers in English words and in digits: `forty two thousand six` and `4 2 0 0 6`.

    Some pairs of tens and ones (`forty two`) never occur in training, validation and test, but in every number of
    `comp`, which measures compositional generalisation.

    Args:
        seed, split, indices: seed, split and indices of the rows.
        digits: largest number of digits, 3 to 6; lengths from 3 digits on are equally frequent.

    Raises:
        ConfigError: `digits` is out of range.
    """
    if not 3 <= digits <= 6:
        raise ConfigError(f"`data.digits` must be in 3..6, but is {digits}.")
    numbers = np.zeros(len(indices), dtype=np.int64)
    wrong, attempt = np.ones(len(indices), dtype=bool), 0
    while wrong.any():
        words = fields(seed, f"numbers {split} {attempt}", indices[wrong], 2)
        least = 10 ** (2 + below(words[:, 0], digits - 2))
        numbers[wrong] = least + below(words[:, 1], 9 * least)
        wrong, attempt = held_out(seed, numbers) != (split == "comp"), attempt + 1
    found = numbers.tolist()
    return {"source": [spelled(number) for number in found], "target": [" ".join(str(number)) for number in found]}


def held_out(seed: int, numbers: np.ndarray) -> np.ndarray:
    """Return whether each number has a held-out pair of tens and ones, (N,) bool."""
    found = np.zeros(len(numbers), dtype=bool)
    for group in (numbers % 100, numbers // 1000 % 100):
        pairs = (group >= 20) & (group % 10 > 0)
        found |= pairs & (uniform(hash64(seed, "held out numbers", group)) < HELD_OUT)
    return found


def spelled(number: int) -> str:
    """Return a number below a million in words, without `and` and hyphens."""
    if number >= 1000:
        rest = number % 1000
        return f"{spelled(number // 1000)} thousand" + (f" {spelled(rest)}" if rest else "")
    if number >= 100:
        rest = number % 100
        return f"{ONES[number // 100]} hundred" + (f" {spelled(rest)}" if rest else "")
    if number >= 20:
        return TENS[number // 10] + (f" {ONES[number % 10]}" if number % 10 else "")
    return ONES[number]


def symbol_maps(
    seed: int,
    split: str,
    indices: np.ndarray,
    *,
    keys: Annotated[int, Bounds(low=2, high=16)] = 3,
    most_keys: Annotated[int, Bounds(low=1, high=16)] = 8,
    pairs: Annotated[int, Bounds(low=2)] = 24,
) -> Columns:
    """Make texts of pairs, `c K a B c K`, in which each small letter maps to one large letter, with a new map per text.

    A map cannot be learned beforehand: a model must read it in the text. K demonstrations include the letter of the
    question with probability 1 - (1 - 1/keys)^K, and no model can do better than this plus a guess. Training texts have
    from one to `most_keys` small letters: a text with one letter only repeats itself, and from these easy texts models
    learn to look a letter up. With the same number in all texts, most models only guess among the letters of the text.

    Args:
        seed, split, indices: seed, split and indices of the rows.
        keys: number of different small letters in a text outside training.
        most_keys: largest number of different small letters in a training text.
        pairs: number of pairs in a text.

    Returns:
        The column text; outside training also the last pair as a question (source, label) and the other pairs as its
        demonstrations.

    Raises:
        ConfigError: a number is out of range.
    """
    if not 2 <= keys <= LETTERS or not 1 <= most_keys <= LETTERS or pairs < 2:
        raise ConfigError(
            f"`data.keys` must be in 2..{LETTERS}, `data.most_keys` in 1..{LETTERS} and `data.pairs` at least 2, but "
            f"they are {keys}, {most_keys} and {pairs}."
        )
    images = below(fields(seed, f"maps {split}", indices, LETTERS), LETTERS)
    order = np.argsort(fields(seed, f"keys {split}", indices, LETTERS), axis=1)
    count = keys if split != "train" else 1 + below(fields(seed, "count", indices, 1), most_keys)
    asked = np.take_along_axis(order, below(fields(seed, f"pairs {split}", indices, pairs), count), axis=1)
    values = np.take_along_axis(images, asked, axis=1)
    sequences = [list(zip(*row, strict=True)) for row in zip(asked.tolist(), values.tolist(), strict=True)]
    text = [" ".join(f"{ascii_lowercase[x]} {ascii_uppercase[y]}" for x, y in pairs) for pairs in sequences]
    if split == "train":
        return {"text": text}
    shown = [[{"source": ascii_lowercase[x], "label": y} for x, y in pairs] for pairs in sequences]
    last = {name: [row[-1][name] for row in shown] for name in ("source", "label")}
    return {"text": text, **last, "demonstrations": [row[:-1] for row in shown]}
