"""Write the CLIP homework's report: zero-shot with its phrase, linear probe twice, kNN over its K."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcli.data.images.preview import spread
from tfcli.engine.probe.encoder import Frozen
from tfcli.engine.probe.heads import Result
from tfcli.engine.runs.format import to_markdown
from tfcli.viz.probe import samples

EXPECTED = {"zeroshot": "0.60-0.70", "linear": "0.90-0.95", "knn": "0.80-0.90"}
"""The homework's own ranges for CLIP ViT-B/32 on Flowers."""


SAMPLES = 12


def report(frozen: Frozen, results: list[Result], *, command: str, figures: Path) -> str:
    """Return the three answers in Markdown, with the command, figures, sample images and how each was measured.

    Args:
        command: the command line that made it.
        figures: the folder of the run's figures; sample images are drawn into it.
    """
    data, counts = frozen.data, frozen.data.counts
    by = {result.head: result for result in results}
    flowers = data.name == "flowers" and frozen.name.startswith("clip")
    parts = [
        f"# {frozen.name} on {data.name}, three ways",
        f"Weights: {frozen.source}. Images at {data.image_size} px: train {counts['train']:,}, val {counts['val']:,}, "
        f"test {counts['test']:,}, {data.num_classes} classes. Intervals are 95 % (Wilson).",
        f"```sh\n{command.strip()}\n```",
    ]
    if "zeroshot" in by:
        zero = by["zeroshot"]
        draw_samples(data, zero.series["guess"], figures / "samples.png")
        parts += [
            f"## Zero-shot, `{zero.series['phrase']}`",
            _answers([zero], flowers, "zeroshot"),
            "![test images with their classes and predictions](figures/samples.png)",
            "![accuracy of the classes](figures/zeroshot.png)",
        ]
    linear = [result for name, result in by.items() if name.startswith("linear")]
    if linear:
        parts += ["## Linear probe", _answers(linear, flowers, "linear"), _linear_words(linear)]
        if any(result.series["C"] for result in linear):
            parts.append("![validation accuracy against C](figures/linear.png)")
    if "knn" in by:
        ks = [{"K": k, "test": v} for k, v in by["knn"].series["test"]]
        for row, (_, value) in zip(ks, by["knn"].series["val"], strict=False):
            row["val"] = value
        columns = {"K": "K", "val": "val accuracy", "test": "test accuracy"}
        best = by["knn"].series["best_k"]
        parts += [
            "## k nearest neighbours",
            to_markdown(columns, ks).rstrip(),
            f"The best K on the test split is {best}: {_figure(by['knn'])}"
            + (f" (the homework expects {EXPECTED['knn']})." if flowers else ".")
            + " Choosing K on the test split makes the figure a little too good; `protocol=default` chooses on val.",
            "![accuracy against K](figures/knn.png)",
        ]
    notes = [note for result in results for note in result.notes]
    parts += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def draw_samples(data: Any, guess: Any, path: Path) -> None:
    """Draw test images, classes in turn, with the class of each and the one that was predicted.

    Args:
        guess: the predicted class of every test image, in the split's order.
    """
    labels = data.labels("test")
    rows = spread(labels, SAMPLES)
    images = data.labelled["test"]["image"].plain(rows, data.eval_transform).permute(0, 2, 3, 1).numpy()
    truth, guessed = ([data.classes[kind[row]] for row in rows] for kind in (labels, guess))
    samples(images, truth, guessed, path, title=f"{data.name}, test: zero-shot")


def _answers(results: list[Result], flowers: bool, kind: str) -> str:
    rows: list[dict[str, Any]] = []
    for result in results:
        row = {"answer": result.title, "test": _figure(result), "per_class": f"{result.test.per_class:.3f}"}
        if result.series.get("val") is not None:
            row["val"] = f"{result.series['val'].accuracy:.3f}"
        if flowers:
            row["expected"] = EXPECTED[kind]
        rows.append(row)
    columns = {"answer": "answer", "val": "val accuracy", "test": "test accuracy", "per_class": "mean per class"}
    columns |= {"expected": "the homework expects"}
    return to_markdown({k: v for k, v in columns.items() if any(k in row for row in rows)}, rows).rstrip()


def _figure(result: Result) -> str:
    low, high = result.test.accuracy_interval
    return f"{result.test.accuracy:.3f} [{low:.3f}, {high:.3f}]"


def _linear_words(results: list[Result]) -> str:
    norms = [result.series["norm"] for result in results]
    return (
        f"The mean feature length is {max(norms):.3g} as they are and 1 normalised: at one C the normalised features "
        "are held back the more strongly, by the square of that ratio, which is why each needs a C of its own."
    )
