"""Predict for texts with a fine-tuned language model, as its task declares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.utils import get_class
from torch import Tensor

from tfcli.data.common.rows import Columns
from tfcli.engine.config.build import build, plain
from tfcli.engine.use.language_model import load_language_model
from tfcli.engine.use.public_head import answering, with_its_head
from tfcli.errors import ConfigError
from tfcli.tasks.text import Prediction, TrainedHead
from tfcli.tasks.text_classify import head_output


@torch.no_grad()
def answers(
    run: Path | None,
    overrides: list[str],
    texts: Sequence[str],
    pairs: Sequence[str],
    *,
    top: int,
    config_dir: str | None = None,
) -> list[Prediction]:
    """Predict for texts with a run whose task has a method `predict_texts`.

    Args:
        run: its folder; None: the model and weights that `overrides` name, with the head that these have.
        overrides: settings.
        texts: sentences; questions of spans; one context of choices.
        pairs: the second text of each pair; the contexts of questions (one serves all); what may follow a context.
        top: classes to give for each text.

    Raises:
        ConfigError: the run is of another task, or the texts are not as many as it needs.
    """
    loaded = load_language_model(run, overrides) if run else with_its_head(overrides, config_dir=config_dir)
    config = loaded.config
    task = get_class(config.task._target_)
    predict = getattr(task, "predict_texts", None)
    if predict is None:
        tasks, other = ", ".join(answering(config_dir)), getattr(task, "next_command", "")
        mend = f"`{other.replace('latest', 'RUN')}` uses it" if "--text" in other else f"those of {tasks} do"
        raise ConfigError(f"a run of task `{loaded.choices['task']}` does not answer texts; {mend}.")
    if not texts:
        raise ConfigError("there is no text: give it with --text.")

    def outputs(columns: Columns) -> tuple[Tensor, dict[str, Tensor]]:
        encoded = build(config.task.view).encode(columns, loaded.tokenizer, length=loaded.context, train=False)
        loaded.warn_truncated(encoded.cut)
        batch = encoded.batch(np.arange(len(encoded.lengths)), seed=0, epoch=0)
        batch = {name: tensor.to(loaded.device) for name, tensor in batch.items()}
        return head_output(loaded.net, batch).float(), batch

    state, data = (loaded.state, plain(config.data)) if run is not None else ({}, {})
    head = TrainedHead(outputs, loaded.classes, list(config.task.needs), top, state, data)
    return predict(head, list(texts), list(pairs))
