"""Extract features and try templates: the parts of a probe for `tfcli features` and `tfcli prompts`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcli.engine.config.compose import Composition
from tfcli.engine.probe import encoder
from tfcli.engine.probe.heads import requested_heads
from tfcli.engine.probe.views import Views
from tfcli.engine.probe.zeroshot import classify, prompts_for
from tfcli.engine.runs.folder import say
from tfcli.errors import ConfigError
from tfcli.probes.prompts import check_template

SPLITS = ("train", "val", "test")


def extract(job: Composition, run: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Extract every split. Returns a row a split and what the user should know."""
    frozen = encoder.prepare(job, run)
    rows = []
    for split in SPLITS:
        count = frozen.data.counts[split]
        if not count:
            continue
        x, _ = encoder.fetch_features(frozen, split)
        entry = encoder.entry(frozen, split)
        cached, took = frozen.from_cache[split], frozen.seconds[split]
        rows.append(
            {
                "split": split,
                "rows": len(x),
                "width": x.shape[1],
                "from": "cache" if cached else "images",
                "seconds": took,
                "rate": len(x) / max(took, 1e-9),
                "folder": str(entry.folder),
            }
        )
    arithmetic = {"32": "fp32", "16": "fp16"}.get(frozen.precision, frozen.precision)
    return rows, [f"{frozen.name} ({frozen.source}), {arithmetic} ({frozen.why})", *frozen.notes]


def explain(job: Composition, run: Path | None) -> list[dict[str, Any]]:
    """Return for each split whether its features are cached, and what differs from the nearest that are."""
    return encoder.cached(encoder.prepare(job, run))


def try_templates(job: Composition, run: Path | None, templates: list[str]) -> list[dict[str, Any]]:
    """Return the zero-shot figures of templates, each alone, beside the set's own ensemble."""
    for template in templates:
        check_template(template)
    job.config.heads = ["zeroshot"]
    frozen = encoder.prepare(job, run)
    requested_heads(frozen)
    if not frozen.data.counts["test"]:
        raise ConfigError(f"data `{frozen.data.name}` has no test split to try prompts on.")
    for line in frozen.notes:
        say(line)
    views, rows = Views(frozen), []
    own = prompts_for(frozen)
    for title, wanted in [*((t, [t]) for t in templates), (f"the set's own ({len(own.templates)})", None)]:
        figures = classify(views, own if wanted is None else prompts_for(frozen, wanted)).figures
        low, high = figures.accuracy_interval
        rows.append(
            {
                "template": title,
                "top1": f"{figures.accuracy:.3f} [{low:.3f}, {high:.3f}]",
                "per_class": figures.per_class,
                "accuracy": figures.accuracy,
            }
        )
    return rows
