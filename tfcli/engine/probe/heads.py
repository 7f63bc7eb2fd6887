"""The heads on frozen features, each from the config to its rows of the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tfcli.engine.config.build import plain
from tfcli.engine.config.configs import roots
from tfcli.engine.probe import encoder as fr
from tfcli.engine.runs.terminal import progress
from tfcli.errors import ConfigError, nearest
from tfcli.models.protocols import ImageTextEncoder
from tfcli.probes import features as feat
from tfcli.probes import store
from tfcli.probes.fewshot import few_shot
from tfcli.probes.knn import knn
from tfcli.probes.linear import LinearResult, linear, sweep
from tfcli.probes.prompts import Prompts, load_prompts, texts
from tfcli.probes.scores import Figures, Split, checked, hold_out
from tfcli.probes.zeroshot import ZeroShot, encode_texts, zero_shot


@dataclass
class Result:
    """A row of the table.

    Attributes:
        head: zeroshot, linear, knn or fewshot; with what tells rows of one head apart it is the metrics' prefix.
        title: the row's words.
        test: figures on the test split.
        metrics: what else goes into the record, by its whole name.
        series: numbers behind the row, for figures and the homework's report.
        notes: lines below the table.
    """

    head: str
    title: str
    test: Figures
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Views:
    """Features of the splits as the heads ask for them; each is read or extracted when it is first wanted."""

    frozen: fr.Frozen
    kept: dict[str, Split] = field(default_factory=dict)

    def split(self, name: str, *, projected: bool = False, unit: bool = False) -> Split | None:
        """Features and labels of a split; None for a validation split that the set does not have."""
        if not self.frozen.data.counts[name]:
            return None
        if name not in self.kept:
            self.kept[name] = fr.features(self.frozen, name)
        x, label = self.kept[name]
        if projected:
            x = self.projected(x)
        device = self.frozen.devices[0]
        place = device if device.type == "cuda" else torch.device("cpu")  # heads compute in float64 here and there
        return (normalize(x, dim=1) if unit else x).to(place), label.to(place)

    @torch.no_grad()
    def projected(self, x: Tensor) -> Tensor:
        net = cast(ImageTextEncoder, self.frozen.net)
        return torch.cat([net.project(part) for part in x.split(8192)])

    @property
    def has_projection(self) -> bool:
        net, settings = self.frozen.net, self.frozen.job.config.features
        if not isinstance(net, ImageTextEncoder) or settings.layer is not None or settings.pool != "head":
            return False
        one = cast(Split, self.split("test"))[0][:1].cpu()
        return self.projected(one).shape != one.shape or not torch.equal(self.projected(one), one)

    def all(self, **how: bool) -> tuple[Split, Split | None, Split]:
        return cast(Split, self.split("train", **how)), self.split("val", **how), cast(Split, self.split("test", **how))


def chosen(frozen: fr.Frozen) -> list[str]:
    """The heads that were asked for and that the model allows.

    Raises:
        ConfigError: one does not exist, or zero-shot alone was asked of a model without a text tower.
    """
    asked = [str(h) for h in frozen.job.config.heads]
    for head in asked:
        if head not in HEADS:
            raise ConfigError(f"there is no head `{head}`.{nearest(head, list(HEADS))}  (there are {', '.join(HEADS)})")
    if "zeroshot" in asked and not frozen.has_text:
        if asked == ["zeroshot"]:
            raise ConfigError(
                f"zero-shot needs a text tower, and `{frozen.name}` has none. CLIP has one (`model=clip`); "
                f"`tfcli linear` and `tfcli knn` work with `{frozen.name}`."
            )
        asked.remove("zeroshot")
    features = frozen.job.config.features
    if "zeroshot" in asked and (features.layer is not None or features.pool != "head"):
        if asked == ["zeroshot"]:
            raise ConfigError("zero-shot reads what is projected: leave `features.layer` and `features.pool` out.")
        asked.remove("zeroshot")
    if not asked:
        raise ConfigError(f"`heads` names none. There are {', '.join(HEADS)}.")
    return asked


def fitted_on(views: Views, refitted: bool) -> str:
    """Return the images that a head was fitted on, for a note: rows of one table say whether they are the same."""
    counts = views.frozen.data.counts
    both = refitted and counts["val"]
    count = counts["train"] + (counts["val"] if both else 0)
    return f"train and validation ({count:,} images)" if both else f"train ({count:,} images)"


# ---- zero-shot


def prompts_for(frozen: fr.Frozen, templates: Any = None, config_dir: str | None = None) -> Prompts:
    """Class names and templates, checked against the set's own classes."""
    settings = plain(frozen.job.config.zeroshot)
    return load_prompts(
        frozen.job.choices["data"],
        frozen.data.classes,
        names=settings["names"],
        templates=templates if templates is not None else settings["templates"],
        roots=roots(config_dir),
    )


