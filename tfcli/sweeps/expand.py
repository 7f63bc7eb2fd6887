"""Expand one command with several values into many commands, by Hydra's own override grammar."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tfcli.engine.config.shorthand import literal
from tfcli.errors import ConfigError

MAX_JOBS = 1000


@dataclass(frozen=True)
class Grid:
    """The jobs of a sweep.

    Attributes:
        jobs: the overrides of each job, one value a key, the last swept key changing fastest.
        swept: the keys that take several values, in the order in which they were typed, with these values.
        repeated: how many jobs were left out because they repeat another one.
    """

    jobs: list[list[str]]
    swept: dict[str, list[str]]
    repeated: int = 0


def job_id(overrides: list[str]) -> str:
    """Return a job's id, the same wherever and whenever it runs: 8 digits of the SHA-256 of its sorted overrides."""
    return hashlib.sha256("\n".join(sorted(overrides)).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def expand(overrides: list[str], *, limit: int = MAX_JOBS) -> Grid:
    """Expand `seed=0,1`, `choice(...)`, `range(...)` and `glob(...)` in `overrides` into all combinations.

    A key that is given twice counts as it was given last. Combinations that repeat another are left out.

    Raises:
        ConfigError: an override that Hydra's grammar does not know, an interval (which wants a search, not a grid),
            `run.dir` (all jobs would share one folder), a grid without jobs, or one of more than `limit` jobs.
    """
    values: dict[str, list[str]] = {}
    swept: dict[str, list[str]] = {}
    for text in overrides:
        key, jobs, is_swept = _values(text, limit)
        values[key] = jobs
        swept.pop(key, None)
        if is_swept:
            swept[key] = [job.partition("=")[2] for job in jobs]
    count = math.prod(len(jobs) for jobs in values.values())
    if count == 0:
        empty = ", ".join(f"`{key}`" for key, jobs in values.items() if not jobs)
        raise ConfigError(f"this sweep has 0 jobs: {empty} has no value.")
    if count > limit:
        sizes = " x ".join(f"{len(jobs):,} {key}" for key, jobs in values.items() if key in swept)
        raise ConfigError(f"this sweep has {count:,} jobs ({sizes}), more than {limit:,}. Leave some values out.")
    grid = [list(job) for job in itertools.product(*values.values())]
    unique = {job_id(job): job for job in reversed(grid)}
    kept = [job for job in grid if unique.pop(job_id(job), None) is not None]
    return Grid(kept, swept, len(grid) - len(kept))


def parse_override(text: str) -> Any:
    """Parse one override in Hydra's grammar, where `glob()` knows the options of our groups.

    Raises:
        ConfigError: it is none, or it is `run.dir`, of which a job of a sweep has its own.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create(config_loader=_groups()).parse_override(literal(text))
        override.config_loader = _groups()
    except HydraException as error:
        raise ConfigError(f"`{text}` is not a setting: {str(error).splitlines()[0]}") from error
    if override.key_or_group == "run.dir":
        raise ConfigError(f"`{text}`: each job of a sweep has its own folder. Set the folder of all runs, `run.root=`.")
    return override


def _values(text: str, limit: int) -> tuple[str, list[str], bool]:
    """Return the key of one override, its single-valued overrides, and whether it had several values."""
    override = parse_override(text)
    key = override.get_key_element()
    if not override.is_sweep_override():
        return key, [text if override.is_delete() else f"{key}={override.get_value_element_as_str()}"], False
    if override.is_interval_sweep():
        raise ConfigError(
            f"`{text}`: an interval has infinitely many values; name some, `{key}=0.1,0.2`, "
            "or search in it, `search=optuna`."
        )
    if override.is_range_sweep():
        _check_range(text, key, override.value(), limit)
    return key, [f"{key}={value}" for value in override.sweep_string_iterator()], True


def _check_range(text: str, key: str, sweep: Any, limit: int) -> None:
    if not sweep.step:
        raise ConfigError(f"`{text}`: the step of a range must not be 0.")
    count = math.ceil((sweep.stop - sweep.start) / sweep.step)
    if count > limit:
        raise ConfigError(f"this sweep has {count:,} values of `{key}`, more than {limit:,} jobs. Leave some out.")


def _groups() -> Any:
    """Return the part of Hydra's config loader that `glob()` needs."""
    from tfcli.engine.config.configs import options

    return SimpleNamespace(get_group_options=lambda group, results_filter=None: list(options(group)))
