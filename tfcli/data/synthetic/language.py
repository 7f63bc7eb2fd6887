"""Captions of scenes of coloured shapes: a closed vocabulary, lower case, words separated by spaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcli.data.hashing import below, uniform

TEMPLATES = ("{}", "a photo of {}", "an image of {}", "there is {}")
CHOICES = 5  # hashed words that a sentence takes
RELATIONS = ("left of", "right of", "above", "below")


def captions(
    objects: np.ndarray, words: np.ndarray, colours: Sequence[str], shapes: Sequence[str], sizes: Sequence[str]
) -> list[str]:
    """One sentence a scene: an object, or two objects and the relation along the larger gap between them.

    Half of the sentences are bare and half say `a photo of`, `an image of` or `there is`; sizes are named half of the
    time. So the prompts of zero-shot classification are among the sentences that models see.

    Args:
        objects: (B, k, 7): colour, shape, size, x, y, depth, valid.
        words: (B, `CHOICES` or more) hashed words, the choices of each sentence.
        colours, shapes, sizes: names.
    """
    bare = uniform(words[:, 0]) < 0.5
    template = np.where(bare, 0, 1 + below(words[:, 1], len(TEMPLATES) - 1))
    named = uniform(words[:, 2:4]) < 0.5
    second = 1 + below(words[:, 4], np.maximum(objects[:, :, 6].sum(axis=1) - 1, 1))

    def phrase(row: np.ndarray, with_size: bool) -> str:
        first = f"{sizes[row[2]]} " if with_size else ""
        text = f"{first}{colours[row[0]]} {shapes[row[1]]}"
        return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"

    sentences = []
    for scene, kind, (size_a, size_b), other in zip(objects, template, named, second, strict=True):
        text = phrase(scene[0], size_a)
        if scene[:, 6].sum() > 1:
            text = f"{text} {relation(scene[0], scene[other])} {phrase(scene[other], size_b)}"
        sentences.append(TEMPLATES[kind].format(text))
    return sentences


def relation(a: np.ndarray, b: np.ndarray) -> str:
    """Return where object `a` stands as seen from `b`, along the larger gap of their centres."""
    x, y = a[3] - b[3], a[4] - b[4]
    if abs(x) >= abs(y):
        return RELATIONS[0] if x < 0 else RELATIONS[1]
    return RELATIONS[2] if y < 0 else RELATIONS[3]


def vocabulary(colours: Sequence[str], shapes: Sequence[str], sizes: Sequence[str]) -> list[str]:
    """Every word that can occur, sorted."""
    text = " ".join([*colours, *shapes, *sizes, *RELATIONS, *(t.replace("{}", "") for t in TEMPLATES), "a an"])
    return sorted(set(text.split()))
