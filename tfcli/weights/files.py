"""Opening a checkpoint, whoever wrote it: tensors come out, code never runs.

A file may be safetensors, a torch file (`.pt .pth .th .bin .ckpt`) or a TorchScript archive, a folder one of ours, of
transformers, of timm or of open_clip.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tfcli.errors import WeightsError, nearest
from tfcli.weights.header import check_header
from tfcli.weights.pickles import load_pickle
from tfcli.weights.preprocessing import read_json

FILES = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OPEN_CLIP_CONFIG = "open_clip_config.json"
SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".tar")
WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "net")


@dataclass
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        path: the file that holds the tensors, or the folder of a sharded one.
        state: tensors as stored, by the names in the file without a wrapper's prefix.
        config: the `config.json` beside it; of open_clip `{"open_clip": ...}` with its file; of one of our runs
            `{"run": ...}` with the run's config; or {}.
        notes: what was left aside while reading.
        classes: names of the classes that the head of one of our runs knows.
    """

    path: Path
    state: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()


def open_checkpoint(path: str | Path, *, shapes_only: bool = False) -> Checkpoint:
    """Read a checkpoint file or folder.

    Args:
        path: a weights file; a folder with `model.safetensors` or `pytorch_model.bin` (whole or sharded) and its
            `config.json`; or one of our run folders, whose best checkpoint is taken, or else the last.
        shapes_only: do not read the values where the format allows; the tensors are then on the meta device.

    Raises:
        WeightsError: nothing is there, the file is damaged or not a checkpoint, or it holds code.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise WeightsError(_missing(path))
    file = _in_folder(path) if path.is_dir() else path
    notes: list[str] = []
    sharded = file.name.endswith(".index.json")
    state, classes = (_read_shards(file, shapes_only), ()) if sharded else _read(file, notes, shapes_only)
    if (file.parent / OPEN_CLIP_CONFIG).is_file() and (file.name in OPEN_CLIP_FILES or file.name not in FILES):
        config = {"open_clip": read_json(file.parent / OPEN_CLIP_CONFIG)}
    else:
        config = read_json(file.parent / "config.json") or _run_config(file)
    return Checkpoint(file, state, config, notes, classes)


def _missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"`{path}` does not exist, nor does `{folder}`. `model.weights` takes a file, a folder or a public name."
    siblings = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() or entry.suffix in SUFFIXES)
    return f"`{path}` does not exist; `{folder}` holds {_listed(siblings)}.{nearest(path.name, siblings)}"


def _listed(names: list[str]) -> str:
    if not names:
        return "no weights"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _in_folder(folder: Path) -> Path:
    for name in ("best.ckpt", "last.ckpt"):
        for place in (folder / "checkpoints", folder):
            if (place / name).is_file():
                return place / name
    theirs = OPEN_CLIP_FILES if (folder / OPEN_CLIP_CONFIG).is_file() else ()
    for name in (*theirs, *FILES):
        if (folder / name).is_file():
            return folder / name
    alone = sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.suffix in SUFFIXES)
    if len(alone) == 1:
        return alone[0]
    if alone:
        raise WeightsError(
            f"`{folder}` holds {len(alone)} weights files ({_listed([a.name for a in alone])}): name one of them."
        )
    found = _listed(sorted(entry.name for entry in folder.iterdir())) if any(folder.iterdir()) else "an empty folder"
    raise WeightsError(
        f"`{folder}` holds no weights. Looked for checkpoints/best.ckpt, checkpoints/last.ckpt, {', '.join(FILES)}; "
        f"found {found}."
    )


def _read_shards(index: Path, shapes_only: bool) -> dict[str, Tensor]:
    names = read_json(index).get("weight_map", {})
    shards = sorted(set(names.values())) if isinstance(names, dict) else []
    if not shards:
        raise WeightsError(f"`{index}` has no `weight_map`: it names no shards.")
    state: dict[str, Tensor] = {}
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise WeightsError(f"`{index}` names {shard!r}, which lies outside its folder; refused.")
        if not (index.parent / shard).is_file():
            raise WeightsError(
                f"`{index.parent / shard}` is missing: one of {len(shards)} shards that `{index.name}` names."
            )
        state.update(_read(index.parent / shard, [], shapes_only)[0])
    return state


def _read(file: Path, notes: list[str], shapes_only: bool) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    if file.suffix == ".safetensors":
        header = check_header(file)
        if shapes_only:
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            return {name: torch.empty(entry["shape"], device="meta") for name, entry in entries.items()}, ()
        try:
            return _plain(load_file(file), file), ()
        except SafetensorError as error:
            raise WeightsError(f"`{file}` is not a safetensors file that can be read: {error}.") from error
    content = load_pickle(file)
    own = content.get("tfcli") if isinstance(content, dict) else None
    if not isinstance(own, dict):
        return _unwrap(content, file, notes), ()
    return _unwrap(content, file, []), tuple(own.get("classes") or ())  # of our own, nothing else is wanted


def _unwrap(content: Any, file: Path, notes: list[str]) -> dict[str, Tensor]:
    """Return the state dict inside what other programs store around it, without the prefix they give its names."""
    lightning = isinstance(content, dict) and "pytorch-lightning_version" in content
    if lightning:  # tensors may stand beside it
        content = content.get("state_dict", content)
    while isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        found = (
            f"the keys {_listed([str(key) for key in content])}"
            if isinstance(content, dict)
            else f"a {type(content).__name__}"
        )
        raise WeightsError(f"`{file}` holds no state dict: found {found}.")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if len(state) < len(content):
        notes.append(f"{len(content) - len(state)} entries that are not tensors: left aside")
    if lightning:
        ours = {key.removeprefix("net."): value for key, value in state.items() if key.startswith("net.")}
        if ours and len(ours) < len(state):
            notes.append(f"{len(state) - len(ours)} tensors outside `net`: left aside")
        state = ours or state
    for prefix in ("module.", "_orig_mod."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return _plain(state, file)


def _plain(state: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Check that tensors are dense and really there: a stride of zero could claim any size."""
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise WeightsError(f"`{file}`: `{name}` is not a dense tensor; sparse and quantised weights are not read.")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(
                f"`{file}`: `{name}` claims shape {tuple(tensor.shape)} without the data for it; refused."
            )
    return {name: tensor.detach() for name, tensor in state.items()}


def _run_config(file: Path) -> dict[str, Any]:
    """Read the config of the run that wrote `RUN/checkpoints/best.ckpt`: `RUN/config.yaml`."""
    config = file.parent.parent / "config.yaml"
    if file.parent.name != "checkpoints" or not config.is_file():
        return {}
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise WeightsError(f"`{config}` is not YAML: {error}.") from error
    return {"run": content} if isinstance(content, dict) else {}
