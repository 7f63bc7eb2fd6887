"""Find what one experiment lacks on this machine: data, weights, packages, devices, a login. For `tfcli doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tfcli.data.common.request import Request
from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import Composition
from tfcli.engine.loading import from_run
from tfcli.engine.runs.folder import wandb_login
from tfcli.engine.runs.format import size
from tfcli.engine.tools.doctor import Check
from tfcli.errors import ConfigError, TfcliError
from tfcli.files import data_root, offline


def examine(job: Composition, *, network: bool) -> Iterator[Check]:
    """Look at what the run of a composed config would need, in the order in which it would.

    Args:
        job: what was composed.
        network: whether what is missing can be fetched.
    """
    yield _data(job, network)
    yield from _weights(job, network)
    yield _devices(job)
    yield from _logger(job)


def source_of(config: Any, **changes: Any) -> tuple[Any, Request]:
    """Return the source of a set and the request for it, without building the data module."""
    facts: Any = OmegaConf.to_container(config, resolve=True)
    keys = ("download", "verify", "split_seed", "test_fraction")
    asked: dict[str, Any] = {key: facts[key] for key in keys if key in facts} | changes
    return build(facts["source"]), Request(name=facts["name"], root=data_root(facts["root"]), facts=facts, **asked)


def _data(job: Composition, network: bool) -> Check:
    name, config = job.choices["data"], job.config.data
    try:
        source, request = source_of(config, download=False)
        where = source.locate(request)
    except TfcliError as error:
        return Check(f"data {name}", "broken", " ".join(str(error).split()), f"tfcli data status {name}")
    if where is not None or config.download_bytes == 0:
        return Check(f"data {name}", "ok", str(where or "made here, no files needed"))
    by_hand = f"data.root=FOLDER, where the set lies  (tfcli data status {name})"
    if not config.download:
        return Check(f"data {name}", "broken", f"not below {request.root}", by_hand)
    if not network:
        return Check(f"data {name}", "broken", f"not below {request.root}, and there is no network", by_hand)
    if find_spec("datasets") is None and "hub" in (config.source or {}):
        return Check(f"data {name}", "broken", f"not below {request.root}", f"pip install 'tfcli[text]', or {by_hand}")
    much = f", {size(config.download_bytes)} to fetch" if config.download_bytes else ""
    return Check(f"data {name}", "note", f"not below {request.root}{much}", f"tfcli data get {name}")


def _weights(job: Composition, network: bool) -> Iterator[Check]:
    named = [job.config.model.get("weights"), (job.config.get("task") or {}).get("teacher_weights")]
    for weights in filter(None, named):
        yield _place(str(weights), job, network)
    teacher = (job.config.get("task") or {}).get("teacher")
    if teacher and not named[1]:
        yield _run(str(teacher))


def _place(weights: str, job: Composition, network: bool) -> Check:
    from tfcli.weights import hub

    name = f"weights {weights}"
    try:
        if (run := from_run.find_source_run(job.config)) is not None and weights == str(job.config.model.weights):
            return Check(name, "ok", f"run {run}")
    except TfcliError as error:
        return Check(name, "broken", " ".join(str(error).split()), "tfcli runs ls")
    path = Path(weights).expanduser()
    found = path if path.exists() else hub.here(weights) or hub.here(f"{job.choices['model']}.{weights}")
    if found is not None:
        return Check(name, "ok", str(found))
    if "/" not in weights and path.suffix:
        return Check(name, "broken", "no such file here", "model.weights=FILE")
    state = "note" if network else "broken"
    mend = "they are fetched when the run begins" if network else "copy the file here: model.weights=FILE"
    return Check(name, state, "not on this machine" + ("" if network else ", and there is no network"), mend)


def _run(teacher: str) -> Check:
    from tfcli.engine.runs.record import find_run

    try:
        return Check(f"teacher {teacher}", "ok", str(find_run(teacher)))
    except TfcliError as error:
        return Check(f"teacher {teacher}", "broken", " ".join(str(error).split()), "task.teacher=RUN")


def _devices(job: Composition) -> Check:
    from tfcli.engine.train.numerics import find_devices

    try:
        found = find_devices(plain(job.config.trainer))
    except ConfigError as error:
        return Check("devices", "broken", str(error), "trainer=default")
    return Check("devices", "ok", found.label)


def _logger(job: Composition) -> Iterator[Check]:
    logger = job.config.logger
    if logger.get("tensorboard") and find_spec("tensorboard") is None:
        yield Check("TensorBoard", "broken", "not installed", "pip install 'tfcli[tensorboard]'")
    if logger.get("wandb") and logger.wandb.mode == "required" and (offline() or not wandb_login()):
        yield Check("W&B login", "broken", "logger=wandb_required needs one", "wandb login, or logger=csv")
