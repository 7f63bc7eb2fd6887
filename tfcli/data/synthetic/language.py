"""Captions of synthetic scenes: lower-case words of a closed vocabulary, separated by spaces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tfcli.data.common.counter_rng import below, uniform
from tfcli.data.synthetic.objects import COLOUR, COLOURS, SHAPE, SHAPES, SIZE, SIZES, VALID
from tfcli.data.synthetic.relations import Said, may_say, relation

TEMPLATES = ("{}", "a photo of {}", "an image of {}", "there is {}")
CHOICES = 5  # number of random words per sentence


def captions(objects: np.ndarray, words: np.ndarray, *, said: Said = "any", chain: bool = False) -> list[str]:
    """Return one caption per scene: an object, or two objects and the relation along the larger gap between them.

    Half of the captions begin with `a photo of`, `an image of` or `there is`, so that the prompts of zero-shot
    classification occur in training. Sizes are named half of the time.

    Args:
        objects: (B, k, 7): colour, shape, size, x, y, depth, valid.
        words: (B, `CHOICES` or more) random words.
        said: which combinations of a pair and a relation may be stated; where a scene has none, one object is named.
        chain: name all objects, each with its relation to the next.
    """
    bare = uniform(words[:, 0]) < 0.5
    template = np.where(bare, 0, 1 + below(words[:, 1], len(TEMPLATES) - 1))
    named = uniform(words[:, 2:4]) < 0.5
    sentences = []
    for scene, kind, sizes, draw in zip(
        objects.tolist(), template.tolist(), named.tolist(), uniform(words[:, 4]).tolist(), strict=True
    ):
        there = [row for row in scene if row[VALID]]
        mentioned = there if chain else _related(there, said, draw)
        text = an(phrase(mentioned[0], size=sizes[0]))
        for i, (a, b) in enumerate(pairwise(mentioned), 1):
            text += f" {relation(a, b)} {an(phrase(b, size=sizes[i % 2]))}"
        sentences.append(TEMPLATES[kind].format(text))
    return sentences


def _related(there: Sequence[Sequence[int]], said: Said, draw: float) -> Sequence[Sequence[int]]:
    """Return the objects that a caption names: two whose relation may be stated, or one."""
    if said == "any":
        options = [(there[0], other) for other in there[1:]]
    else:
        options = [(a, b) for a in there for b in there if a is not b and may_say(a, relation(a, b), said)]
    return options[int(draw * len(options))] if options else there[:1]


def phrase(row: Sequence[int], *, size: bool = False) -> str:
    """Return the name of an object, such as `red circle`, or `small red circle` with its size."""
    pair = f"{COLOURS[row[COLOUR]]} {SHAPES[row[SHAPE]]}"
    return f"{SIZES[row[SIZE]]} {pair}" if size else pair


def an(text: str) -> str:
    """Return a name with `a` or `an` before it."""
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def plural(shape: str) -> str:
    """Return the plural of a shape (or of `object`)."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"
