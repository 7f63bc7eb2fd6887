"""Every task names a view; a view of a set's columns gives batches of all its samples, whatever the set is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.config.configs import options
from tfcli.engine.loading.adopt import make_tokenizer

SETS = {
    "answer": ("vilt", "shapes_questions"),
    "choice": ("bert", "toy_choice"),
    "classify": ("vit", "digits"),
    "contrastive": ("clip", "shapes"),
    "distill": ("deit", "digits"),
    "lm": ("gpt", "symbol_maps"),
    "mlm": ("bert", "symbol_maps"),
    "span": ("bert", "toy_quotes"),
    "tag": ("bert", "toy_names"),
    "text_classify": ("bert", "toy_sentiment"),
    "text_regress": ("bert", "table"),
    "translate": ("transformer", "reversal"),
}
"""For each task a family and a small set; files of none are needed but of the table, which is written here."""
FEW = ("data.limit_train=60", "data.limit_val=20", "data.limit_test=20", "data.workers=0")


def served(task: str, folder: Path) -> Any:
    """Return the data module of a task on its small set, laid out."""
    model, data = SETS[task]
    own = []
    if data == "table":
        file = folder / "scores.csv"
        file.write_text("text,score\n" + "".join(f"text number {i},{i % 7}\n" for i in range(90)))
        own = [f"data.root={file}", "data.columns={text: text, score: score}"]
    config = compose("train", [f"model={model}", f"data={data}", f"task={task}", *own, *FEW]).config
    module = build(config.data)
    view = build(config.task.view)
    module.serve(view, config.task.needs)
    words = make_tokenizer(config, None, lambda: module.texts("train")) if view.reads_text else None
    module.encode(words, longest=config.model.get("context"))
    return module


def test_every_task_is_here():
    assert sorted(SETS) == sorted(options("task"))


@pytest.mark.parametrize("task", SETS)
def test_a_view_gives_each_sample_once(task, tmp_path):
    data = served(task, tmp_path)
    seen = torch.cat([batch["index"] for batch in data.train_dataloader()])
    assert sorted(seen.tolist()) == list(range(data.counts["train"]))
    assert data.counted in ("images", "tokens")
    finished = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    blank = data.blank(4)
    assert blank.keys() == {name for name in finished if name != "amount"}
    assert all(blank[name].dtype == finished[name].dtype for name in blank)
