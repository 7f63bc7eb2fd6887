"""Read and write `results.json` (schema 1), from which everything else reads runs, and find runs by name.

No torch here: `runs`, sweeps and completion read hundreds of these.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from tfcli.engine.config import moved
from tfcli.engine.runs.disk_space import free_reserved_space
from tfcli.engine.runs.terminal import say
from tfcli.errors import RunError, nearest
from tfcli.files import is_full, write_atomic
from tfcli.metrics.info import Declared, FigureInfo

SCHEMA = 1
STAMP = re.compile(r"^(\d{8}-\d{6})(?:-(.+))?$")


@dataclass
class Record:
    """One run's results: the content of results.json (schema 1).

    `metrics` are named `split/name`; a value that is not a finite number is stored as null and read back as NaN.
    `intervals` hold 95 % bounds; `published` entries come from `tfcli.engine.runs.published`; `baselines` are figures
    measured beside the run (`interpolated trigram/bits_per_char`); `cost` is in seconds, examples
    per second and bytes. `units` say what `counts` and `examples_per_second` are of where it is not images;
    `signatures` how a figure was computed, where several ways go by its name (BLEU). `figures` has title and
    direction of each figure, with its split or without it, as the task declares them, in the order of tables; None in
    records of before. `main` is the figure that stands for the run where there is room for one. `next` is a
    command to try with the trained model. `left_out` says of figures that could not be measured why.
    `status` is finished, failed or interrupted; a folder without a record is read as `unfinished`.
    """

    verb: str
    status: str
    model: str
    data: str
    task: str = "classify"
    seed: int = 0
    overrides: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    baselines: dict[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    error: str | None = None
    title: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    figures: Declared | None = None
    main: str | None = None
    next: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, `schema` first, without optional keys that are empty (`title`, `units`, ...)."""
        values = {"schema": self.schema, **asdict(self)}
        for key in ("title", "baselines", "units", "signatures", "figures", "main", "next", "left_out"):
            if not values[key]:
                del values[key]
        return finite(values)

    def write(self, folder: Path) -> Path:
        """Write `folder/results.json` whole or not at all."""
        path = Path(folder) / "results.json"
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
        try:
            write_atomic(path, text)
        except OSError as error:
            if not is_full(error):
                raise
            free_reserved_space(path.parent)
            write_atomic(path, text)
        return path


def figure_info(metric: str, records: Iterable[Record]) -> FigureInfo:
    """Return title and direction of `metric`, as a record that has it declares; of older runs by its name."""
    for record in records:
        if metric in record.metrics and record.figures is not None:
            names = (metric, metric.partition("/")[2], metric.rpartition("/")[2])
            return next((record.figures[n] for n in names if n in record.figures), FigureInfo(_words(names[1])))
    lower = ("loss", "error", "perplexity", "bits_per", "seconds", "bytes", "rank", "exponent")
    return FigureInfo(_words(metric.partition("/")[2]), lower_is_better=any(word in metric for word in lower))


def lower_is_better(metric: str, records: Iterable[Record]) -> bool:
    """Return whether a smaller `metric` is the better one; see `figure_info`."""
    return figure_info(metric, records).lower_is_better


TITLES_BEFORE = {
    "accuracy_top5": "top 5",
    "accuracy_per_class": "per class",
    "bits_per_char": "bits per character",
    "bleu": "BLEU",
    "chrf": "chrF",
    "f1": "F1",
    "loss_step": "loss of a step",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "word_perplexity": "perplexity per word",
}
"""Titles of the figures of records that do not state them: those made before records declared their figures."""


def _words(name: str) -> str:
    return TITLES_BEFORE.get(name, name.replace("_", " "))


def _declared(values: dict[str, Any]) -> Declared | None:
    """Return the declared figures of a stored record.

    For a while records only listed those of which less is better; the others then follow from its metrics, in their
    order.
    """
    known = {f.name for f in fields(FigureInfo)}
    if isinstance(stored := values.get("figures"), dict):
        whole = {name: {"title": _words(name), **facts} for name, facts in stored.items()}
        return {n: FigureInfo(**{k: v for k, v in facts.items() if k in known}) for n, facts in whole.items()}
    if isinstance(listed := values.get("lower_is_better"), list):
        names = dict.fromkeys([*(metric.partition("/")[2] for metric in values.get("metrics") or ()), *listed])
        return {name: FigureInfo(_words(name), lower_is_better=name in listed) for name in names}
    return None


