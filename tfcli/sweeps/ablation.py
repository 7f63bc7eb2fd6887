"""Read and check named ablations, `conf/ablation/NAME.yaml`, and turn them into cells with their overrides.

    # One line: what is varied and whose table it repeats.
    base: model=vit data=digits trainer.precision=32       what all cells share: overrides, as text or as a list
    axes: [position, where]                                what rows and columns are called
    rows: {none: pos=none, 1-D: pos=learned}               label: overrides; or in Hydra's grammar: pos=none,learned
    columns: {stem: pos.at=stem, every layer: pos.at=every}        may be left out, as all that follows but `budgets`
    na: {none: {every layer: nothing to add}}              cells that cannot be, with the reason
    default: [none, stem]                                  the cell against which differences are taken; else the first
    metric: test/accuracy                                  what is measured; `also:` lists metrics to show beside it
    verb: train                                            what each job does
    questions: {what: {overrides: data=digits}, where: {overrides: data=shapes, keeps: data}}      several in one table
    budgets: {minutes: {seeds: [0, 1], seconds: 30, overrides: trainer.max_epochs=5}}
    published: {source: ..., protocol: ..., differs: ..., values: {none: {stem: 0.614}}}

A budget may keep to some `rows` and `columns`; its `seeds`, `seconds` (of one job, on 2 CPU cores that two jobs share)
and `overrides` may each be given by question. A question that `keeps: data` is not reached by `data...=` given with the
command. `curve: seconds/n=` draws the metrics of that beginning over the number they end in. Later overrides win: base,
question, budget, row, column, command.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tfcli.engine.config.compose import compose
from tfcli.engine.config.configs import FROZEN_VERBS, describe, search_path
from tfcli.errors import ConfigError, nearest
from tfcli.sweeps.ablation_values import axis, check_label, mapping, overrides, texts
from tfcli.sweeps.expand import expand, job_id

KEYS = {"base", "axes", "rows", "columns", "na", "default", "metric", "also", "verb", "questions", "budgets"}
KEYS |= {"published", "curve"}
PRIMARY = {"train": "train", **dict.fromkeys(FROZEN_VERBS, "probe")}
PRIMARY |= {"bench attention": "bench"}
"""Verbs that an ablation's jobs may run, with the primary config of each."""
ONLY = ""
"""The label of the one question, or the one column, where none are given."""


@dataclass(frozen=True)
class Question:
    """A question that every cell answers, mostly a data set."""

    name: str
    overrides: list[str]
    keeps: list[str]
    metric: str


@dataclass(frozen=True)
class Budget:
    """How much is run: rows and columns, and for each question its seeds, stated seconds per job and overrides."""

    name: str
    rows: list[str]
    columns: list[str]
    seeds: dict[str, list[int]]
    seconds: dict[str, float]
    overrides: dict[str, list[str]]


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
        question, row, column: labels.
        jobs: the overrides of each seed's job.
        why: the reason, of a cell that cannot be; then it has no jobs.
    """

    question: str
    row: str
    column: str
    jobs: list[list[str]] = field(default_factory=list)
    why: str | None = None

    @property
    def name(self) -> str:
        """Return `row / column`, or the row alone."""
        return f"{self.row} / {self.column}" if self.column else self.row

    @property
    def ids(self) -> list[str]:
        """Return the jobs' ids in the sweep."""
        return [job_id(job) for job in self.jobs]


