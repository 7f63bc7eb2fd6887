"""Write a trained run as a folder that a public library opens, and `model.weights=FOLDER` as well."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from safetensors.torch import save_file

from tfcli.data.views.translations import start_of
from tfcli.engine.config.build import plain
from tfcli.engine.loading.load_model import Loaded, find_model
from tfcli.engine.runs.folder import check_writable
from tfcli.engine.runs.record import read_record
from tfcli.engine.use.model_card import model_card
from tfcli.errors import ConfigError
from tfcli.files import write_atomic
from tfcli.text.backends import ROLES
from tfcli.text.tokenizer import Tokenizer
from tfcli.weights import generation
from tfcli.weights import layout as layouts
from tfcli.weights.layout import Layout
from tfcli.weights.open_weights import converter_of
from tfcli.weights.preprocessing import for_transformers


def export(run: Path, folder: Path) -> dict[str, Any]:
    """Write the model of a run's best checkpoint to `folder`, whole or not at all.

    The folder has model.safetensors and config.json, preprocessor_config.json for images, the tokenizer for texts, and
    a model card made from the run's results.

    Returns:
        `folder`, `library`, `architecture`, `tensors` (their number), `files` and `notes`: what the format cannot say.

    Raises:
        ConfigError: the folder is there already, or the public format cannot hold one of the model's settings.
        RunError: the run has no checkpoint, or the folder cannot be written.
    """
    folder = folder.expanduser()
    if folder.exists():
        raise ConfigError(f"`{folder}` is there already: name a new folder with --to.")
    check_writable(folder, settings="`--to`")
    found = find_model(run, [])
    settings = plain(found.config.model)
    converter = converter_of(settings["_target_"])
    layouts.check(converter, settings, found.choices)
    loaded = found.build()
    layout = converter.export(loaded.net.state_dict(), plain(loaded.config.model), loaded.classes)  # type: ignore[union-attr]
    card = model_card(read_record(run), layout, plain(loaded.config.data), name=folder.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        notes = _write(made, loaded, layout)
        write_atomic(made / "README.md", card)
        files = sorted(file.name for file in made.iterdir())
        made.rename(folder)
    return {
        "folder": str(folder),
        "library": layout.library,
        "architecture": layout.architecture,
        "tensors": len(layout.state),
        "files": files,
        "notes": notes,
    }


def _write(folder: Path, loaded: Loaded, layout: Layout) -> list[str]:
    """Write the weights and what says how they are used. Return lines for what no file can say.

    Raises:
        ConfigError: the library cannot see images as the model does.
    """
    save_file(layout.state, folder / "model.safetensors", metadata={"format": "pt"})
    if loaded.preprocessing:
        _write_json(folder / "preprocessor_config.json", for_transformers(loaded.preprocessing))
    tokenizer, notes = loaded.tokenizer, list[str]()
    marks = _write_tokenizer(folder, tokenizer, loaded.config.model, layout) if tokenizer is not None else {}
    if tokenizer is not None and layout.config.get("is_encoder_decoder"):
        marks = {"pad_token_id": 0, **marks, "decoder_start_token_id": start_of(tokenizer)}
        task, context = plain(loaded.config.task), loaded.config.model.context
        settings, notes = generation.as_stated(task, context=context, end=marks["eos_token_id"])
        _write_json(folder / generation.FILE, settings | marks)
    _write_json(folder / "config.json", layout.config | marks | {"dtype": "float32"})
    return notes


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, model: DictConfig, layout: Layout) -> dict[str, int]:
    """Write `tokenizer.json`, which puts its marks around a text, and `tokenizer_config.json`, which names them.

    Returns:
        The ids of the marks as `config.json` has them, for instance `{"eos_token_id": 2}`.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers.processors import TemplateProcessing

    file = tokenizer.save(folder)
    found = {role: getattr(tokenizer, f"{role}_id") for role in ROLES}
    ids = {role: number for role, number in found.items() if number is not None}
    backend = Backend.from_file(str(file))
    names = {role: backend.id_to_token(number) for role, number in ids.items()}
    if layout.frames:
        single, *pair = (frame.format(**names) for frame in layout.frames)
        marks = [(names[role], ids[role]) for role in ids if f"{{{role}}}" in layout.frames[0]]
        backend.post_processor = TemplateProcessing(single=single, pair=pair[0] if pair else None, special_tokens=marks)
        write_atomic(file, backend.to_str(pretty=True))
    inputs = ["input_ids", *(["token_type_ids"] if model.get("segments") else []), "attention_mask"]
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": (model.get("text") or model).context,
        "model_input_names": inputs,
        **{f"{role}_token": name for role, name in names.items()},
    }
    _write_json(folder / "tokenizer_config.json", facts)
    return {f"{role}_token_id": ids[role] for role in ("bos", "eos", "pad") if role in ids}


def _write_json(file: Path, content: dict[str, Any]) -> None:
    write_atomic(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
