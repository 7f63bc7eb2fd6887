"""The measurement of the fastest arithmetic: repeated where it is disturbed, kept with its day, forgotten on demand."""

from __future__ import annotations

from datetime import date
from itertools import cycle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tfcli.engine.train import numerics


class Clock:
    """A clock that steps move forward."""

    def __init__(self):
        self.now, self.steps = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def step(self, lengths: list[float]):
        following = cycle(lengths)

        def step() -> None:
            self.now += next(following)
            self.steps += 1

        return step


@pytest.mark.parametrize(("second", "rounds"), [([0.05], 1), ([0.02, 0.2, 0.05], 3)])
def test_turns_that_disagree_are_repeated(second: list[float], rounds: int):
    clock = Clock()
    found = numerics.time_in_turns([clock.step([0.1]), clock.step(second)], clock=clock)
    assert found == pytest.approx([0.1, 0.05])
    assert rounds - 0.5 < clock.now < rounds + 1


def test_one_disturbed_turn_does_not_change_the_figure():
    clock = Clock()
    found = numerics.time_in_turns([clock.step([0.1]), clock.step([0.05] * 4 + [3.0])], 5.0, clock=clock)
    assert found == pytest.approx([0.1, 0.05])


def test_a_measurement_says_its_day_and_is_made_again_when_it_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path))
    said = [numerics.cached_measurement(["facts"], lambda word=word: {"why": word})["why"] for word in ("a", "b")]
    assert said == [f"a, measured {date.today()}"] * 2
    assert numerics.forget_measurements() == 1
    assert numerics.cached_measurement(["facts"], lambda: {"why": "c"})["why"].startswith("c")
    assert (numerics.forget_measurements(), numerics.forget_measurements()) == (1, 0)


class Encoder(nn.Module):
    """A net of which a task may call `features` in place of the net itself."""

    def __init__(self):
        super().__init__()
        self.embed, self.stack = nn.Embedding(3, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    def features(self, tokens: Tensor) -> Tensor:
        return self.stack(self.embed(tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.features(tokens)


@pytest.mark.parametrize("whole", [True, False])
def test_what_a_task_calls_of_its_net_is_compiled_after_its_first_call(whole: bool, monkeypatch: pytest.MonkeyPatch):
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    net, tokens = Encoder(), torch.tensor([0, 1])
    numerics.apply(numerics.Numerics(compile=True), net)
    called = net if whole else net.features
    assert compiled == []
    for _ in range(2):
        called(tokens)
        assert compiled == [net if whole else net.stack]
    inside = (net if whole else net.stack).modules()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in inside)