@dataclass(frozen=True)
class Ablation:
    """A file of `conf/ablation`, checked; its module says what the keys mean."""

    name: str
    file: Path
    description: str
    verb: str
    base: list[str]
    axes: list[str]
    rows: dict[str, list[str]]
    columns: dict[str, list[str]]
    na: dict[tuple[str, str], str]
    default: tuple[str, str]
    also: list[str]
    questions: list[Question]
    budgets: dict[str, Budget]
    published: dict[str, Any]
    curve: str | None

    @property
    def primary(self) -> str:
        """Return the name of the primary config of its jobs."""
        return PRIMARY[self.verb]

    def budget(self, name: str) -> Budget:
        """Return the budget of that name.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.budgets:
            there = ", ".join(self.budgets)
            raise ConfigError(f"`{self.name}` has no budget `{name}`.{nearest(name, self.budgets)}  (there is {there})")
        return self.budgets[name]

    def cells(self, budget: Budget, typed: Sequence[str] = ()) -> list[Cell]:
        """Return the cells of every question, row by row.

        Args:
            budget: one of its budgets.
            typed: overrides given with the command; `seed=` takes the place of the budget's seeds.

        Raises:
            ConfigError: an override that Hydra's grammar does not know, or with several values.
        """
        seeds = _seeds(typed)
        shared = [text for text in typed if text.partition("=")[0] != "seed"]
        cells = []
        for question in self.questions:
            reaching = [text for text in shared if not _kept(text, question.keeps)]
            before = [*self.base, *question.overrides, *budget.overrides[question.name]]
            for row in budget.rows:
                for column in budget.columns:
                    own, more, why = self.rows[row], self.columns[column], self.na.get((row, column))
                    repeats = [] if why else seeds or budget.seeds[question.name]
                    where = f"{self.file}: cell `{row}{' / ' if column else ''}{column}`"
                    jobs = [_single([*before, *own, *more, *reaching, f"seed={s}"], where) for s in repeats]
                    cells.append(Cell(question.name, row, column, jobs, why))
        return cells

    def check(self, cells: Sequence[Cell], config_dir: str | None = None) -> str:
        """Compose the first job of each cell. Returns the folder of all runs as configured.

        Raises:
            ConfigError: what is wrong with the first cell that does not compose.
        """
        root = "outputs"
        for cell in cells:
            for job in cell.jobs[:1]:
                try:
                    root = compose(self.primary, job, config_dir).config.run.root
                except ConfigError as error:
                    raise ConfigError(f"{self.file}: cell `{cell.name}`: {error}") from error
        return root


def names(config_dir: str | None = None) -> dict[str, Path]:
    """Return the file of each ablation by its name; the first match on the search path counts."""
    found: dict[str, Path] = {}
    for root in search_path(config_dir):
        for file in sorted((root / "ablation").glob("[!_]*.yaml")):
            found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def load(name: str, config_dir: str | None = None) -> Ablation:
    """Read and check one ablation.

    Raises:
        ConfigError: there is none of that name, or what is wrong with its file.
    """
    files = names(config_dir)
    if name not in files:
        raise ConfigError(
            f"there is no ablation `{name}`.{nearest(name, files)}  (`tfcli ablate ls` lists {len(files)})"
        )
    file = files[name]
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{_short(file)}: this is not YAML: {' '.join(str(error).split())}") from None
    return _read(name, file, values)


def _read(name: str, file: Path, values: Any) -> Ablation:
    where = _short(file)
    values = mapping(values, f"{where}: an ablation", KEYS, needed=("rows", "budgets"))
    rows = axis(values["rows"], f"{where}: `rows`")
    columns = axis(values["columns"], f"{where}: `columns`") if "columns" in values else {ONLY: []}
    axes = texts(values.get("axes", ["row", "column"][: 1 + ("columns" in values)]), f"{where}: `axes`")
    if len(axes) != 1 + ("columns" in values):
        raise ConfigError(f"{where}: `axes` names the rows{' and the columns' if 'columns' in values else ''}: {axes}.")
    verb = values.get("verb", "train")
    if verb not in PRIMARY:
        raise ConfigError(
            f"{where}: `verb` is one of {', '.join(PRIMARY)}, but is `{verb}`.{nearest(str(verb), PRIMARY)}"
        )
    metric = str(values.get("metric", "test/accuracy"))
    given = mapping(values.get("questions", {ONLY: None}), f"{where}: `questions`")
    questions = [_question(n, v, metric, f"{where}: question `{n}`") for n, v in given.items()]
    asked = [q.name for q in questions]
    budgets = mapping(values["budgets"], f"{where}: `budgets`")
    na = {
        (check_label(row, rows, f"{where}: `na`"), check_label(column, columns, f"{where}: `na`")): str(why)
        for row, of in mapping(values.get("na", {}), f"{where}: `na`").items()
        for column, why in mapping(of, f"{where}: `na`: `{row}`").items()
    }
    default = texts(values.get("default", next(iter(rows))), f"{where}: `default`")
    default = [*default, *list(columns)[:1]][:2] if len(default) < 3 else default
    if len(default) != 2 or default[0] not in rows or default[1] not in columns or tuple(default) in na:
        cells = [f"[{r}, {c}]" if c else r for r in rows for c in columns if (r, c) not in na]
        raise ConfigError(f"{where}: there is no cell `default: {values.get('default')}`. Cells: {', '.join(cells)}.")
    return Ablation(
        name=name,
        file=where,
        description=describe(file),
        verb=verb,
        base=overrides(values.get("base"), f"{where}: `base`"),
        axes=axes,
        rows=rows,
        columns=columns,
        na=na,
        default=(default[0], default[1]),
        also=texts(values.get("also", []), f"{where}: `also`"),
        questions=questions,
        budgets={
            str(n): _budget(str(n), v, asked, (rows, columns, default), f"{where}: budget `{n}`")
            for n, v in budgets.items()
        },
        published=_published(values.get("published"), rows, columns, asked, f"{where}: `published`"),
        curve=values.get("curve"),
    )


def _question(name: str, values: Any, metric: str, where: str) -> Question:
    values = mapping(values or {}, where, {"overrides", "keeps", "metric"})
    keeps = texts(values.get("keeps", []), f"{where}: `keeps`")
    return Question(name, overrides(values.get("overrides"), where), keeps, str(values.get("metric", metric)))


def _budget(
    name: str, values: Any, asked: list[str], grid: tuple[Mapping, Mapping, Sequence[str]], where: str
) -> Budget:
    values = mapping(values, where, {"seeds", "seconds", "overrides", "rows", "columns"}, needed=("seconds",))
    kept = []
    for key, labels, default in zip(("rows", "columns"), grid[:2], grid[2], strict=True):
        given = texts(values.get(key, list(labels)), f"{where}: `{key}`")
        kept.append([check_label(label, labels, f"{where}: `{key}`") for label in given])
        if default not in kept[-1]:
            raise ConfigError(f"{where}: `{key}` leaves out `{default}`, where the default cell is.")

    def by_question(key: str, default: Any) -> dict[str, Any]:
        found = values.get(key, default)
        if not isinstance(found, Mapping):
            return dict.fromkeys(asked, found)
        mapping(found, f"{where}: `{key}`", set(asked))
        return {q: found.get(q, default) for q in asked}

    seeds, seconds = by_question("seeds", [0]), by_question("seconds", 0)
    for q in asked:
        if not isinstance(seeds[q], list) or not seeds[q] or any(type(s) is not int for s in seeds[q]):
            raise ConfigError(f"{where}: `seeds` is a list of whole numbers, but is {seeds[q]}.")
        if type(seconds[q]) not in (int, float) or not 0 < seconds[q] < math.inf:
            raise ConfigError(f"{where}: `seconds` is the time of one job, greater than 0, but is {seconds[q]}.")
    settings = {q: overrides(text, where) for q, text in by_question("overrides", None).items()}
    return Budget(name, kept[0], kept[1], seeds, {q: float(s) for q, s in seconds.items()}, settings)


def _published(values: Any, rows: Mapping, columns: Mapping, asked: list[str], where: str) -> dict[str, Any]:
    """Check the published figures: `source`, `protocol`, `differs`, `question`, and `values` by (row, column)."""
    if values is None:
        return {}
    known = {"source", "protocol", "differs", "question", "values"}
    values = mapping(values, where, known, needed=("source", "values"))
    found = {}
    for row, of in mapping(values["values"], f"{where}: `values`").items():
        check_label(row, rows, where)
        of = of if isinstance(of, Mapping) else {next(iter(columns)): of}
        for column, value in of.items():
            if type(value) not in (int, float):
                raise ConfigError(f"{where}: `{row}`: a published value is a number, but is {value!r}.")
            found[row, check_label(column, columns, where)] = float(value)
    question = str(values.get("question", asked[0]))
    return {**{k: str(values.get(k) or "") for k in ("source", "protocol", "differs")}} | {
        "question": check_label(question, asked, where),
        "values": found,
    }


def _seeds(typed: Sequence[str]) -> list[int]:
    """Return the seeds given with the command.

    Raises:
        ConfigError: another key has several values, or a seed is no number.
    """
    grid = expand(list(typed))
    for key in grid.swept:
        if key != "seed":
            raise ConfigError(
                f"`{key}` has several values: an ablation's grid is in its file. Only `seed=` takes more."
            )
    seeds = grid.swept.get("seed") or [t.partition("=")[2] for t in typed if t.startswith("seed=")][-1:]
    if any(not text.isdigit() for text in seeds):
        raise ConfigError(f"`seed` is a whole number or several, but is `{','.join(seeds)}`.")
    return [int(text) for text in seeds]


def _kept(text: str, keeps: Sequence[str]) -> bool:
    key = text.lstrip("+~").partition("=")[0]
    return any(key == group or key.startswith(f"{group}.") for group in keeps)


def _single(overrides: list[str], where: str) -> list[str]:
    """Return the overrides with one value for each key, the last one given.

    Raises:
        ConfigError: one has several values.
    """
    try:
        grid = expand(overrides)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if grid.swept:
        raise ConfigError(f"{where}: `{next(iter(grid.swept))}` has several values, but a cell is one configuration.")
    return grid.jobs[0]


def _short(file: Path) -> Path:
    try:
        return file.relative_to(Path.cwd())
    except ValueError:
        return Path("conf") / "ablation" / file.name
