"""Search with Optuna, which proposes the values of each job and learns its result. Several workers share one study.

Ask and tell (https://optuna.readthedocs.io, tutorial 009): a trial is an ordinary job with its own run folder. Workers
know each other only through the study's storage, so the same command in another terminal, or with `search.storage=` on
another machine, takes part.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tfcli.bounds import Count, Natural
from tfcli.engine.runs.record import lower_is_better, read_record
from tfcli.engine.runs.summary import main_metric
from tfcli.errors import ConfigError, install, nearest
from tfcli.files import alone, identity, is_alive
from tfcli.sweeps.expand import job_id, parse_override
from tfcli.sweeps.state import Job, State, settle

DRY_S = 2.0  # before the study is asked again whether another worker left something
PATIENCE_S = 60.0  # for a job whose worker was killed to save and end


class Search:
    """Source of the jobs of a search. The settings are those of `conf/search/optuna.yaml`.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def __init__(
        self,
        *,
        trials: Count = 20,
        sampler: Literal["tpe", "random"] = "tpe",
        seed: Natural = 0,
        metric: str | None = None,
        direction: Literal["maximize", "minimize"] | None = None,
        storage: str | None = None,
        study: str | None = None,
    ):
        try:
            import optuna
        except ModuleNotFoundError:
            raise ConfigError(f"`search=optuna` needs a package that is not installed: {install('search')}") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.total, self.sampler, self.seed = trials, sampler, seed
        self.metric, self.direction, self.url, self.name = metric, direction, storage, study
        self.dry = -DRY_S  # when there was last nothing to ask for

    def open(self, state: State, folder: Path, ident: str) -> None:
        """Make the study, or join it.

        Raises:
            ConfigError: the storage does not answer.
        """
        import optuna

        self.state, self.folder, self.lock = state, folder, folder / ".search.lock"
        self.fixed, self.space = space(state.overrides)
        url = self.url or f"sqlite:///{(folder / 'study.db').resolve()}"
        name = self.name or ident
        direction: Any = self.direction or (
            "minimize" if self.metric and lower_is_better(self.metric, []) else "maximize"
        )
        patient = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}  # other workers write too
        with alone(self.lock):
            try:
                self.storage = optuna.storages.RDBStorage(url, engine_kwargs=patient)
                self.study = optuna.create_study(
                    storage=self.storage, study_name=name, direction=direction, load_if_exists=True
                )
            except Exception as error:
                message = str(error).strip().splitlines() or [type(error).__name__]
                raise ConfigError(f"the study's storage `{url}` does not answer: {message[0]}") from error

    def take(self, count: int) -> list[Job]:
        """Ask for at most `count` trials, as long as the study has fewer than it should."""
        if time.monotonic() - self.dry < DRY_S:
            return []
        with alone(self.lock):
            self._report_dead_workers()
            jobs = []
            for _ in range(count):
                trials = self.study.get_trials(deepcopy=False)
                waiting = sum(t.state.name == "WAITING" for t in trials)
                lost = sum("lost" in t.user_attrs for t in trials)
                if not waiting and len(trials) - lost >= self.total:
                    break
                jobs.append(self._ask(len(trials)))
            self.dry = -DRY_S if jobs else time.monotonic()
            return jobs

    def _ask(self, number: int) -> Job:
        import optuna

        # Seeded by the trial's place: workers that begin together do not propose the same.
        seed = (self.seed * 1_000_003 + number) % 2**32
        samplers = optuna.samplers
        self.study.sampler = (
            samplers.RandomSampler(seed=seed)
            if self.sampler == "random"
            else samplers.TPESampler(seed=seed, constant_liar=True)
        )
        trial = self.study.ask(self.space)
        overrides = [*self.fixed, *(f"{key}={as_setting(trial.params[key])}" for key in self.space)]
        trial.set_user_attr("worker", f"{identity()} {socket.gethostname()}")
        ident = job_id(overrides)
        job = next((j for j in self.state.jobs if j.id == ident and j.status == "interrupted"), None)
        if job is None:
            job = Job(trial.number + 1, ident, overrides)
            self.state.jobs.append(job)
        trial.set_user_attr("job", job.name)
        job.trial = trial.number
        job.write(self.folder)
        return job

    def ended(self, job: Job) -> None:
        """Report to the study how a trial ended; an interrupted one will be proposed again."""
        self.dry = -DRY_S
        with alone(self.lock):
            self._tell(int(job.trial or 0), job)

    def _tell(self, number: int, job: Job) -> None:
        import optuna

        value = self._value(job) if job.status == "finished" else None
        if value is not None:
            self.study.tell(number, value)
            return
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self.storage.set_trial_user_attr(trial_id, "error", job.error or job.status)
        if job.status not in ("failed", "finished"):
            self.storage.set_trial_user_attr(trial_id, "lost", True)
            self.study.enqueue_trial(self.storage.get_trial(trial_id).params)
        self.study.tell(number, state=optuna.trial.TrialState.FAIL)

    def _value(self, job: Job) -> float | None:
        """Return the figure of a finished job that the study optimises; None where the run has none.

        Raises:
            ConfigError: the run has no such figure.
        """
        record = read_record(self.folder / job.name)
        attrs = self.study.user_attrs
        if "metric" not in attrs:
            metric = self.metric or default_metric(record.metrics, main_metric(record))
            if metric is None:
                return None
            self.study.set_user_attr("metric", metric)
            self.study.set_user_attr("lower_is_better", lower_is_better(metric, [record]))
            attrs = self.study.user_attrs
        name = attrs["metric"]
        if name not in record.metrics:
            raise ConfigError(f"`search.metric={name}`: the runs have no such figure.{nearest(name, record.metrics)}")
        value = record.metrics[name]
        return self._sign(name) * value if math.isfinite(value) else None

    def _sign(self, metric: str) -> int:
        """Return -1 where the runs declare another direction than the study, which was created before them."""
        lower = self.study.user_attrs.get("lower_is_better", lower_is_better(metric, []))
        return -1 if not self.direction and lower == (self.study.direction.name == "MAXIMIZE") else 1

    def best(self) -> dict[str, Any] | None:
        """Return the best trial so far: its job, what varied, the metric and its value; None before the first end."""
        done = [t for t in self.study.get_trials(deepcopy=False) if t.value is not None]
        if not done:
            return None
        trial = self.study.best_trial
        varied = " ".join(f"{key}={as_setting(value)}" for key, value in trial.params.items())
        name = self.study.user_attrs["metric"]
        job = trial.user_attrs["job"]
        return {"job": job, "varied": varied, "metric": name, "value": self._sign(name) * float(trial.value or 0)}

    def _report_dead_workers(self) -> None:
        """Report finished trials of dead workers on this machine to the study; requeue the others."""
        here = socket.gethostname()
        for trial in self.study.get_trials(deepcopy=False):
            worker, _, host = str(trial.user_attrs.get("worker", "")).partition(" ")
            if trial.state.name != "RUNNING" or host != here or is_alive(worker):
                continue
            self.state.refresh(self.folder)
            name = trial.user_attrs.get("job")
            job = next((j for j in self.state.jobs if j.name == name), Job(trial.number + 1, "", [], "interrupted"))
            end = time.monotonic() + PATIENCE_S
            while job.status == "running" and time.monotonic() < end:
                time.sleep(0.1)
                settle(job, self.folder)
            self._tell(trial.number, job)


