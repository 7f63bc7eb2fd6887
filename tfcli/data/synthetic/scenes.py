"""All columns of synthetic scenes: images and related data, and texts about them."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tfcli.data.common.counter_rng import hash64, uniform
from tfcli.data.synthetic import expressions, questions, statements
from tfcli.data.synthetic.language import CHOICES, captions
from tfcli.data.synthetic.objects import CAPTION_WORDS, HELD_OUT, SHAPES, VALID
from tfcli.data.synthetic.pictures import Pictures
from tfcli.data.synthetic.relations import Said
from tfcli.data.synthetic.rendering import coverings, look_up

WORDINGS = 5  # sentences about a scene


class Scenes(Pictures):
    """A batch of scenes with all their columns; the arguments are those of `Pictures`."""

    def _draws(self, purpose: str, count: int) -> list[list[float]]:
        """Return random numbers in [0, 1) for the question, expression or statement of each scene."""
        return uniform(self._hashed(purpose, self._number[:, None], np.arange(count)[None])).tolist()

    @cached_property
    def caption(self) -> list[str]:
        """A sentence about each scene."""
        return self._sentences(0)

    @cached_property
    def captions(self) -> list[list[str]]:
        """Five sentences about each scene, the first of them `caption`."""
        return [list(scene) for scene in zip(*map(self._sentences, range(WORDINGS)), strict=True)]

    def _sentences(self, wording: int) -> list[str]:
        chosen = self._words[:, CAPTION_WORDS : CAPTION_WORDS + CHOICES]
        words = hash64(chosen, "wording", wording) if wording else chosen
        return captions(self.objects, words, said=self._said, chain=self._split.new == "length")

    @property
    def _said(self) -> Said:
        """Which combinations of a pair and a relation texts may state."""
        if self._split.new == "relation":
            return "new"
        return "known" if self._world.hold_relations else "any"

    @cached_property
    def _seen(self) -> list[list[list[int]]]:
        """Objects of each scene; those that are entirely hidden are marked as not valid."""
        objects = self.objects.copy()
        objects[..., VALID] = self._visible
        return objects.tolist()

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        """Pairs (colour, shape) that texts may name."""
        named = np.flatnonzero(~HELD_OUT | (self._split.new == "pair"))
        return [divmod(pair, len(SHAPES)) for pair in named.tolist()]

    @cached_property
    def _covers(self) -> list[list[tuple[int, int]]]:
        """Pairs of slots (near, far) of each scene where the near object visibly covers a part of the far one."""
        return coverings(self.instance, self.objects, self._visible, self._world)

    @cached_property
    def question(self) -> list[questions.Question]:
        """A question about each scene, with its answer and program."""
        draws = self._draws("shapes question", questions.DRAWS)
        return [
            questions.ask(questions.Scene(rows, covers, self._pairs, self._said), numbers)
            for rows, covers, numbers in zip(self._seen, self._covers, draws, strict=True)
        ]

    @cached_property
    def answer(self) -> np.ndarray:
        """Index in `questions.ANSWERS` of the answer of `question`, (B,) int64."""
        return np.array([questions.ANSWERS.index(question.answer) for question in self.question], dtype=np.int64)

    @cached_property
    def support(self) -> np.ndarray:
        """Pixels of the objects on which the answer of `question` depends, (B, Y, X) bool."""
        slots = np.zeros((len(self._indices), self._world.k + 1), dtype=bool)
        for scene, question in enumerate(self.question):
            slots[scene, [slot + 1 for slot in question.support]] = True
        return look_up(slots, self.instance)

    @cached_property
    def expression(self) -> list[expressions.Expression]:
        """A referring expression for one object of each scene."""
        draws = self._draws("shapes expression", expressions.DRAWS)
        return [expressions.refer(rows, numbers) for rows, numbers in zip(self._seen, draws, strict=True)]

    @cached_property
    def target_box(self) -> np.ndarray:
        """Visible box of the object that `expression` identifies, (B, 4) int64."""
        return self.boxes[np.arange(len(self._indices)), [expression.slot for expression in self.expression]]

    @cached_property
    def statement(self) -> list[statements.Statement]:
        """A statement about `image` and `second`, true or false."""
        draws = self._draws("shapes statement", statements.DRAWS)
        return [
            statements.state(left, right, self._pairs, numbers)
            for left, right, numbers in zip(self._seen, self._second._seen, draws, strict=True)
        ]

    @cached_property
    def truth(self) -> np.ndarray:
        """Truth of `statement`, (B,) int64: 1 for true, 0 for false."""
        return np.array([statement.truth for statement in self.statement], dtype=np.int64)

    @cached_property
    def story(self) -> list[list[str]]:
        """A sentence for each segment of `clip`."""
        return self._script.captions()

    @cached_property
    def twin_story(self) -> list[list[str]]:
        """A sentence for each segment of `twin`."""
        return self._script.backwards().captions()


FIELDS = tuple(
    name
    for part in (Pictures, Scenes)
    for name, value in vars(part).items()
    if isinstance(value, cached_property) and name[0] != "_"
)
"""Columns of a scene."""
