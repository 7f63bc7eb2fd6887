"""Span answers: how sure a model must be to say nothing is chosen on validation and goes with its weights."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from tfcli.data.module import DataModule
from tfcli.tasks.span import Span

ANSWER = [{"text": "cat", "start": 4}]
CONTEXT = "the cat sat"


def task() -> Span:
    rows = {"context": [CONTEXT, CONTEXT], "answers": [ANSWER, []]}
    made = Span(torch.nn.Linear(1, 1), optim=torch.optim.AdamW, schedule=lambda *_, **__: 1.0)
    made.setup_data(Mock(spec=DataModule, rows={"train": rows, "val": rows, "test": rows}))
    return made


def measure(of: Span, split: str, nulls: tuple[float, float]) -> None:
    """The right span at each question, with a score of 2, beside that of there being no answer."""
    start = torch.tensor([[null, 0.0, 1.0, 0.0] for null in nulls])
    end = torch.tensor([[0.0, 0.0, 1.0, 0.0]] * 2)
    offsets = torch.tensor([[[0, 0], [0, 3], [4, 7], [8, 11]]] * 2)
    inside = torch.tensor([[False, True, True, True]] * 2)
    rows = torch.arange(2)
    of.metric(split).update(start, end, inside=inside, offsets=offsets, index=rows, question=rows)


@pytest.mark.parametrize(("nulls", "plain"), [((3.0, 5.0), 0.5), ((-3.0, 1.0), 0.5)])
def test_the_threshold_is_validations_and_is_kept(nulls, plain, monkeypatch):
    trained, logged = task(), {}
    trained.evaluated = ["val"]
    monkeypatch.setattr(Span, "log_dict", lambda self, figures: logged.update(figures))
    trained.on_validation_epoch_start()
    measure(trained, "val", nulls)
    trained.on_validation_epoch_end()
    assert logged["val/f1"] == plain
    assert logged["val/best_f1"] == 1.0

    loaded = task()
    loaded.load_state_dict(trained.state_dict())
    loaded.on_test_epoch_start()
    measure(loaded, "test", nulls)
    assert loaded.metric("test").compute()["f1"] == 1.0
