"""Show the attention of a trained model on a text, a translation or an image, as numbers and pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from tfcli.data.views.translations import Translations, start_of
from tfcli.engine.use.image_model import LoadedImageModel, load_image_model
from tfcli.engine.use.language_model import LoadedLanguageModel, load_language_model
from tfcli.engine.use.sample import prompt_ids
from tfcli.errors import ConfigError, IncompatibleError
from tfcli.files import write_atomic
from tfcli.nn.capture import capture
from tfcli.nn.places import Places
from tfcli.tasks.translate import translate
from tfcli.text.frames import EXTRACT, START, Frame
from tfcli.viz.attention import heads, matrix, over_image, rollout

SELF = re.compile(r"blocks\.\d+\.attention$")
"""Names of attention among the tokens of one side."""
BEAMS = 4


@dataclass
class AttentionWeights:
    """Attention weights of one input.

    Attributes:
        layers: (H, N, M) of each layer, the first first.
        rows, columns: the tokens that attend, and those that they attend to.
        facts: further facts for the figure, such as the grid of the patches.
    """

    layers: list[np.ndarray]
    rows: list[str]
    columns: list[str]
    facts: dict[str, Any] = field(default_factory=dict)

    def pick(self, layer: int | None, head: int | None) -> tuple[np.ndarray, str]:
        """Return the weights (N, M) of one layer (the last) and head (the mean of all), counted from 1, and their name.

        Raises:
            ConfigError: there is no such layer or head.
        """
        chosen = self.layers[_index_of("layer", layer, len(self.layers)) if layer is not None else -1]
        place = f"layer {layer or len(self.layers)} of {len(self.layers)}"
        if head is None:
            return chosen.mean(0), f"{place}, mean of {len(chosen)} heads" if len(chosen) > 1 else place
        return chosen[_index_of("head", head, len(chosen))], f"{place}, head {head}"

    def save(self, path: Path) -> Path:
        """Write all weights: `layer1`, `layer2`, ..., `rows`, `columns`."""
        buffer = BytesIO()
        layers: dict[str, Any] = {f"layer{number}": layer for number, layer in enumerate(self.layers, 1)}
        np.savez_compressed(buffer, rows=np.array(self.rows), columns=np.array(self.columns), **layers)
        write_atomic(path, buffer.getvalue())
        return path


def attention_of_text(
    run: Path | None,
    settings: list[str],
    text: str,
    *,
    layer: int | None,
    head: int | None,
    folder: Path,
    config_dir: str | None = None,
) -> tuple[list[Path], AttentionWeights]:
    """Draw attention between the tokens of a text; of a translator, from its translation to the text.

    Args:
        run: whose model; None: the model and weights that `settings` name.
        layer, head: of the large picture, counted from 1; None: the last layer, the mean of its heads.
        folder: where to write attention.png, heads.png (all of them) and attention.npz.

    Raises:
        ConfigError: there is no such layer or head, or the model takes no text.
        IncompatibleError: the model has no attention.
    """
    loaded = load_language_model(run, settings, config_dir=config_dir, inside=True)
    found = attention_to_source(loaded, text) if loaded.translates else attention_in_text(loaded, text)
    weights, place = found.pick(layer, head)
    title = f"{loaded.choices['model']} on {loaded.choices['data']}"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "attention.png", folder / "heads.png"]
    names, gamma = (("translation", "source"), 1.0) if loaded.translates else (("from", "to"), 0.5)
    matrix(
        weights, files[0], rows=found.rows, columns=found.columns, title=f"{title} · {place}",
        row_name=names[0], column_name=names[1], gamma=gamma,
    )  # fmt: skip
    heads(found.layers, files[1], title=title, gamma=gamma)
    return [*files, found.save(folder / "attention.npz")], found


def attention_of_image(
    run: Path | None,
    settings: list[str],
    file: Path,
    *,
    layer: int | None,
    folder: Path,
    config_dir: str | None = None,
) -> tuple[list[Path], AttentionWeights]:
    """Draw where the class token looks in an image: each head of a layer, and the rollout over all layers.

    In a model without a class token, where all patches look on average.

    Args:
        run, settings, layer, config_dir: as of `attention_of_text`.
        folder: where to write attention.png and attention.npz.

    Raises:
        ConfigError: there is no such layer, or the model takes no images.
        IncompatibleError: the model has no attention over patches.
        DataError: the file is missing or is no image.
    """
    loaded = load_image_model(run, settings, config_dir=config_dir)
    shown, layers, places = attention_in_image(loaded, file)
    special = int(places.special.sum())
    tokens = ["class token", *(f"special {i}" for i in range(1, special))][:special]
    tokens += [f"patch {y},{x}" for y, x in np.ndindex(*places.extent)]
    found = AttentionWeights(layers, tokens, tokens, {"grid": list(places.extent)})
    number = _index_of("layer", layer, len(layers)) if layer is not None else len(layers) - 1
    maps = {f"head {i}": weights for i, weights in enumerate(layers[number], 1)} | {"rollout": rollout(layers)}
    looker = slice(0, 1) if special else slice(None)
    patches = {name: weights[looker].mean(0)[special:].reshape(places.extent) for name, weights in maps.items()}
    folder.mkdir(parents=True, exist_ok=True)
    who = "the class token" if special else "all patches on average"
    title = f"{loaded.choices['model']} on {loaded.choices['data']} · {who}, layer {number + 1} of {len(layers)}"
    over_image(shown, patches, folder / "attention.png", title=title)
    return [folder / "attention.png", found.save(folder / "attention.npz")], found


def _index_of(what: str, number: int, count: int) -> int:
    """Return the index of a layer or head that is counted from 1.

    Raises:
        ConfigError: there are not so many.
    """
    if not 1 <= number <= count:
        raise ConfigError(f"`--{what} {number}`: this model's {what}s are numbered from 1 to {count}.")
    return number - 1


@torch.no_grad()
def attention_in_text(loaded: LoadedLanguageModel, text: str) -> AttentionWeights:
    """Return the attention inside a text, framed as the model reads texts."""
    tokenizer = loaded.tokenizer
    model = loaded.config.model
    if model.get("head") or model.get("layout") == "cls":  # else it has read bare text
        ids = Frame(tokenizer, model.layout).pair(tokenizer.encode([text])[0], None).ids
    else:
        ids = prompt_ids(loaded, text, start=True)
    net: Any = loaded.net
    with capture(net) as trace:
        net.features(torch.tensor([ids], device=loaded.device))
    tokens = _visible_tokens(loaded, ids)
    return AttentionWeights(_arrays(trace.attention.values(), loaded), tokens, tokens)


@torch.no_grad()
def attention_to_source(loaded: LoadedLanguageModel, text: str) -> AttentionWeights:
    """Return the attention of each token of the likeliest translation, as it is written, to the source."""
    net: Any = loaded.net
    tokenizer, start, end = loaded.tokenizer, start_of(loaded.tokenizer), cast(int, loaded.tokenizer.eos_id)
    rows = {"source": [text], "target": [""]}
    encoded = Translations().encode(rows, tokenizer, length=loaded.context, train=False)
    batch = encoded.batch(np.array([0]), seed=0, epoch=0)
    source, valid = batch["source"].to(loaded.device), batch["valid"].to(loaded.device)
    ((best, *_),) = translate(net, source, valid, start=start, stop=end, beams=BEAMS, longest=loaded.context)
    written = [*best.tokens, end] if best.ended else best.tokens
    with capture(net) as trace:
        net(source, torch.tensor([[start, *written[:-1]]], device=loaded.device), valid=valid)
    across = [
        weights
        for name, weights in trace.attention.items()
        if weights.shape[-2:] == (len(written), source.shape[1]) and not SELF.search(name)
    ]
    facts = {"source": text, "translation": tokenizer.decode(written)}
    said, read = (_visible_tokens(loaded, ids) for ids in (written, source[0].tolist()))
    return AttentionWeights(_arrays(across, loaded), said, read, facts)


@torch.no_grad()
def attention_in_image(loaded: LoadedImageModel, file: Path) -> tuple[np.ndarray, list[np.ndarray], Places]:
    """Return the image (Y, X, 3) as the model sees it, the weights of each layer, and the places of the tokens."""
    found = next(((name, module) for name, module in loaded.net.named_modules() if hasattr(module, "places_of")), None)
    if found is None:
        raise IncompatibleError(f"{loaded.choices['model']} has no attention over the patches of an image.")
    name, encoder = found[0], cast(Any, found[1])
    batch = next(iter(loaded.data.files_dataloader([file])))
    places: Places = encoder.places_of(*batch["image"].shape[-2:])
    net: Any = loaded.net
    with capture(net) as trace:
        net.features(batch["image"].to(loaded.device))
    layers = [w for key, w in trace.attention.items() if key.startswith(f"{name}." if name else "")]
    count = len(places)
    if not layers or any(w.shape[-2:] != (count, count) for w in layers):
        raise IncompatibleError(
            f"the attention of {loaded.choices['model']} has no weights of patches on patches: there is no picture."
        )
    pixels = batch["image"][0].permute(1, 2, 0).cpu().numpy() * np.array(loaded.data.std) + np.array(loaded.data.mean)
    return (
        (255 * pixels).round().clip(0, 255).astype(np.uint8),
        [w[0].float().cpu().numpy() for w in layers],
        places,
    )


def _arrays(layers: Sequence[Tensor] | Any, loaded: LoadedLanguageModel) -> list[np.ndarray]:
    found = [weights[0].float().cpu().numpy() for weights in layers]
    if not found:
        raise IncompatibleError(f"{loaded.choices['model']} has no attention to look at.")
    return found


def _visible_tokens(loaded: LoadedLanguageModel, ids: Sequence[int]) -> list[str]:
    """Return tokens as texts for a picture: spaces and line ends visible, words' beginnings marked."""
    tokenizer, tokens = loaded.tokenizer, []
    for number in ids:
        name = {START: "<start>", EXTRACT: "<extract>"}.get(number) or tokenizer.id_to_token(number) or f"<{number}>"
        if tokenizer.kind == "byte_bpe":  # names are of bytes; a part of a character keeps its name
            text = tokenizer.decode([number])
            name = text if text and "\N{REPLACEMENT CHARACTER}" not in text else name
        tokens.append(name.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥"))
    return tokens
