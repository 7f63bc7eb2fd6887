"""Classify image files by labels in words, with an image and text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn.functional import normalize

from tfcli.data.images.transforms import normalise
from tfcli.engine.runs.terminal import quiet_evaluation
from tfcli.engine.use.image_model import load_image_model
from tfcli.engine.use.predict import ranked_rows, with_unusable
from tfcli.errors import ConfigError
from tfcli.models.protocols import ImageTextEncoder
from tfcli.probes.prompts import check_template, fill
from tfcli.tasks.zeroshot import class_logits


@torch.no_grad()
def predict_labels(
    run: Path | None,
    overrides: list[str],
    paths: list[Path],
    labels: Sequence[str],
    template: str = "{}",
    *,
    top: int,
    config_dir: str | None = None,
) -> list[dict[str, Any]]:
    """Return labels and probabilities for image files, best first.

    Args:
        run: a training run of a model with a text tower; None: the model and weights that `overrides` name.
        overrides: settings.
        paths: images.
        labels: texts to choose from, two or more, each once.
        template: what is said of each label, with `{}`.
        top: labels to give for each file.

    Raises:
        ConfigError: a template without `{}`, or a model without a text tower.
        DataError: none can be used.
    """
    words = list(labels)
    check_template(template)
    loaded = load_image_model(run, overrides, words=lambda: words, config_dir=config_dir)
    net, data, tokenizer, device = cast(Any, loaded.net), loaded.data, loaded.tokenizer, loaded.device
    if tokenizer is None or not isinstance(net, ImageTextEncoder):
        raise ConfigError("`--labels` needs a text tower, as in `tfcli predict clip FILE --labels 'a cat,a dog'`.")
    tokens = torch.from_numpy(tokenizer.encode_padded([fill(template, word) for word in words])).to(device)
    text = normalize(net.encode_text(tokens).float(), dim=-1)
    rows: list[dict[str, Any]] = []
    with quiet_evaluation():
        for batch in data.files_dataloader(paths, mark_bad=True):
            image = normalise(batch["image"].to(device), data.mean, data.std)
            probability = class_logits(net, image, text).softmax(1).cpu()
            rows += ranked_rows(probability, batch["index"], paths, words, top)
    return with_unusable(rows, paths)
