"""What can be wrong with a composed config, found before torch is imported.

The names say what a value is (STYLE.md: `num_x` counts, `x_size` measures, `x_fraction` lies in [0, 1]), so the rules
are by the last word of a key and hold for every family. What only a constructor can know, it checks itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from tfcli.engine import targets
from tfcli.engine.fitting import check_parts
from tfcli.errors import ConfigError, nearest

COUNT = re.compile(
    r"(num_\w+|\w+_size|size|width|depth|heads|mlp_width|max_epochs|accumulate|num_nodes|log_every_steps|repeats|randaugment_ops|jobs|trials|timeout_min|cpus)$"
)
FRACTION = re.compile(r"(\w*_fraction|\w*dropout|drop_path|label_smoothing|ema_decay|momentum|flip|erasing|alpha)$")
POSITIVE = re.compile(r"(lr|norm_eps|eps|base|tau)$")
NOT_NEGATIVE = re.compile(
    r"(weight_decay|clip|warmup_steps|warmup_epochs|limit_\w+|mixup|cutmix|randaugment|randaugment_std|color_jitter|layer_decay|head_scale|seed|split_seed|patience|average_last|std|save_every_\w+|gpus)$"
)
CHOICES = {
    "trainer.precision": [
        "auto",
        "32",
        "bf16",
        "64",
        "32-true",
        "bf16-mixed",
        "16-mixed",
        "bf16-true",
        "16-true",
        "64-true",
    ],
    "trainer.compile": ["auto", "True", "False"],
    "trainer.accelerator": ["auto", "cpu", "gpu", "cuda", "mps", "tpu"],
    "trainer.test": ["best", "last", "none"],
    "data.cache": ["auto", "memory", "disk", "none"],
    "data.on_error": ["raise", "skip"],
    "data.resize": ["shorter", "longer", "squash", "none"],
    "data.resizer": ["pillow", "transformers"],
    "data.interpolation": ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"],
    "data.augment.crop": ["resized", "padded", "none"],
    "data.augment.randaugment_kind": ["torchvision", "timm"],
    "data.augment.autoaugment": ["none", "imagenet", "cifar10", "svhn"],
    "data.augment.erasing_fill": ["mean", "pixel"],
    "attn.kernel": ["auto", "exact", "explicit", "flex"],
    "pos.at": ["stem", "every", "shared"],
    "model.pool": ["class", "mean", "attention"],
    "model.image.stem": ["patch", "conv"],
    "task.kind": ["hard", "soft", "none"],
    "task.kl_reduction": ["batch", "elements"],
    "task.batch_norm": ["auto", "train", "frozen"],
    "features.pool": ["head", "class", "mean"],
    "features.precision": ["auto", "32", "bf16", "16"],
    "features.accelerator": ["auto", "cpu", "cuda", "mps"],
    "zeroshot.names": ["spoken", "own"],
    "linear.features": ["auto", "projected", "pooled"],
    "linear.normalise": ["auto", "True", "False", "both"],
    "linear.metric": ["accuracy", "per_class"],
    "knn.features": ["projected", "pooled"],
    "knn.vote": ["majority", "weighted"],
    "knn.select": ["val", "test"],
    "search.sampler": ["tpe", "random"],
}


def same_type(key: str, old: Any, new: Any, line: str | None) -> None:
    """Refuse a value whose kind differs from the one it replaces.

    Raises:
        ConfigError: text for a number, a number for a group of settings, and the like.
    """
    if isinstance(new, str) and new.startswith("${"):
        return
    if isinstance(old, DictConfig | dict) and not isinstance(new, dict | None):
        raise ConfigError(
            f"`{key}` is a group of settings, not one value; `{line}` would replace it. "
            f"Set one of them: {', '.join(f'{key}.{k}' for k in list(old)[:6])}."
        )
    kinds = {bool: "true or false", int: "a whole number", float: "a number"}
    kind = type(old)
    if kind not in kinds or key in CHOICES:
        return
    fits = {bool: isinstance(new, bool), int: _is(new, int), float: _is(new, int, float)}[kind]
    if not fits:
        shown = "null" if new is None else f"`{new}`"
        raise ConfigError(f"`{key}` must be {kinds[kind]}, but is {shown}; it was {old}.")


def check(config: DictConfig, *, choices: dict[str, str], picked: set[str]) -> None:
    """Refuse values out of range, parts that do not fit, and interpolations that lead nowhere.

    Args:
        config: what Hydra composed.
        choices: the option taken in each group.
        picked: the groups that the command itself named.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    _check_needs(config, choices)
    values = _resolved(config)
    targets.check(values)
    # Parts first, then what is made of them, so that a message names the key that was typed.
    for name in sorted(values, key=lambda name: name in ("task", "model")):
        for key, value in _leaves(values[name], name):
            _check_value(key, value)
    for path, node in _groups(values):
        check_parts(path, node)
        own_size = not node.get("weights")  # else it is the checkpoint's, and checked when that has been read
        if own_size:
            _divides(path, node, "heads", "width")
        if own_size and path != "data":  # there it is a suggestion, which only some models take
            _divides(path, node, "patch_size", "image_size")
        if isinstance(node.get("names"), list) and node.get("name") not in node["names"]:
            raise ConfigError(
                f"`{path}.name`: there is no `{node.get('name')}`.{nearest(str(node.get('name')), node['names'])}"
            )
    for group in ("pos", "attn"):
        raw = OmegaConf.to_container(config.model, resolve=False) if config.get("model") is not None else {}
        if group in picked and "model" in config and f"${{{group}}}" not in str(raw):
            part = "positions" if group == "pos" else "attention"
            raise ConfigError(
                f"`{group}={choices.get(group)}`: model `{choices.get('model')}` has no {part} to swap; "
                f"leave `{group}=` out."
            )


