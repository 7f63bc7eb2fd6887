"""Captions of scenes of coloured shapes: a closed vocabulary, lower case, words separated by spaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcli.data.common.counter_rng import below, uniform
from tfcli.data.synthetic.objects import COLOUR, COLOURS, SHAPE, SHAPES, SIZE, SIZES, VALID, X, Y

TEMPLATES = ("{}", "a photo of {}", "an image of {}", "there is {}")
CHOICES = 5  # hashed words that a sentence takes
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def captions(objects: np.ndarray, words: np.ndarray) -> list[str]:
    """Return one sentence a scene: an object, or two objects and the relation along the larger gap between them.

    Half of the sentences are bare and half say `a photo of`, `an image of` or `there is`; sizes are named half of the
    time. So the prompts of zero-shot classification are among the sentences that models see.

    Args:
        objects: (B, k, 7): colour, shape, size, x, y, depth, valid.
        words: (B, `CHOICES` or more) hashed words, the choices of each sentence.
    """
    bare = uniform(words[:, 0]) < 0.5
    template = np.where(bare, 0, 1 + below(words[:, 1], len(TEMPLATES) - 1))
    named = uniform(words[:, 2:4]) < 0.5
    second = 1 + below(words[:, 4], np.maximum(objects[:, :, VALID].sum(axis=1) - 1, 1))
    sentences = []
    for scene, kind, (size_a, size_b), other in zip(
        objects.tolist(), template.tolist(), named.tolist(), second.tolist(), strict=True
    ):
        text = an(phrase(scene[0], size=size_a))
        if sum(row[VALID] for row in scene) > 1:
            text = f"{text} {relation(scene[0], scene[other])} {an(phrase(scene[other], size=size_b))}"
        sentences.append(TEMPLATES[kind].format(text))
    return sentences


def phrase(row: Sequence[int], *, size: bool = False) -> str:
    """Return an object's name, `red circle`; with its size, `small red circle`."""
    pair = f"{COLOURS[row[COLOUR]]} {SHAPES[row[SHAPE]]}"
    return f"{SIZES[row[SIZE]]} {pair}" if size else pair


def an(text: str) -> str:
    """Return a name with `a` or `an` before it."""
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def plural(shape: str) -> str:
    """Return the word for several of a shape (or of `object`)."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def relation(a: Sequence[int], b: Sequence[int]) -> str:
    """Return where object `a` stands as seen from `b`, along the larger gap of their centres."""
    x, y = a[X] - b[X], a[Y] - b[Y]
    if abs(x) >= abs(y):
        return RELATIONS[0] if x < 0 else RELATIONS[1]
    return RELATIONS[2] if y < 0 else RELATIONS[3]
