"""Visual question answering: what a model answers to questions about image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from tfcli.data.images.transforms import normalise
from tfcli.engine.runs.terminal import quiet_evaluation, say
from tfcli.engine.use.image_model import load_image_model
from tfcli.engine.use.predict import ranked_rows, with_unusable
from tfcli.engine.use.public_classifier import run_of
from tfcli.errors import ConfigError
from tfcli.text.frames import Frame

if TYPE_CHECKING:
    from tfcli.tasks.answer import QuestionAnswerer


@torch.no_grad()
def answer_questions(
    run: Path | None,
    overrides: list[str],
    paths: list[Path],
    questions: Sequence[str],
    *,
    top: int,
    config_dir: str | None = None,
) -> list[dict[str, Any]]:
    """Answer every question about every image file, the likeliest answers first; unusable files are at the end.

    Args:
        run: its folder; None: the run that `model.weights=` in `overrides` names.
        overrides: settings.
        paths: images.
        questions: texts.
        top: answers to give for each question.

    Raises:
        ConfigError: the model answers no questions about images.
        DataError: none of the files can be used.
    """
    run = run or run_of(overrides, config_dir)
    if run is None:
        raise ConfigError("`--question` needs a run that was trained on questions about images, with names of answers.")
    loaded = load_image_model(run, overrides, config_dir=config_dir)
    if not hasattr(loaded.net, "answer") or loaded.tokenizer is None:
        raise ConfigError(f"`{loaded.choices['model']}` answers no questions about images.")
    net, data, device = cast("QuestionAnswerer", loaded.net), loaded.data, loaded.device
    frame = Frame(loaded.tokenizer, "cls", loaded.config.model.get("context"))
    asked = [frame.pair(ids, None).ids for ids in loaded.tokenizer.encode(questions)]
    if frame.cut:
        say(f"a question is longer than the {frame.length} tokens that the model takes: the rest is not read")
    rows: list[dict[str, Any]] = []
    with quiet_evaluation():
        for batch in data.files_dataloader(paths, mark_bad=True):
            image = normalise(batch["image"].to(device), data.mean, data.std)
            told = []
            for question, ids in zip(questions, asked, strict=True):
                logits = net.answer(image, torch.tensor([ids], device=device).expand(len(image), -1)).float()
                ranked = ranked_rows(logits.softmax(1).cpu(), batch["index"], paths, loaded.classes, top)
                told.append([{"file": row["file"], "question": question, **row} for row in ranked])
            rows += [row for of_file in zip(*told, strict=True) for row in of_file]
    return with_unusable(rows, paths)