def _check_needs(config: DictConfig, choices: dict[str, str]) -> None:
    """Refuse data that have not what the task needs; first, since a model may refer to what only other data state."""
    needs = list(OmegaConf.select(config, "task.needs", default=None) or [])
    kinds = list(OmegaConf.select(config, "data.kinds", default=None) or [])
    missing = [need for need in needs if need not in kinds]
    if missing and "data" in config:
        fitting = [n for n, has in _data_kinds() if set(needs) <= set(has)]
        raise ConfigError(
            f"task `{choices.get('task')}` needs {', '.join(missing)}, which data `{choices.get('data')}` does "
            f"not have. Data that would fit: {', '.join(fitting) or 'none yet'}."
        )


def check_values(values: dict[str, Any]) -> None:
    """Refuse single values out of range. Raises ConfigError for the first."""
    targets.check(values)
    for key, value in _leaves(values):
        _check_value(key, value)


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        raise ConfigError(f"`{error.full_key}` has no value yet: give it, `{error.full_key}=...`.") from error
    except (InterpolationKeyError, InterpolationResolutionError) as error:
        raise ConfigError(
            f"`{error.full_key}` refers to something that is not there: {str(error).splitlines()[0]}"
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"the config cannot be resolved: {str(error).splitlines()[0]}") from error


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(child, f"{path}.{name}" if path else str(name))
    else:
        yield path, node


def _groups(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.items():
        if isinstance(child, dict):
            yield from _groups(child, f"{path}.{name}" if path else str(name))


def _check_value(key: str, value: Any) -> None:
    leaf = key.rpartition(".")[2]
    if key in CHOICES:
        if str(value) not in CHOICES[key]:
            raise ConfigError(
                f"`{key}` must be one of {', '.join(CHOICES[key])}, but is `{value}`."
                f"{nearest(str(value), CHOICES[key])}"
            )
        return
    if value is None or value == "auto" or isinstance(value, list):
        return
    if COUNT.fullmatch(leaf) and not (_is(value, int) and value >= 1):
        raise ConfigError(f"`{key}` must be a whole number of at least 1, but is {value}.")
    if FRACTION.fullmatch(leaf) and not (_is(value, int, float) and 0 <= value <= 1):
        raise ConfigError(f"`{key}` must lie between 0 and 1, but is {value}.")
    if POSITIVE.fullmatch(leaf) and not (_is(value, int, float) and value > 0):
        raise ConfigError(f"`{key}` must be a number greater than 0, but is {value}.")
    if NOT_NEGATIVE.fullmatch(leaf) and not (_is(value, int, float) and value >= 0):
        raise ConfigError(f"`{key}` must be a number of at least 0, but is {value}.")


def _divides(path: str, node: dict[str, Any], small: str, large: str) -> None:
    a, b = node.get(small), node.get(large)
    if isinstance(a, int) and isinstance(b, int) and b % a:
        divisors = [d for d in range(1, b + 1) if b % d == 0]
        close = sorted(sorted(divisors, key=lambda d: abs(d - a))[:2])
        thing = f"an image of {b}" if large == "image_size" else f"a {large} of {b}"
        prefix = f"{path}." if path else ""
        source = "`data.image_size`" if large == "image_size" else f"`{prefix}{large}`"
        raise ConfigError(
            f"`{prefix}{small}` must divide {source}, but is {a} for {thing}. Nearest: {', '.join(map(str, close))}."
        )


def _data_kinds() -> Iterator[tuple[str, list[str]]]:
    from tfcli.engine.compose import PACKAGED

    for file in sorted((PACKAGED / "data").glob("[!_]*.yaml")):
        facts = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        kinds = facts.get("kinds", ["image", "label"])
        yield file.stem, kinds if isinstance(kinds, list) else list(facts["columns"])  # of a user's table


def _is(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
