"""Make a sweep from the words of a command line: its jobs, checked before anything starts, and its folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tfcli.engine.config.compose import compose
from tfcli.engine.config.configs import FROZEN_VERBS
from tfcli.engine.runs import terminal
from tfcli.engine.runs.folder import locked, make_folder, safe
from tfcli.engine.runs.named import ANY_DATA
from tfcli.engine.runs.record import read_overrides
from tfcli.errors import ConfigError, RunError
from tfcli.sweeps.expand import Grid, expand, job_id
from tfcli.sweeps.options import split
from tfcli.sweeps.runner import DEFAULT, Launch, build_parts, run_in
from tfcli.sweeps.state import Job, State, read_state


def run_sweep(
    verb: str,
    overrides: list[str],
    root: Path | str | None = None,
    *,
    launch: Launch = DEFAULT,
    new: bool = False,
    config_dir: str | None = None,
    config_name: str | None = None,
    words: Sequence[str] = (),
) -> Path:
    """Run every combination of the values in `overrides`, and write the sweep's table.

    Where the newest sweep of these very jobs is not all finished, it is continued. A search under way is joined.

    Args:
        verb: what each job does, for instance `train`.
        overrides: as typed, several values in some.
        root: the folder of all runs (None: the config's `run.root`); the sweep's is ROOT/sweep/VERB-MODEL-DATA/TIME-ID.
        launch: how the jobs are run.
        new: a new sweep in any case.
        config_dir, config_name: Hydra's `--config-dir` and `--config-name`, passed on to the jobs.
        words: what each job is given before its settings: a run.

    Returns:
        the sweep's folder.

    Raises:
        ConfigError: no grid, or one of its values is unknown to the config; nothing was started.
        RunError: the folder cannot be written, or another process runs this sweep.
        Interrupted: a signal ended it.
    """
    build_parts(launch, State(verb, [], {}, []))  # what is missing is said before anything is made
    grid = _first_trial(overrides) if launch.search else expand(overrides)
    primary = "probe" if verb in FROZEN_VERBS else "train"
    pair, configured = _check(grid, config_name or primary, config_dir, run=words[0] if words else None)
    root = Path(root or configured)
    parent = root / "sweep" / safe(f"{verb}-{pair}")
    ident = job_id([job_id(job) for job in grid.jobs])
    if launch.search:
        asked = {key: value for key, value in launch.search.items() if key != "trials"}
        ident = job_id([*overrides, repr(sorted(asked.items(), key=str))])
    folder = None if new else _unfinished(parent, ident, launch)
    if folder is None:
        folder = _new_folder(parent, ident)
        repeated = f" ({grid.repeated} repeated left out)" if grid.repeated else ""
        what = (
            f"search of {launch.search['trials']} trials"
            if launch.search
            else f"sweep of {len(grid.jobs)} job{'s' * (len(grid.jobs) > 1)}"
        )
        terminal.say(f"{what}{repeated} · {folder}")
        if not launch.search and not grid.swept:
            terminal.say("no setting has several values: it is one job; seed=0,1,2 would be three")
    run_in(
        folder,
        verb,
        [] if launch.search else grid.jobs,
        swept=_typed(overrides, grid) if launch.search else grid.swept,
        overrides=overrides,
        launch=launch,
        config_dir=config_dir,
        config_name=config_name,
        words=words,
        root=root,
    )
    return folder


def retry(folder: Path, words: Sequence[str] = (), launch: Launch = DEFAULT) -> State:
    """Run the failed and the unfinished jobs of a sweep.

    Args:
        words: `launcher=` and its settings; none: where it ran before.

    Raises:
        ConfigError: other words, or the sweep is a search.
        Interrupted: a signal ended it.
    """
    state = read_state(folder)
    if state.search:
        raise ConfigError(f"`{folder}` is a search: the command that began it goes on, with more `search.trials=`.")
    rest, launcher, _ = split(words, state.config_dir, launcher=state.launcher)
    if rest:
        raise ConfigError(f"`{rest[0]}`: a job that is retried keeps its settings. `tfcli sweep extend` adds others.")
    return _again(folder, state, replace(launch, retry=True, launcher=launcher))


def extend(folder: Path, words: Sequence[str], launch: Launch = DEFAULT) -> State:
    """Add every combination of further values with a sweep's other settings, and run what is new or unfinished.

    Raises:
        ConfigError: the values are no settings, or the sweep is a search.
        Interrupted: a signal ended it.
    """
    state = read_state(folder)
    if state.search:
        raise ConfigError(f"`{folder}` is a search, which chooses its own values; `search.trials=` says how many.")
    rest, launcher, _ = split(words, state.config_dir, launcher=state.launcher)
    grid = expand([*state.overrides, *rest])
    primary = state.config_name or ("probe" if state.verb in FROZEN_VERBS else "train")
    _check(grid, primary, state.config_dir, run=state.words[0] if state.words else None)
    with locked(folder):
        given = list(dict.fromkeys(expand([word]).jobs[0][0].partition("=")[0] for word in rest))
        state.add(grid.jobs, grid.swept)
        values = {key: list(dict.fromkeys(_value(job, key) for job in state.jobs)) for key in given}
        state.swept |= {key: found for key, found in values.items() if len(found) > 1}
        kept = [word for word in state.overrides if word.partition("=")[0] not in state.swept]
        state.overrides = kept + [f"{key}={','.join(v for v in found if v)}" for key, found in state.swept.items()]
        state.write(folder)
    return _again(folder, state, replace(launch, launcher=launcher))


def _value(job: Job, key: str) -> str:
    return dict(text.partition("=")[::2] for text in job.overrides).get(key, "")


def _again(folder: Path, state: State, launch: Launch) -> State:
    return run_in(
        folder,
        state.verb,
        [],
        swept={},
        launch=launch,
        config_dir=state.config_dir,
        config_name=state.config_name,
        words=state.words,
        root=state.root or folder,
    )


def _typed(overrides: Sequence[str], grid: Grid) -> dict[str, list[str]]:
    pairs = (word.partition("=")[::2] for word in overrides)
    return {key: [value] for key, value in pairs if key in grid.swept}


def _first_trial(overrides: Sequence[str]) -> Grid:
    """Return the first job that a search could propose, and the words that it may choose among."""
    from tfcli.sweeps.search import as_setting, space

    fixed, found = space(overrides)
    values = {key: [as_setting(v) for v in getattr(d, "choices", None) or [d.low]] for key, d in found.items()}
    return Grid([[*fixed, *(f"{key}={options[0]}" for key, options in values.items())]], values)


def _unfinished(parent: Path, ident: str, launch: Launch) -> Path | None:
    """Return the newest sweep of these jobs, unless all of it is done."""
    found = [f for f in parent.glob(f"*-{ident}*") if (f / "sweep.json").exists()]
    if not found:
        return None
    newest = max(found, key=lambda f: (f.name[:15], len(f.name), f.name))
    state = read_state(newest)
    if launch.search:
        done = state.count("finished", "failed") >= launch.search["trials"]
    else:
        done = state.count("finished") == len(state.jobs)
    return None if done else newest


def _check(grid: Grid, primary: str, config_dir: str | None, *, run: str | None = None) -> tuple[str, str]:
    """Compose the first job, and once each further value that is a word: a slip stops the sweep before it starts.

    Args:
        run: whose model, or config, each job takes in place of the config's.

    Returns MODEL-DATA, the options of a swept group joined by `+`, and the folder of all runs as configured.
    """
    neutral = [] if run is None else [ANY_DATA] if primary == "probe" else read_overrides(Path(run))
    neutral = [text for text in neutral if not text.startswith("run.dir=")]
    composed = compose(primary, [*neutral, *grid.jobs[0]], config_dir)
    for key, values in grid.swept.items():
        for value in values[1:]:
            if not _is_number(value):
                job = [f"{key}={value}" if text.partition("=")[0] == key else text for text in grid.jobs[0]]
                compose(primary, [*neutral, *job], config_dir)
    parts = []
    for group in ("model", "data"):
        names = grid.swept.get(group) or [composed.choices.get(group, group)]
        typed = [t.partition("=")[2] for t in grid.jobs[0] if t.startswith(f"{group}=")]
        joined = "+".join(names) if group in grid.swept else (typed or names)[0]
        joined = Path(run).name if run and group == "model" else joined
        parts.append(joined if len(joined) <= 32 else f"{len(names)}-{group}s")
    return "-".join(parts), composed.config.run.root


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _new_folder(parent: Path, ident: str) -> Path:
    make_folder(parent)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{ident}"
    for i in range(1, 1000):
        folder = parent / (stem if i == 1 else f"{stem}-{i}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunError(f"`{parent}` already has a thousand sweeps of this second.")