def finite(value: Any) -> Any:
    """Return `value` with NaN and infinities as None, since JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value


def read_record(folder: Path) -> Record:
    """Read the record of a run folder.

    Without `results.json` (the run goes on, or was killed) the record is made from the folder's own names and
    config, with status `unfinished`. Keys that this version does not know are ignored.

    Raises RunError for a file that is not JSON, is no record, or has a schema that this version cannot read.
    """
    folder = Path(folder)
    path = folder / "results.json"
    if not path.exists():
        return _unfinished(folder)
    values = read_json(path)
    if "schema" not in values:
        raise RunError(f"`{path}` has no `schema`: it is not a record of tfcli.")
    if values["schema"] != SCHEMA:
        raise RunError(
            f"`{path}` has schema {values['schema']!r}, but this version reads schema {SCHEMA}: "
            "read it with the version that wrote it (environment.json beside it says which)."
        )
    known = {f.name for f in fields(Record)}
    missing = [name for name in ("verb", "status", "model", "data") if name not in values]
    if missing:
        raise RunError(f"`{path}` lacks {', '.join(f'`{m}`' for m in missing)}.")
    record = Record(**{k: v for k, v in values.items() if k in known and v is not None})
    record.figures = _declared(values)
    for name in ("metrics", "intervals", "counts", "params", "cost", "baselines"):
        if not isinstance(getattr(record, name), dict):
            raise RunError(f"`{path}`: `{name}` is no table of names and values.")
    for name in ("metrics", "baselines"):
        setattr(record, name, {k: math.nan if v is None else v for k, v in getattr(record, name).items()})
    record.intervals = {k: [math.nan if v is None else v for v in bounds] for k, bounds in record.intervals.items()}
    record.cost = {k: v for k, v in record.cost.items() if v is not None}
    return record


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        RunError: it cannot be read, is torn, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise RunError(f"`{path}` cannot be read: {error.strerror}.") from None
    except json.JSONDecodeError as error:
        raise RunError(f"`{path}` is not JSON (line {error.lineno}, column {error.colno}): {error.msg}.") from None
    if not isinstance(values, dict):
        raise RunError(f"`{path}` holds no JSON object.")
    return values


def readable_records(folders: Iterable[Path]) -> Iterator[tuple[Path, Record]]:
    """Yield each run folder with its record; one whose files cannot be read is named on stderr and left out."""
    for folder in folders:
        try:
            yield folder, read_record(folder)
        except RunError as error:
            say(f"skipped: {error}")


def _unfinished(folder: Path) -> Record:
    config = read_config(folder)
    model, _, data = folder.parent.name.rpartition("-")
    model_node, data_node = config.get("model"), config.get("data")
    if isinstance(data_node, dict) and data_node.get("name"):
        data = str(data_node["name"])
        model = folder.parent.name.removesuffix(f"-{data}") if folder.parent.name.endswith(f"-{data}") else model
    if isinstance(model_node, dict) and model_node.get("_target_") and not model:
        model = str(model_node["_target_"]).rpartition(".")[2].lower()
    for override in read_overrides(folder):
        if override.startswith("model="):
            model = override[6:]
        elif override.startswith("data="):
            data = override[5:]
    verb = folder.parent.parent.name if STAMP.match(folder.name) else "train"
    seed = config.get("seed")
    return Record(
        verb=verb,
        status="unfinished",
        model=model or "?",
        data=data or "?",
        seed=seed if isinstance(seed, int) else 0,
        overrides=read_overrides(folder),
    )


def _yaml(path: Path) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"`{path}` cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise RunError(f"`{path}` is not YAML: {' '.join(str(error).split())}") from None


def read_config(folder: Path) -> dict[str, Any]:
    """Read a run's `config.yaml` as plain values with today's names (empty when there is none)."""
    values = _yaml(Path(folder) / "config.yaml")
    return moved.values(values) if isinstance(values, dict) else {}


def read_overrides(folder: Path) -> list[str]:
    """Read a run's `overrides.yaml`: what was typed, with today's names (empty when there is none)."""
    values = _yaml(Path(folder) / "overrides.yaml")
    typed = [str(v) for v in values] if isinstance(values, list) else []

    def own(group: str) -> Collection[str]:
        """Return the options with old names of ours that are the user's own: none if the config holds old parts."""
        return () if moved.has_old_options(_yaml(Path(folder) / "config.yaml")) else moved.OPTIONS[group]

    return moved.overrides(typed, own)


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values: `{"optim": {"lr": 1}}` -> `{"optim.lr": 1}`; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


class Row(NamedTuple):
    """One line of metrics.csv."""

    epoch: int
    step: int
    name: str
    value: float


