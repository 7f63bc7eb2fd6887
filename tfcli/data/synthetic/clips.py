"""Synthetic clips of scenes: in each segment, one event happens to one object.

Events depend on the current state: only a present object can move, grow, shrink, change its colour or disappear, and
only an absent one can appear. Changes last, and two objects never share both colour and shape. The order of the
segments can therefore be inferred from the frames. The twin of a clip is the clip played backwards; both have the same
frames and differ only in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfcli.data.synthetic.language import an, phrase
from tfcli.data.synthetic.objects import COLOUR, COLOURS, HELD_OUT, SHAPES, SIZE, SIZES, VALID, World, X, Y, clamped
from tfcli.data.synthetic.sprites import radii

EVENTS = ("left", "right", "up", "down", "grows", "shrinks", "turns", "appears", "disappears", "stays")
_LEFT, _RIGHT, _UP, _DOWN, _GROWS, _SHRINKS, _TURNS, _APPEARS, _DISAPPEARS, _STAYS = range(10)
BACKWARDS = np.array([_RIGHT, _LEFT, _DOWN, _UP, _SHRINKS, _GROWS, _TURNS, _DISAPPEARS, _APPEARS, _STAYS])
_MOVES = {_LEFT: (X, -1), _RIGHT: (X, 1), _UP: (Y, -1), _DOWN: (Y, 1)}
WORDS = len(EVENTS) + 4 + len(COLOURS)
"""Number of random words per segment, which rank events, objects and colours."""


@dataclass(frozen=True)
class Script:
    """Events of a batch of clips.

    Attributes:
        states: (B, T + 1, k, 7) objects before and after each of T segments.
        events: (B, T, 2) int64: the event's number in `EVENTS`, and the slot of its object.
    """

    states: np.ndarray
    events: np.ndarray

    def backwards(self) -> Script:
        """Return the scripts of the twins."""
        events = self.events[:, ::-1].copy()
        events[..., 0] = BACKWARDS[events[..., 0]]
        return Script(self.states[:, ::-1], events)

    def frames(self, count: int) -> np.ndarray:
        """Return the objects in each frame, (B, T * count, k, 7).

        Objects move at constant speed; size, colour and presence change in the middle of a segment.

        Args:
            count: number of frames in a segment.
        """
        before, after = self.states[:, :-1], self.states[:, 1:]
        frames = []
        for done in (np.arange(count) + 0.5) / count:
            frame = np.where(done < 0.5, before, after)
            travelled = np.round(done * (after - before)[..., X : Y + 1]).astype(np.int64)
            frame[..., X : Y + 1] = before[..., X : Y + 1] + travelled
            frames.append(frame)
        return np.stack(frames, axis=2).reshape(len(before), -1, *before.shape[2:])

    def captions(self) -> list[list[str]]:
        """Return a sentence for each segment of each clip, in the words of the state before it."""
        return [
            [
                _sentence(event, before[slot], after[slot])
                for (event, slot), before, after in zip(events, states[:-1], states[1:], strict=True)
            ]
            for events, states in zip(self.events.tolist(), self.states.tolist(), strict=True)
        ]


def _sentence(event: int, before: list[int], after: list[int]) -> str:
    name = EVENTS[event]
    if event == _APPEARS:
        return f"{an(phrase(after))} {name}"
    if event in _MOVES:
        return f"the {phrase(before)} moves {name}"
    return f"the {phrase(before)} {name}" + (f" {COLOURS[after[COLOUR]]}" if event == _TURNS else "")


def write_script(objects: np.ndarray, words: np.ndarray, world: World) -> Script:
    """Return random scripts that begin with given scenes.

    Args:
        objects: (B, k, 7) objects at the beginning.
        words: (B, T, `WORDS`) random words.
        world: the rules of the scenes.
    """
    states, events, batch = [objects], [], np.arange(len(objects))
    step = max(2, world.size // 6)
    ranks = (words >> np.uint64(1)).astype(np.int64)
    for segment in range(words.shape[1]):
        state, rank = states[-1], ranks[:, segment]
        colours = _free_colours(state)
        allowed = _allowed(state, colours, step, world)
        event = _first(np.any(allowed, axis=1), rank[:, : len(EVENTS)])
        slot = _first(allowed[batch, :, event], rank[:, len(EVENTS) : len(EVENTS) + objects.shape[1]])
        colour = _first(colours[batch, slot], rank[:, len(EVENTS) + 4 :])
        after, chosen = state.copy(), (batch, slot)
        for number, (column, sign) in _MOVES.items():
            after[(*chosen, column)] += sign * step * (event == number)
        after[(*chosen, SIZE)] += (event == _GROWS).astype(np.int64) - (event == _SHRINKS)
        after[(*chosen, COLOUR)] = np.where(event == _TURNS, colour, after[(*chosen, COLOUR)])
        after[(*chosen, VALID)] += (event == _APPEARS).astype(np.int64) - (event == _DISAPPEARS)
        states.append(after)
        events.append(np.stack([event, slot], axis=1))
    return Script(np.stack(states, axis=1), np.stack(events, axis=1))


def _first(allowed: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return the allowed option of the highest rank in each row, (B,)."""
    return np.where(allowed, rank, -1).argmax(axis=1)


def _free_colours(state: np.ndarray) -> np.ndarray:
    """Return which colours each object may change to, (B, k, 8): not held out for its shape, and not yet used."""
    colour, shape = state[..., 0], state[..., 1]
    free = ~HELD_OUT.reshape(len(COLOURS), len(SHAPES))[:, shape].transpose(1, 2, 0)
    for slot in range(state.shape[1]):
        same = shape == shape[:, slot, None]
        free &= ~(same[..., None] & (np.arange(len(COLOURS)) == colour[:, slot, None, None]))
    return free


def _allowed(state: np.ndarray, colours: np.ndarray, step: int, world: World) -> np.ndarray:
    """Return which event may happen to which object, (B, k, 10)."""
    there = state[..., VALID] > 0
    radius = radii(world.scale)[state[..., SIZE]]
    allowed = np.repeat(there[..., None], len(EVENTS), axis=2)
    for event, (column, sign) in _MOVES.items():
        goal = state[..., column] + sign * step
        allowed[..., event] &= goal == clamped(goal, radius, world)
    allowed[..., _GROWS] &= state[..., SIZE] < len(SIZES) - 1
    allowed[..., _SHRINKS] &= state[..., SIZE] > 0
    allowed[..., _TURNS] &= colours.any(axis=2)
    allowed[..., _DISAPPEARS] &= there.sum(axis=1, keepdims=True) > 1
    allowed[..., _APPEARS] = ~there
    return allowed