def text_embeddings(frozen: fr.Frozen, prompts: Prompts) -> Tensor:
    """Embeddings (K, T, E) of every prompt of every class, from the cache where they are there."""
    assert frozen.tokenizer is not None
    sentences = texts(prompts)
    flat = [text for row in sentences for text in row]
    tokens = torch.from_numpy(frozen.tokenizer.encode(flat))
    tower = {k: v for k, v in frozen.net.state_dict().items() if not k.startswith("image.")}
    facts = {
        "model": frozen.name,
        "data": frozen.data.name,
        "split": "prompts",
        "weights": feat.digest(tower),
        "texts": flat,
        "tokens": feat.digest({"tokens": tokens}),
    }

    def extract(rows: Sequence[int]) -> Iterator[store.Shard]:
        (copied,) = feat.replicas(frozen.net, frozen.devices[:1], torch.float32)
        index = torch.tensor(list(rows))
        with progress("encoding prompts", len(rows), "texts") as advance:
            encode = cast(ImageTextEncoder, copied).encode_text
            part = encode_texts(encode, tokens[index].to(frozen.devices[0]), advance=advance).cpu()
        yield {"features": part, "label": index // len(sentences[0]), "index": index}

    from tfcli.engine.runs.folder import say

    found, _ = store.fetch(store.entry(frozen.cache, facts, len(flat)), extract, sources=flat, say=say)
    return found["features"].unflatten(0, (len(sentences), -1))


def zeroshot(views: Views, settings: dict[str, Any]) -> list[Result]:
    frozen = views.frozen
    began = time.monotonic()
    prompts = prompts_for(frozen)
    found = classify(views, prompts)
    count = len(prompts.templates)
    best = max(found.templates, key=lambda t: t[1].accuracy)
    metrics = {"zeroshot/templates": float(count)}
    notes = list(prompts.notes)
    if prompts.renamed and settings["names"] == "spoken":
        notes.append(f"zero-shot: {len(prompts.renamed)} of {len(prompts.names)} class names are not the set's own")
    if count > 1:
        metrics["zeroshot/best_single/accuracy"] = best[1].accuracy
        notes.append(
            f"zero-shot: the best single template, `{best[0]}`, scores {best[1].accuracy:.3f} (chosen on test)"
        )
    return [
        Result(
            "zeroshot",
            f"zero-shot, {count} template{'s' if count > 1 else ''}",
            found.figures,
            time.monotonic() - began,
            metrics,
            {
                "templates": [(t, f.accuracy) for t, f in found.templates],
                "classes": _by_class(found.figures, frozen.data.classes),
                "accuracy": found.figures.accuracy,
                "phrase": prompts.templates[0],
                "guess": found.logits.argmax(1).cpu(),
            },
            notes,
        )
    ]


def _by_class(figures: Figures, classes: Sequence[str]) -> list[tuple[str, float]]:
    """Return the accuracy of each class that occurs."""
    counts = figures.confusion.sum(1)
    return [
        (name, float(row[k]) / n)
        for k, (name, row, n) in enumerate(zip(classes, figures.confusion, counts, strict=True))
        if n
    ]


def classify(views: Views, prompts: Prompts) -> ZeroShot:
    """Zero-shot figures of these prompts on the test split."""
    frozen = views.frozen
    x, label = checked("test", cast(Split, views.split("test", projected=True)), num_classes=frozen.data.num_classes)
    return zero_shot(x, label, text_embeddings(frozen, prompts).to(x.device), templates=prompts.templates)


# ---- linear


SCREEN = (0.01, 1.0, 100.0)
"""Values of C by which `auto` compares kinds of features before it sweeps with the best."""


def linear_probe(views: Views, settings: dict[str, Any]) -> list[Result]:
    kinds = _kinds(views, settings)
    if settings["normalise"] != "both" and len(kinds) > 1:
        kinds = [max(kinds, key=lambda kind: _screened(views, settings, *kind))]
    rows = []
    for projected, unit in kinds:
        began = time.monotonic()
        found = _linear(views, settings, projected, unit)
        name = {True: "linear/normalised", False: "linear/as_they_are"}[unit]
        name = name if settings["normalise"] == "both" else "linear"
        words = [f"C = {found.C:.3g}", *(["projected"] if projected else []), *(["normalised"] if unit else [])]
        metrics = {f"{name}/C": found.C, f"{name}/mean_norm": found.mean_norm}
        if found.val is not None:
            metrics[f"{name}/val_accuracy"] = found.val.accuracy
        series = {"C": [(r.C, r.figure) for r in found.rows], "unit": unit, "val": found.val, "norm": found.mean_norm}
        series["refitted"] = found.refitted
        seen = fitted_on(views, found.refitted)
        notes = [f"linear: fitted on {seen}; C = {found.C:.3g} at a mean feature length of {found.mean_norm:.3g}"]
        if found.carved:
            notes.append(f"linear: no validation split, so C was chosen on {found.carved:,} images held out of train")
        title = f"linear, {', '.join(words)}"
        rows.append(Result(name, title, found.test, time.monotonic() - began, metrics, series, notes))
    return rows


def _kinds(views: Views, settings: dict[str, Any]) -> list[tuple[bool, bool]]:
    """The kinds of features to consider: (projected, normalised)."""
    spaces = {"auto": [False, True], "projected": [True], "pooled": [False]}[settings["features"]]
    spaces = spaces if views.has_projection else [False]
    lengths = [False, True] if settings["normalise"] in ("auto", "both") else [bool(settings["normalise"])]
    return [(projected, unit) for projected in spaces for unit in lengths]


def _screened(views: Views, settings: dict[str, Any], projected: bool, unit: bool) -> float:
    """The best validation figure of a kind of features over a few C, by fits that are stopped early."""
    train, val, _ = views.all(projected=projected, unit=unit)
    if val is None:
        train, val = hold_out(train, fraction=0.2, seed=views.frozen.job.config.seed)
    # At one C, features of length 1 are held back more strongly, by the square of their former length.
    long = cast(Split, views.split("train", projected=projected))[0]
    stretch = float(long.pow(2).sum(1).mean()) if unit else 1.0
    found = sweep(
        train[0],
        train[1],
        val,
        num_classes=views.frozen.data.num_classes,
        grid=[C * stretch for C in SCREEN],
        select=settings["metric"],
        max_iter=50,
    )
    return max(row.figure for row in found.rows)


def _linear(views: Views, settings: dict[str, Any], projected: bool, unit: bool) -> LinearResult:
    train, val, test = views.all(projected=projected, unit=unit)
    return linear(
        train,
        val,
        test,
        num_classes=views.frozen.data.num_classes,
        C=settings["C"],
        grid=settings["grid"],
        select=settings["metric"],
        refit=settings["refit"],
        seed=views.frozen.job.config.seed,
    )


# ---- neighbours and few shots


def neighbours(views: Views, settings: dict[str, Any]) -> list[Result]:
    began = time.monotonic()
    projected = settings["features"] == "projected" and views.has_projection
    train, val, test = views.all(projected=projected)
    found = knn(
        train,
        val,
        test,
        num_classes=views.frozen.data.num_classes,
        ks=settings["ks"],
        weighted=settings["vote"] == "weighted",
        temperature=settings["temperature"],
        select=settings["select"],
        refit=settings.get("refit", False),  # probes made before there was a choice looked among train alone
        seed=views.frozen.job.config.seed,
    )
    metrics = {"knn/best_k": float(found.k)}
    for k, figures in found.test.items():
        metrics[f"knn/k={k}/accuracy"] = figures.accuracy
    ks = ",".join(map(str, found.test))
    notes = [] if settings["select"] == "val" else ["kNN: K is the best on the test split itself (knn.select=test)"]
    if settings["select"] == "val":
        shown = " · ".join(f"{k}: {f.accuracy:.3f}" for k, f in found.test.items())
        notes.append(f"kNN, test accuracy by K: {shown}")
    series = {
        "test": [(k, f.accuracy) for k, f in found.test.items()],
        "val": [(k, f.accuracy) for k, f in found.val.items()],
        "best_k": found.k,
        "refitted": found.refitted,
    }
    notes.append(f"kNN: the neighbours are of {fitted_on(views, found.refitted)}")
    title = f"kNN, K = {found.k} of {ks}" + (", weighted" if settings["vote"] == "weighted" else "")
    return [Result("knn", title, found.test[found.k], time.monotonic() - began, metrics, series, notes)]


def shots(views: Views, settings: dict[str, Any]) -> list[Result]:
    began = time.monotonic()
    train, val, test = views.all()
    rows = few_shot(
        train,
        val,
        test,
        num_classes=views.frozen.data.num_classes,
        shots=settings["shots"],
        draws=settings["draws"],
        seed=views.frozen.job.config.seed,
    )
    took = (time.monotonic() - began) / max(1, len(rows))
    left_out = [n for n in settings["shots"] if n not in [row.n for row in rows]]
    notes = [f"few-shot: some class has fewer than {n} training images" for n in left_out[:1]]
    return [
        Result(
            f"fewshot/n={row.n}",
            f"{row.n}-shot linear, mean of {len(row.draws)} draws",
            row.draws[0],
            took,
            {f"fewshot/n={row.n}/std": row.std},
            {"mean": row.mean, "std": row.std, "n": row.n, "per_class": fmean(d.per_class for d in row.draws)},
            notes,
        )
        for row in rows
    ]


HEADS: dict[str, tuple[str, Callable[[Views, dict[str, Any]], list[Result]]]] = {
    "zeroshot": ("zeroshot", zeroshot),
    "linear": ("linear", linear_probe),
    "knn": ("knn", neighbours),
    "fewshot": ("fewshot", shots),
}
"""Head -> its node of the config and its function."""