def default_metric(metrics: Mapping[str, float], main: str | None) -> str | None:
    """Return the metric that a search optimises by default: the main figure on validation, never on test."""
    if main is None:
        return None
    held_out = f"val/{main.rpartition('/')[2]}"
    return held_out if held_out in metrics else main


def space(overrides: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split overrides into those with one value and, from Hydra's own sweep grammar, the distributions of the others.

    `interval(a,b)` is a real number (whole with `int(interval(a,b))`), `tag(log,interval(a,b))` on a logarithmic scale,
    `range(a,b,step)` whole numbers below b, `choice(...)`, commas and `glob(...)` are one of their values.

    Raises:
        ConfigError: nothing varies, or an interval is empty or not positive on a logarithmic scale.
    """
    from optuna import distributions as d

    fixed: list[str] = []
    found: dict[str, Any] = {}
    for word in overrides:
        override = parse_override(word)
        key = override.get_key_element()
        found.pop(key, None)
        fixed = [other for other in fixed if other.partition("=")[0] != key]
        if not override.is_sweep_override():
            fixed.append(word if override.is_delete() else f"{key}={override.get_value_element_as_str()}")
            continue
        value: Any = override.value()
        try:
            if override.is_interval_sweep():
                whole = isinstance(value.start, int) and isinstance(value.end, int)
                make: Any = d.IntDistribution if whole and _is_cast(word) else d.FloatDistribution
                found[key] = make(value.start, value.end, log="log" in value.tags)
            elif override.is_range_sweep() and all(isinstance(v, int) for v in (value.start, value.stop, value.step)):
                last = value.start + (math.ceil((value.stop - value.start) / value.step) - 1) * value.step
                low, high = sorted((value.start, last))
                found[key] = d.IntDistribution(low, high, step=abs(value.step))
            else:
                found[key] = d.CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
        except ValueError as error:
            raise ConfigError(f"`{word}` is not a range to search: {error}") from error
    if not found:
        raise ConfigError(
            "a search needs a key to vary, for instance `optim.lr=tag(log,interval(1e-4,1e-2))` or `pos=none,learned`."
        )
    return fixed, found


def _is_cast(word: str) -> bool:
    return word.partition("=")[2].replace(" ", "").startswith(("int(", "tag(log,int("))


def as_setting(value: Any) -> str:
    """Return a proposed value as it is written in a setting: a number to six figures, with which the trial computes."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
