"""Classification by labels in words: what an image and text encoder says of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

from tfcli.data.transforms import normalise
from tfcli.engine import numerics as num
from tfcli.engine.adopt import adopt_blueprint, tokenizer_for
from tfcli.engine.build import build, plain
from tfcli.engine.checkpoints import find_checkpoint, network, read_checkpoint
from tfcli.engine.compose import compose
from tfcli.engine.evaluation import collect, on_these_devices, ranked_rows
from tfcli.engine.parts import quiet_evaluation, quiet_libraries
from tfcli.engine.saved import kept_tokenizer
from tfcli.errors import ConfigError
from tfcli.probes.prompts import check_template, fill


@torch.no_grad()
def predict_labels(
    run: Path | None,
    overrides: list[str],
    files: Sequence[Path],
    labels: Sequence[str],
    template: str = "{}",
    *,
    top: int,
    config_dir: str | None = None,
) -> list[dict[str, Any]]:
    """Labels and probabilities for image files and folders of them, best first.

    Args:
        run: a training run of a model with a text tower; None: the model and weights that `overrides` name.
        overrides: settings.
        files: images, or folders that are searched for images.
        labels: texts to choose from, at least two.
        template: what is said of each label, with `{}`.
        top: labels to give for each file.

    Raises:
        ConfigError: fewer than two labels, a template without `{}`, or a model without a text tower.
        DataError: a file is missing or is no image; a folder holds none.
    """
    quiet_libraries()
    words = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if len(words) < 2:
        raise ConfigError(f"`--labels` wants at least two texts with commas between, but has {len(words)}.")
    check_template(template)
    paths = collect(list(files))
    tokenizer_path, state = None, None
    if run is not None:
        config, _ = on_these_devices(run, overrides)
        config.model.weights, tokenizer_path = None, kept_tokenizer(run)
        state = network(read_checkpoint(find_checkpoint(run, "best")))
    else:
        config = compose("train", overrides, config_dir).config
        tokenizer_path, _ = adopt_blueprint(config, {o.partition("=")[0] for o in overrides})
    tokenizer = tokenizer_for(config, tokenizer_path, lambda: words)
    if tokenizer is None:
        raise ConfigError("`--labels` needs a text tower, as in `tfcli predict clip FILE --labels 'a cat,a dog'`.")
    net = build(config.model)
    if state is not None:
        net.load_state_dict(state)
    else:
        from tfcli.weights.load import load_weights

        load_weights(net, str(config.model.weights))
    data = build(config.data)
    devices = num.find_devices({**plain(config.trainer), "devices": 1, "strategy": "auto"})
    num.set_threads(devices, None)
    device = torch.device("cuda" if devices.accelerator in ("gpu", "cuda") else devices.accelerator)
    net.to(device).eval()
    tokens = torch.from_numpy(tokenizer.encode([fill(template, word) for word in words])).to(device)
    text = normalize(net.encode_text(tokens).float(), dim=-1)
    rows: list[dict[str, Any]] = []
    with quiet_evaluation():
        for batch in data.files_dataloader(paths):
            image = normalise(batch["image"].to(device), data.mean, data.std)
            logits = net.scale.float() * normalize(net.encode_image(image).float(), dim=-1) @ text.mT
            rows += ranked_rows(logits.softmax(1).cpu(), batch["index"], paths, words, top)
    return rows
