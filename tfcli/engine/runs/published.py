"""Compare runs with published figures, read from `conf/published/`, one file for each data set. No torch.

A file gives `data`, the `test_images` (or `test_rows`) of the official split, and `entries`: model, value (or the two
ends of a range), source, protocol, and where known `pretraining`, `weights` (names of that checkpoint, or of its file),
`image_size`, `fitted_on`, `differs` (in words, whatever else is not as in ours) and `metric` (the file's own, else
`test/accuracy`). `tables` give the same for several checkpoints of
`_checkpoints.yaml` at once: `of` whose, and `values` by their short names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tfcli.engine.config.configs import Configs, compose, roots
from tfcli.engine.config.offers import class_of
from tfcli.errors import ConfigError, nearest

SIZES = "tsblh"
SCALES = {None: 0, "ImageNet-1k": 1, "ImageNet-21k": 2, "JFT-300M": 3}


def entries(data: str | None = None) -> list[dict[str, Any]]:
    """Return all published figures, or those of one data set, as in their files, with `data` and its test size."""
    configs = Configs(roots())
    checkpoints = configs.load("published/_checkpoints")
    found = []
    for name in configs.options("published"):
        values = configs.load(f"published/{name}")
        if data not in (None, values["data"]):
            continue
        shared = {"metric": values.get("metric", "test/accuracy")}
        shared |= {key: values[key] for key in ("test_images", "test_rows") if key in values}
        given = [*values.get("entries", []), *_tabled(name, values, checkpoints)]
        found += [{**shared, **entry, "data": values["data"]} for entry in given]
    return found


def _tabled(name: str, values: Mapping[str, Any], checkpoints: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the entries of a file's tables, with the facts of `_checkpoints.yaml` on each checkpoint."""
    for table in values.get("tables", []):
        whose = checkpoints.get(table["of"], {})
        known = whose.get("checkpoints", {})
        facts = {key: value for key, value in whose.items() if key != "checkpoints"}
        facts |= {key: value for key, value in table.items() if key not in ("of", "values")}
        for short, value in table["values"].items():
            if short not in known:
                raise ConfigError(
                    f"published/{name}.yaml names `{short}` of {table['of']}, which published/_checkpoints.yaml does "
                    f"not know.{nearest(short, known)}"
                )
            yield {**facts, **known[short], "value": value}


def in_words(value: float | list[float]) -> str:
    """Format a published figure: `0.667`, or `0.60-0.70` for a range."""
    if isinstance(value, list):
        return "-".join(f"{end:.2f}" for end in value)
    return f"{value:.3f}" if value < 10 else f"{value:.2f}"


def gap(ours: float, value: float | list[float]) -> float:
    """Return our figure minus the published one; 0 inside a published range, else the distance from its nearer end."""
    low, high = value if isinstance(value, list) else (value, value)
    return min(ours - low, 0.0) or max(ours - high, 0.0)


def family(model: str) -> str:
    """Return the family of a model: the options of one class (`vit_b16` -> `vit`, `resnet56` -> `resnet_cifar`).

    A size that is no option belongs to the option whose name it begins with; any other model is a family of its own.
    """
    known = _families()
    near = [name for name in known if re.match(rf"{re.escape(name)}(?![a-z])", model)]
    return known[max(near, key=len)] if near else model


@cache
def _families() -> dict[str, str]:
    """Return the family of each option of `model`, named by the base of the first option of its class."""
    configs = Configs(roots())
    names: dict[str | None, str] = {}
    return {
        name: names.setdefault(class_of(name, configs), _base(configs, name).lstrip("_"))
        for name in configs.options("model")
    }


def _base(configs: Configs, name: str) -> str:
    bases = [entry for entry in configs.load(f"model/{name}").get("defaults", []) if isinstance(entry, str)]
    first = next((base for base in bases if base != "_self_"), None)
    return _base(configs, first) if first else name


