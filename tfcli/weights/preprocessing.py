"""Read a checkpoint's stated preprocessing into settings of `config.data`: all of it, or a refusal.

Four libraries write it down: transformers (`processor_config.json`, `preprocessor_config.json`), open_clip
(`preprocess_cfg`), timm (`pretrained_cfg`) and torchvision (the transforms of its weights).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfcli.data.images.resize import INTERPOLATIONS, ON_TENSORS, SETTINGS
from tfcli.errors import ConfigError, WeightsError

PROCESSORS = ("processor_config.json", "preprocessor_config.json")
"""Files of transformers, the newer first, in which an image processor's settings are nested."""
OPENAI_MEAN, OPENAI_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5]
PILLOW = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's numbers of interpolations, which transformers writes."""
CLIP = {"size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True, "resample": 3}
CLIP |= {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD, "default_to_square": False}
SQUARE = {"resample": 2, "image_mean": HALF, "image_std": HALF, "default_to_square": True}
KINDS: dict[str, dict[str, Any]] = {
    "CLIP": CLIP,
    "Bit": CLIP,
    "ViT": SQUARE | {"size": 224},
    "Siglip": SQUARE | {"size": 224, "resample": 3},
    "DeiT": SQUARE | {"size": 256, "crop_size": 224, "do_center_crop": True, "resample": 3},
    "ConvNext": SQUARE | {"size": 384, "resample": 3, "default_to_square": False, "crop_pct": 0.875},
}
"""transformers' image processors that are read -> their defaults."""
OF_MODELS = {"clip": "CLIP", "vit": "ViT", "deit": "DeiT", "dinov2": "Bit", "resnet": "ConvNext"}
"""`model_type` -> processor, for files that do not name theirs."""
TYPED = ("image_size", "resize", "eval_crop", "interpolation", "mean", "std")
"""Settings that together leave nothing for a checkpoint to state."""
READ = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
WARPED_FROM = 384
"""From this side on a ConvNext processor squashes, below it crops."""


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of images.

    Attributes:
        settings: of `config.data`, some or all of `tfcli.data.images.resize.SETTINGS`.
        source: where they stand.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""


def stated(folder: Path, config: dict[str, Any]) -> Preprocessing | None:
    """Return what the files of a checkpoint's folder state; None where none does.

    Args:
        folder: of the weights file.
        config: as in `tfcli.weights.files.Checkpoint`.

    Raises:
        WeightsError: something is stated that is not possible here.
    """
    if "open_clip" in config:
        return of_open_clip(config["open_clip"])
    for name in PROCESSORS:
        content = read_json(folder / name)
        content = content.get("image_processor", content if name == PROCESSORS[1] else {})
        if isinstance(content, dict) and content:
            return of_transformers(content, name=name, model=config)
    cfg = config.get("pretrained_cfg") or (config if "architecture" in config else None)
    if isinstance(cfg, dict):
        return of_timm(cfg)
    run = config.get("run", {}).get("data")
    found = {key: run[key] for key in SETTINGS if key in run} if isinstance(run, dict) else {}
    return Preprocessing(found, "the run") if found else None


def of_open_clip(config: dict[str, Any]) -> Preprocessing:
    """Read open_clip's `preprocess_cfg`; the image's size is the model's."""
    source, given = "open_clip_config.json", config.get("preprocess_cfg") or {}
    vision = (config.get("model_cfg") or {}).get("vision_cfg")
    size = (vision.get("image_size") if vision else given.get("size")) or 224
    interpolation = given.get("interpolation") or "bicubic"
    modes = {"shortest": "shorter", "longest": "longer", "squash": "squash"}
    mode = given.get("resize_mode") or "shortest"
    if mode not in modes:
        raise _refused(source, f"`resize_mode` {mode!r}; known are {', '.join(modes)}")
    if interpolation not in ("bicubic", "bilinear", "random"):
        raise _refused(source, f"`interpolation` {interpolation!r}")
    if given.get("mode", "RGB") != "RGB":
        raise _refused(source, f"`mode` {given['mode']!r}: images here have three colours")
    settings = {
        "image_size": _square(size, "`size`", source),
        "resize": modes[mode],
        "eval_crop": 1.0,
        "interpolation": "bilinear" if interpolation == "bilinear" else "bicubic",  # random is for its training
        "resizer": "pillow",
        "fill": _channels(given.get("fill_color") or 0, "`fill_color`", source),
        "mean": _channels(given.get("mean") or OPENAI_MEAN, "`mean`", source),
        "std": _channels(given.get("std") or OPENAI_STD, "`std`", source),
    }
    return Preprocessing(settings, source)


def of_timm(cfg: dict[str, Any]) -> Preprocessing:
    """Read timm's `pretrained_cfg`, with timm's own defaults for what it lacks."""
    source = "config.json"
    channels, *sides = cfg.get("input_size") or (3, 224, 224)
    if channels != 3:
        raise _refused(source, f"`input_size` {cfg['input_size']}: images here have three colours")
    size = _square(sides, "`input_size`", source)
    mode = cfg.get("crop_mode") or "center"
    modes = {"center": "shorter", "squash": "squash", "border": "longer"}
    if mode not in modes:
        raise _refused(source, f"`crop_mode` {mode!r}; known are {', '.join(modes)}")
    interpolation = cfg.get("interpolation") or "bicubic"
    if interpolation not in INTERPOLATIONS:
        raise _refused(source, f"`interpolation` {interpolation!r}; known are {', '.join(INTERPOLATIONS)}")
    mean = _channels(cfg.get("mean") or IMAGENET_MEAN, "`mean`", source)
    settings = {
        "image_size": size,
        "resize": modes[mode],
        "eval_crop": size / math.floor(size / float(cfg.get("crop_pct") or 0.875)),
        "interpolation": interpolation,
        "resizer": "pillow",
        "fill": [round(255 * value) for value in mean] if mode == "border" else [0, 0, 0],
        "mean": mean,
        "std": _channels(cfg.get("std") or IMAGENET_STD, "`std`", source),
    }
    return Preprocessing(settings, source)


def of_torchvision(preset: Any, source: str) -> Preprocessing:
    """Read the transforms that torchvision publishes with weights."""
    size = _square(preset.crop_size, "`crop_size`", source)
    settings = {
        "image_size": size,
        "resize": "shorter",
        "eval_crop": size / _square(preset.resize_size, "`resize_size`", source),
        "interpolation": preset.interpolation.value,
        "resizer": "pillow",
        "fill": [0, 0, 0],
        "mean": list(preset.mean),
        "std": list(preset.std),
    }
    return Preprocessing(settings, source)


def of_transformers(content: dict[str, Any], *, name: str, model: dict[str, Any]) -> Preprocessing:
    """Read the settings of an image processor of transformers, with its class's defaults for what they lack.

    Args:
        content: of the file.
        name: of the file.
        model: the model's `config.json`.

    Raises:
        WeightsError: the processor is of another class, or does something that is not possible here.
    """
    kind = str(content.get("image_processor_type") or content.get("feature_extractor_type") or "")
    if kind.startswith("TimmWrapper"):
        return of_timm(content.get("pretrained_cfg") or model.get("pretrained_cfg") or {})
    stem = kind.partition("ImageProcessor")[0].partition("FeatureExtractor")[0]
    stem = stem or OF_MODELS.get(str(model.get("model_type")), "")
    if not kind and "size" not in content:  # written by hand
        keys = [key for key in ("mean", "std") if f"image_{key}" in content]
        return Preprocessing({key: _channels(content[f"image_{key}"], f"`image_{key}`", name) for key in keys}, name)
    if stem not in KINDS:
        what = f"a `{kind}`" if kind else "no `image_processor_type`"
        raise _refused(name, f"{what}; read are those of {', '.join(KINDS)}")
    given: dict[str, Any] = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
    given |= KINDS[stem] | {key: value for key, value in content.items() if value is not None}
    unknown = [key for key, value in given.items() if key.startswith("do_") and value and key not in READ]
    if unknown:
        raise _refused(name, f"`{unknown[0]}`")
    settings = _geometry(given, name) if "crop_pct" not in given else _warped(given, name)
    resample = given["resample"]
    interpolation = PILLOW[resample] if isinstance(resample, int) and 0 <= resample < len(PILLOW) else str(resample)
    if interpolation not in ON_TENSORS:
        raise _refused(name, f"`resample` {resample} ({interpolation}), which transformers itself cannot do on tensors")
    scale = 255 * float(given["rescale_factor"]) if given["do_rescale"] else 255.0
    scale = 1.0 if math.isclose(scale, 1.0, rel_tol=1e-6) else scale
    mean, std = ([0.0] * 3, [1.0] * 3)
    if given["do_normalize"]:
        mean, std = (_channels(given[f"image_{key}"], f"`image_{key}`", name) for key in ("mean", "std"))
    settings |= {
        "interpolation": interpolation,
        "resizer": "transformers",
        "fill": [0, 0, 0],
        "mean": [value / scale for value in mean],
        "std": [value / scale for value in std],
    }
    return Preprocessing(settings, name)


def for_transformers(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the `preprocessor_config.json` that says what settings of `config.data` say: what `stated` reads, back.

    transformers' CLIPImageProcessor can do all of it, whatever the model: a resize, a crop in the middle, a mean and a
    deviation.

    Raises:
        ConfigError: transformers has no such resize or interpolation.
    """
    crop, rule, interpolation = settings["image_size"], settings["resize"], settings["interpolation"]
    if rule == "longer":
        raise ConfigError("`data.resize=longer` cannot be exported: no image processor of transformers does it.")
    if interpolation not in ON_TENSORS:
        raise ConfigError(
            f"`data.interpolation={interpolation}` cannot be exported: transformers knows {', '.join(ON_TENSORS)}."
        )
    side = round(crop / settings["eval_crop"])
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": rule != "none",
        "size": {"height": side, "width": side} if rule == "squash" else {"shortest_edge": side},
        "resample": PILLOW.index(interpolation),
        "do_center_crop": True,
        "crop_size": {"height": crop, "width": crop},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(settings["mean"]),
        "image_std": list(settings["std"]),
    }


def _geometry(given: dict[str, Any], name: str) -> dict[str, Any]:
    crop = _square(given["crop_size"], "`crop_size`", name) if given.get("do_center_crop") else None
    if not given["do_resize"]:
        if crop is None:
            raise _refused(name, "neither `do_resize` nor `do_center_crop`: images here become squares of one size")
        return {"image_size": crop, "resize": "none", "eval_crop": 1.0}
    size = given["size"]
    shorter = size.keys() == {"shortest_edge"} if isinstance(size, dict) else not given["default_to_square"]
    if isinstance(size, list | tuple):
        shorter = False
    if not shorter:
        side = _square(size, "`size`", name)
        return {"image_size": crop or side, "resize": "squash", "eval_crop": (crop or side) / side}
    if crop is None:
        raise _refused(name, f"`size` {size} without `do_center_crop`: images here become squares")
    side = size["shortest_edge"] if isinstance(size, dict) else size
    return {"image_size": crop, "resize": "shorter", "eval_crop": crop / side}


def _warped(given: dict[str, Any], name: str) -> dict[str, Any]:
    """Apply ConvNext's rule: a share of the shorter side below 384 px, squashed from there on."""
    size = given["size"]
    if isinstance(size, dict) and "shortest_edge" not in size:
        raise _refused(name, f"`size` {size}")
    side = int(size["shortest_edge"] if isinstance(size, dict) else size)
    if given.get("do_center_crop"):
        raise _refused(name, "`do_center_crop` beside `crop_pct`")
    if side >= WARPED_FROM:
        return {"image_size": side, "resize": "squash", "eval_crop": 1.0}
    return {"image_size": side, "resize": "shorter", "eval_crop": side / int(side / float(given["crop_pct"]))}


def _square(size: Any, what: str, source: str) -> int:
    """Return the side of a square that is written as a number, a pair or a mapping."""
    sides = size
    if isinstance(size, dict):
        sides = [size.get("height"), size.get("width")] if size.keys() == {"height", "width"} else []
    sides = list(sides) if isinstance(sides, list | tuple) else [sides]
    if not sides or len(set(sides)) > 1 or not isinstance(sides[0], int | float) or sides[0] < 1:
        raise _refused(source, f"{what} {size}: images here become squares")
    return int(sides[0])


def _channels(value: Any, what: str, source: str) -> list[Any]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not all(isinstance(v, int | float) for v in values):
        raise _refused(source, f"{what} {value}: images here have three colours")
    return values


def _refused(source: str, what: str) -> WeightsError:
    keys = ", ".join(f"data.{key}" for key in TYPED)
    return WeightsError(
        f"`{source}` beside the weights states {what}. That is not possible here: say yourself how images are seen, "
        f"with all of {keys}."
    )


def read_json(file: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file; an empty one where there is no file, or it holds something else.

    Raises:
        WeightsError: it is not JSON.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"`{file}` is not JSON: {error}.") from error
    return content if isinstance(content, dict) else {}
