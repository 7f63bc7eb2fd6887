"""`tfcli published`: published figures with their source and protocol."""

from __future__ import annotations

from typing import Any

import typer

from tfcli.cli.options import Json
from tfcli.errors import ConfigError, nearest

Model = typer.Argument(None, metavar="[MODEL]", help="A model or its family, for instance vit.")
Data = typer.Argument(None, metavar="[DATA]", help="A data set, for instance pets.")


def mount(app: typer.Typer) -> None:
    """Add `published` to the program."""
    app.command("published", help="Published figures with their source and protocol.")(published)


def published(
    model: str = Model,
    data: str = Data,
    json: Json = False,
) -> None:
    """Show published figures: all, of a model's family, on a data set. One name alone may be either."""
    from tfcli.cli.console import table
    from tfcli.engine.runs.published import entries, family, in_words

    known = entries()
    sets = sorted({entry["data"] for entry in known})
    families = sorted({family(entry["model"]) for entry in known})
    if model and data is None and model in sets:
        model, data = None, model
    if data and data not in sets:
        raise ConfigError(
            f"nothing published is kept for data `{data}`.{nearest(data, sets)}  (there is {', '.join(sets)})"
        )
    if model and family(model) not in families:
        names = [*families, *sets]
        raise ConfigError(
            f"nothing published is kept for `{model}`.{nearest(model, names)}  (there is {', '.join(names)})"
        )
    rows = [e for e in known if data in (None, e["data"]) and (not model or family(e["model"]) == family(model))]
    exact = [entry for entry in rows if entry["model"] == model]
    rows = exact or rows
    rows.sort(key=_place)
    if not json:
        rows = [{**entry, "value": in_words(entry["value"])} for entry in rows]
    columns = {"data": "data", "model": "model", "metric": "metric", "value": "value", "pretraining": "pre-training"}
    columns |= {"image_size": "px", "source": "source", "protocol": "protocol"}
    table(None, columns, rows, json=json, optional=("protocol", "px"), empty="nothing published is kept for that pair")


def _place(entry: dict[str, Any]) -> tuple:
    """Return the sort key: heads on frozen features before trained classifiers, the best of each metric first."""
    value = entry["value"]
    best = value[1] if isinstance(value, list) else value
    return entry["data"], entry["metric"].startswith("test/"), entry["metric"], -best
