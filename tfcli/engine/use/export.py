"""Write a trained run as a folder that a public library opens, and `model.weights=FOLDER` as well."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tfcli.engine.config.build import plain
from tfcli.engine.loading.load_model import Loaded, find_model
from tfcli.engine.runs.record import read_record
from tfcli.engine.use.model_card import model_card
from tfcli.errors import ConfigError
from tfcli.files import write_atomic
from tfcli.text.subwords import ROLES
from tfcli.weights import layout as layouts
from tfcli.weights.load import converter_of
from tfcli.weights.preprocessing import for_transformers


def export(run: Path, folder: Path) -> dict[str, Any]:
    """Write the model of a run's best checkpoint to `folder`, whole or not at all.

    The folder has model.safetensors and config.json, preprocessor_config.json for images, the tokenizer for texts, and
    a model card made from the run's results.

    Returns:
        `folder`, `library`, `architecture`, `tensors` (their number) and `files`.

    Raises:
        ConfigError: the folder has files already, or the public format cannot hold one of the model's settings.
        RunError: the run has no checkpoint.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"`{folder}` is there already and is not empty: name another folder with --to.")
    found = find_model(run, [])
    settings = plain(found.config.model)
    converter = converter_of(settings["_target_"])
    layouts.check(converter, settings, found.choices)
    loaded = found.build()
    layout = converter.export(loaded.net.state_dict(), settings, loaded.classes)  # type: ignore[union-attr]
    documents: dict[str, Any] = {"config.json": layout.config | {"dtype": "float32"}}
    if loaded.preprocessing:
        documents["preprocessor_config.json"] = for_transformers(loaded.preprocessing)
    if loaded.tokenizer is not None:
        documents["tokenizer_config.json"] = _tokenizer_config(loaded)
    texts = {name: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for name, content in documents.items()}
    texts["README.md"] = model_card(read_record(run), layout, plain(loaded.config.data), name=folder.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        save_file(layout.state, made / "model.safetensors", metadata={"format": "pt"})
        for name, text in texts.items():
            write_atomic(made / name, text)
        if loaded.tokenizer is not None:
            _frame(loaded.tokenizer.save(made), loaded.tokenizer)
        files = sorted(file.name for file in made.iterdir())
        if folder.exists():
            folder.rmdir()
        shutil.move(made, folder)
    return {
        "folder": str(folder),
        "library": layout.library,
        "architecture": layout.architecture,
        "tensors": len(layout.state),
        "files": files,
    }


def _tokenizer_config(loaded: Loaded) -> dict[str, Any]:
    """Return the roles of the special tokens and the longest text, as transformers reads them."""
    tokenizer, model = loaded.tokenizer, loaded.config.model
    ids = {role: getattr(tokenizer, f"{role}_id", None) for role in ROLES}
    names = {f"{role}_token": tokenizer.id_to_token(number) for role, number in ids.items() if number is not None}
    context = (model.get("text") or model).context
    inputs = ["input_ids", *(["token_type_ids"] if model.get("segments") else []), "attention_mask"]
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context, "model_input_names": inputs}
    return facts | names


def _frame(file: Path, tokenizer: Any) -> None:
    """Put the marks around every text that a BERT reads into a `tokenizer.json`: [CLS] text [SEP] pair [SEP]."""
    ids = {role: getattr(tokenizer, f"{role}_id", None) for role in ("cls", "sep")}
    if None in ids.values():
        return
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    cls, sep = (tokenizer.id_to_token(number) for number in ids.values())
    backend = Tokenizer.from_file(str(file))
    backend.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, ids["cls"]), (sep, ids["sep"])],
    )
    write_atomic(file, backend.to_str(pretty=True))
