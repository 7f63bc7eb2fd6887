"""A run's checkpoint: checked, read, and its tensors put into a model. No code in it is ever run."""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tfcli.errors import ConfigError, RunError
from tfcli.weights.pickles import load_pickle


def is_whole(path: Path) -> bool:
    """Tell whether every record of a checkpoint has the checksum that was written with it."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError):
        return False


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read one of our checkpoints, on the CPU. No code in it is ever run.

    Raises:
        RunError: it is torn, or not a checkpoint of this program.
        WeightsError: it asks for code.
    """
    if not is_whole(path):
        raise RunError(f"`{path}` is not a whole checkpoint: it was cut short or changed on disk.")
    checkpoint = load_pickle(path, mapped=False)  # the next save takes its place
    parts = [checkpoint.get(key) for key in ("tfcli", "state_dict")] if isinstance(checkpoint, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise RunError(
            f"`{path}` is not a checkpoint of tfcli. Weights of other programs are taken by `model.weights=`."
        )
    return checkpoint


def load_state(module: torch.nn.Module, state: dict[str, torch.Tensor], run: Path, typed: Sequence[str] = ()) -> None:
    """Load the tensors of a run's checkpoint.

    Args:
        typed: settings that were given to the command which uses the run.

    Raises:
        ConfigError: the model was changed by what was typed.
        RunError: it is of another model.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        found = [line.strip() for line in str(error).splitlines()[1:]]
        changed = [text for text in typed if text.startswith(("model.", "attn", "pos"))]
        if changed:
            named = ", ".join(f"`{text}`" for text in changed)
            raise ConfigError(
                f"{named}: the weights of `{run}` do not fit a model with such a setting; leave it out "
                f"(`{shlex.join(['tfcli', 'rerun', str(run), *changed])}` trains one). {found[0][:300]}"
            ) from error
        more = f" ({len(found)} differences)" if len(found) > 1 else ""
        raise RunError(
            f"the checkpoint of `{run}` is of another model than its config.yaml describes: {found[0][:300]}{more}"
        ) from error


def net_state(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint's network, by the network's own names."""
    state = checkpoint["state_dict"]
    return {name.removeprefix("net."): tensor for name, tensor in state.items() if name.startswith("net.")}
