"""The README.md of an exported model, made from the run's results."""

from __future__ import annotations

import shlex
from typing import Any

from tfcli.engine.runs.format import number, to_markdown
from tfcli.engine.runs.record import Record, figure_info
from tfcli.weights.layout import Layout


def model_card(record: Record, layout: Layout, data: dict[str, Any], *, name: str) -> str:
    """Return the card: data and their licence, figures with intervals, the command, and how to open the folder.

    Args:
        record: of the run.
        layout: that was written.
        data: `config.data` of the run.
        name: of the folder.
    """
    counts = ", ".join(f"{count:,} {split}" for split, count in record.counts.items() if count)
    command = shlex.join(["tfcli", record.verb, *(text for text in record.overrides if "run.dir=" not in text)])
    parts = [
        f"---\nlibrary_name: {layout.library}\ntags: [tfcli, {record.model}]\n---",
        f"# {record.model} on {record.data}",
        f"`{layout.architecture}` of {layout.library}, {record.params.get('total', 0):,} parameters, trained by tfcli "
        f"on `{record.data}`" + (f" ({counts})." if counts else "."),
        f"Licence of the data: {data.get('licence') or 'none stated'}.",
        "## Figures",
        _figures(record),
        "## Command",
        f"```sh\n{command}\n```\n\nSeed {record.seed}.",
        "## Use",
        f"```python\n{_opens(layout, name)}\n```",
        f"In tfcli: `model={record.model} model.weights={name}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _figures(record: Record) -> str:
    rows = []
    for metric, value in record.metrics.items():
        rows.append(
            {
                "figure": figure_info(metric, [record]).title,
                "split": metric.partition("/")[0],
                "value": number(value),
                "interval": " to ".join(map(number, record.intervals.get(metric, ()))),
            }
        )
    if not rows:
        return "None was measured."
    return to_markdown(
        {"figure": "figure", "split": "split", "value": "value", "interval": "95 % interval"}, rows
    ).rstrip()


def _opens(layout: Layout, name: str) -> str:
    if layout.library == "transformers":
        return (
            f"from transformers import {layout.architecture}\n\n"
            f'net = {layout.architecture}.from_pretrained("{name}").eval()'
        )
    return (
        "from safetensors.torch import load_file\n"
        f"from torchvision.models import {layout.architecture}\n\n"
        f'state = load_file("{name}/model.safetensors")\n'
        f'net = {layout.architecture}(num_classes=len(state["fc.bias"])).eval()\n'
        "net.load_state_dict(state)"
    )