def published_for(
    model: str,
    data: str,
    weights: str | None = None,
    metric: str = "test/accuracy",
    *,
    counts: Mapping[str, int] | None = None,
    image_size: int | None = None,
    fitted_on: str | None = None,
    trained: bool = True,
) -> list[dict[str, Any]]:
    """Return published figures of the same family on the same data, the nearest to our run first.

    Args:
        model: our model's config name.
        data: our data set.
        weights: what our run started from; None: from scratch.
        metric: the figure.
        counts: our numbers of images, to say when ours are not the official test images.
        image_size: ours, in pixels; the data config's when left out.
        fitted_on: what ours was fitted on, `train` or `train + val`; None: train, where there is a validation split.
        trained: whether ours was trained or fitted here at all, or public weights are measured as they are.

    Returns:
        `value` (two ends where it is a range), `source`, `protocol`, and `differs`: in words what is not as in our run,
        empty where nothing is known.
    """
    alike = [e for e in entries(data) if e["metric"] == metric and family(e["model"]) == family(model)]
    if image_size is None:
        image_size = compose(Configs(roots()), [f"data={data}"]).get("data", {}).get("image_size")
    size = image_size if isinstance(image_size, int) else None
    alike.sort(key=lambda entry: _distance(entry, model, weights))
    return [
        {
            "value": entry["value"],
            "source": entry["source"],
            "protocol": entry["protocol"],
            "differs": _differs(entry, model, weights, counts, size, fitted_on, trained),
        }
        for entry in alike
    ]


def _same(a: str, b: str) -> bool:
    return a == b or a.replace("_", "") == b.replace("_", "")


def _started_alike(entry: Mapping[str, Any], weights: str | None) -> bool:
    if weights is None:
        return not entry.get("pretraining")
    return _is_its(entry, weights) or bool(entry.get("pretraining"))


def _is_its(entry: Mapping[str, Any], weights: str | None) -> bool:
    """Return whether our weights are the entry's own checkpoint, by name or file name."""
    return weights is not None and (weights.rpartition("/")[2] in entry.get("weights", []) or _names_it(entry, weights))


def _names_it(entry: Mapping[str, Any], weights: str | None) -> bool:
    """Return whether the name of our weights is that of the entry's checkpoint alone: then the model is the entry's."""
    if weights is None or "names" not in entry:
        return False
    name = re.sub(r"(?<=vit-[bl])/(?=\d)", "-", weights.lower()).replace("@", "-").rstrip("/").rpartition("/")[2]
    return re.sub(r"\.(pt|pth|bin|safetensors)$", "", name) in entry["names"]


def _distance(entry: Mapping[str, Any], model: str, weights: str | None) -> tuple:
    sizes = [re.match(r"(?:clip_)?(?:vit|deit)_?(ti|[sblh])", name) for name in (entry["model"], model)]
    ranks = [SIZES.index(m[1][0]) if m else 0 for m in sizes]
    depths = [int(m[0]) if (m := re.search(r"\d+", name)) else 0 for name in (entry["model"], model)]
    return (
        not (_same(entry["model"], model) or _names_it(entry, weights)),
        not _is_its(entry, weights),
        not _started_alike(entry, weights),
        SCALES.get(entry.get("pretraining"), len(SCALES)),
        abs(ranks[0] - ranks[1]),
        abs(depths[0] - depths[1]),
    )


def _differs(
    entry: Mapping[str, Any],
    model: str,
    weights: str | None,
    counts: Mapping[str, int] | None,
    size: int | None,
    fitted_on: str | None,
    trained: bool,
) -> str:
    parts = [entry["differs"]] if entry.get("differs") else []
    if not (_same(entry["model"], model) or _names_it(entry, weights)):
        parts.append(f"model {entry['model']}, ours {model}")
    before = entry.get("pretraining")
    if weights is None and before:
        parts.append(f"pre-trained on {before}, ours from scratch")
    elif weights is None and entry.get("weights"):
        parts.append("the full published training, ours from scratch with ours")
    elif weights is not None and not _is_its(entry, weights):
        start = f"pre-trained on {before}" if before else "trained from scratch"
        parts.append(f"{start}, ours {'started from' if trained else 'are'} {weights}")
    if size and entry.get("image_size") and entry["image_size"] != size:
        parts.append(f"at {entry['image_size']} px, ours at {size}")
    theirs, undivided = entry.get("fitted_on") if trained else None, counts is not None and not counts.get("val")
    if theirs == "train + val" and fitted_on in (None, "train") and not undivided:
        parts.append("trained on train + val, ours on train alone")
    elif theirs == "train" and fitted_on == "train + val" and not undivided:
        parts.append("fitted on train alone, ours on train + val")
    official, unit = entry.get("test_images") or entry.get("test_rows"), "images" if "test_images" in entry else "rows"
    if official and counts and counts.get("test") and counts["test"] != official:
        parts.append(f"on {official:,} test {unit}, ours on {counts['test']:,}")
    return "; ".join(parts)
