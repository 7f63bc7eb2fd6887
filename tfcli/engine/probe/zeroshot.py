"""The zero-shot head: classes by their names, encoded by the model's text tower."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from tfcli.engine.config.build import plain
from tfcli.engine.config.configs import roots
from tfcli.engine.probe import encoder
from tfcli.engine.probe.heads import Head, Result
from tfcli.engine.probe.views import Views
from tfcli.engine.runs.folder import say
from tfcli.engine.runs.terminal import progress
from tfcli.models.protocols import ImageTextEncoder
from tfcli.probes import features, store
from tfcli.probes.prompts import Prompts, load_prompts, texts
from tfcli.probes.scores import Figures, Split, checked
from tfcli.probes.zeroshot import ZeroShot as Found
from tfcli.probes.zeroshot import encode_texts, zero_shot
from tfcli.viz import probe as figures


@dataclass
class ZeroShot(Head):
    """Classification by the text tower: each class is the mean of its prompts."""

    learns = False
    names: Literal["spoken", "own"] = "spoken"
    templates: str | list[str] | None = None

    def lacks(self, frozen: encoder.Frozen) -> str | None:
        """Return what is missing: a text tower, or features in the space that the texts share."""
        if not frozen.has_text:
            return (
                f"zero-shot needs a text tower, and `{frozen.name}` has none. CLIP has one (`model=clip`); "
                f"`tfcli linear` and `tfcli knn` work with `{frozen.name}`."
            )
        settings = frozen.job.config.features
        if settings.layer is not None or settings.pool != "head":
            return "zero-shot reads what is projected: leave `features.layer` and `features.pool` out."
        return None

    def __call__(self, views: Views) -> list[Result]:
        frozen = views.frozen
        began = time.monotonic()
        prompts = prompts_for(frozen)
        found = classify(views, prompts)
        count = len(prompts.templates)
        best = max(found.templates, key=lambda t: t[1].accuracy)
        metrics = {"zeroshot/templates": float(count)}
        notes = list(prompts.notes)
        if prompts.renamed and self.names == "spoken":
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

    def draw(self, rows: Sequence[Result], every: Sequence[Result], folder: Path, *, title: str) -> None:
        for row in rows:
            classes, templates = row.series["classes"], row.series["templates"]
            figures.bars(classes, folder / "zeroshot.png", title, "zero-shot accuracy of a class")
            if len(templates) > 1:
                figures.bars(templates, folder / "templates.png", title, "zero-shot accuracy of one template")


def prompts_for(frozen: encoder.Frozen, templates: Any = None, config_dir: str | None = None) -> Prompts:
    """Load class names and templates, checked against the set's own classes."""
    settings = plain(frozen.job.config.zeroshot)
    return load_prompts(
        frozen.job.choices["data"],
        frozen.data.classes,
        names=settings["names"],
        templates=templates if templates is not None else settings["templates"],
        roots=roots(config_dir),
    )


def text_embeddings(frozen: encoder.Frozen, prompts: Prompts) -> Tensor:
    """Return embeddings (K, T, E) of every prompt of every class, from the cache where they are there."""
    assert frozen.tokenizer is not None
    sentences = texts(prompts)
    flat = [text for row in sentences for text in row]
    tokens = torch.from_numpy(frozen.tokenizer.encode_padded(flat))
    tower = {k: v for k, v in frozen.net.state_dict().items() if not k.startswith("image.")}
    facts = {
        "model": frozen.name,
        "data": frozen.data.name,
        "split": "prompts",
        "weights": features.digest(tower),
        "texts": flat,
        "tokens": features.digest({"tokens": tokens}),
    }

    def extract(rows: Sequence[int]) -> Iterator[store.Shard]:
        (copied,) = features.replicas(frozen.net, frozen.devices[:1], torch.float32)
        index = torch.tensor(list(rows))
        with progress("encoding prompts", len(rows), "texts") as advance:
            encode = cast(ImageTextEncoder, copied).encode_text
            part = encode_texts(encode, tokens[index].to(frozen.devices[0]), advance=advance).cpu()
        yield {"features": part, "label": index // len(sentences[0]), "index": index}

    found, _ = store.fetch(store.entry(frozen.cache, facts, len(flat)), extract, sources=flat, say=say)
    return found["features"].unflatten(0, (len(sentences), -1))


def _by_class(figures: Figures, classes: Sequence[str]) -> list[tuple[str, float]]:
    """Return the accuracy of each class that occurs."""
    counts = figures.confusion.sum(1)
    return [
        (name, float(row[k]) / n)
        for k, (name, row, n) in enumerate(zip(classes, figures.confusion, counts, strict=True))
        if n
    ]


def classify(views: Views, prompts: Prompts) -> Found:
    """Return the zero-shot figures of these prompts on the test split."""
    frozen = views.frozen
    x, label = checked("test", cast(Split, views.split("test", projected=True)), num_classes=frozen.data.num_classes)
    return zero_shot(x, label, text_embeddings(frozen, prompts).to(x.device), templates=prompts.templates)