def read_metrics(path: Path) -> list[Row]:
    """Read the rows of a metrics file (header `epoch,step,name,value`), sorted by step.

    The file is only ever appended to. Lines that a killed run tore (the last one, or the one on which a resumed run
    went on) are dropped; of rows with the same step and name, which a resumed run writes again, the last one counts.
    An absent file has no rows.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    whole, _, _torn = text.rpartition("\n")
    rows: dict[tuple[int, str], Row] = {}
    for cells in csv.reader(whole.splitlines()):
        if len(cells) != 4:
            continue
        try:
            row = Row(int(cells[0]), int(cells[1]), cells[2], float(cells[3]))
        except ValueError:
            continue  # the header, or a torn line
        rows[row.step, row.name] = row
    return sorted(rows.values(), key=lambda row: row.step)


def _is_run(folder: Path) -> bool:
    return (folder / "results.json").is_file() or (folder / "config.yaml").is_file()


def walk(folder: Path, depth: int, *, wanted: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield the folders that are `wanted`, at most `depth` levels below `folder`; runs and wanted folders hold none."""
    try:
        children = [Path(e.path) for e in os.scandir(folder) if e.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, PermissionError):
        return
    for child in children:
        if wanted(child):
            yield child
        elif depth > 1 and not child.name.startswith(".") and not _is_run(child):
            yield from walk(child, depth - 1, wanted=wanted)


def started(folder: Path) -> str:
    """Return when a run or sweep began, as `yyyymmdd-hhmmss`: from its folder's name (or its sweep's), or its files."""
    for part in (folder.name, folder.parent.name):
        if match := STAMP.match(part):
            return match[1]
    files = (folder / name for name in ("config.yaml", "results.json", "sweep.json"))
    newest = max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
    return time.strftime("%Y%m%d-%H%M%S", time.localtime(newest))


def all_runs(root: Path | str = "outputs") -> list[Path]:
    """Return every run folder below `root`, the newest first. The `latest` link is not followed; runs hold no runs."""
    found = walk(Path(root), 6, wanted=lambda folder: not folder.name.startswith(".") and _is_run(folder))
    return sorted(found, key=lambda run: (started(run), str(run)), reverse=True)


def run_name(run: Path) -> str:
    """Return the shortest name by which `find_run` finds a run: its folder's, after its sweep's if it has one."""
    return run.name if STAMP.match(run.name) or not STAMP.match(run.parent.name) else f"{run.parent.name}/{run.name}"


CHECKPOINT = "checkpoints/*.ckpt"


def find_run(text: str, *, root: Path | str = "outputs", needs: str | Sequence[str] = ()) -> Path:
    """Find the run folder that `text` means: a path (or a file in a run), `latest`, the beginning or the id of a run
    folder's name, the end of its path, or `model-data` for the newest run of that pair.

    `latest` is the newest run that has what `needs` describes, one or more patterns of files below it: the newest
    run may be a probe, of which nothing can be predicted.

    Raises RunError when there is none (with the nearest names) or more than one (with the first of them).
    """
    root, needs = Path(root), (needs,) if isinstance(needs, str) else needs
    path = Path(text).expanduser()
    if path.exists() and text != "latest":
        for folder in (path, *path.parents[:3]):
            if folder.is_dir() and _is_run(folder):
                return folder
        if "/" in text:
            raise RunError(f"`{text}` is no run folder: it has neither `results.json` nor `config.yaml`.")
    if text == "latest" and (root / "latest").is_dir() and _is_run(root / "latest") and _has(root / "latest", needs):
        return (root / "latest").resolve()
    runs = all_runs(root)
    if not runs:
        raise RunError(
            f"there is no run `{text}`, nor any other below `{root}` yet. "
            "`tfcli train model=vit data=digits` makes one."
        )
    if text == "latest":
        newest = next((run for run in runs if _has(run, needs)), None)
        if newest is None:
            files = " and ".join(f"`{pattern}`" for pattern in needs)
            raise RunError(f"none of the {len(runs)} runs below `{root}` has {files}, which this takes; name a run.")
        return newest
    pairs = {run.parent.name: run for run in reversed(runs)}
    if text in pairs and not STAMP.match(text):
        return pairs[text]
    found = [run for run in runs if text and _matches(run, text)]
    exact = [run for run in found if run.name == text or run_name(run) == text]
    found = exact or found
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"`{run_name(run)}`" for run in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise RunError(f"`{text}` may mean {len(found)} runs: {names}{more}. Give more of the name, or the path.")
    known = {run_name(run) for run in runs} | set(pairs) | {"latest"}
    raise RunError(
        f"there is no run `{text}` below `{root}`.{nearest(text, sorted(known))}  (`tfcli runs ls` lists {len(runs)})"
    )


def _has(run: Path, needs: Sequence[str]) -> bool:
    return all(any(run.glob(pattern)) for pattern in needs)


def _matches(run: Path, text: str) -> bool:
    if run.name.startswith(text) or str(run).endswith("/" + text):
        return True
    _, _, ident = run.name.rpartition("-")
    return len(text) >= 3 and ident != run.name and ident.startswith(text)
