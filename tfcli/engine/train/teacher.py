"""The teacher of a distilled run: one of our runs, or a model with public weights. Imports no torch until then."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from tfcli.engine.config.compose import compose
from tfcli.engine.config.configs import options, torchvision_names
from tfcli.engine.runs.folder import RUN_DIR, is_child
from tfcli.engine.runs.record import CHECKPOINT, find_run, read_config, read_record, run_name
from tfcli.errors import ConfigError, RunError, nearest

if TYPE_CHECKING:
    from torch import nn

    from tfcli.tasks.distill import Teacher
    from tfcli.tasks.protocols import Data

    TeacherNet = tuple[nn.Module, tuple[Sequence[float], Sequence[float]], int | None, str]
    """The net, mean and deviation of its images, their side if it matters, its name."""


def resolve_teacher(config: DictConfig, overrides: list[str]) -> None:
    """Check who teaches, and replace a run's name by its path: what `latest` is changes with the run about to begin.

    Args:
        config: changed in place; one whose task has no `teacher` is left as it is.
        overrides: likewise, so that the run can be run again.

    Raises:
        ConfigError: there is no teacher, or no such one, or one that nobody would listen to.
    """
    task = config.task
    if "teacher" not in task:
        return
    if is_child() and RUN_DIR in os.environ:
        task.teacher = read_config(Path(os.environ[RUN_DIR]))["task"]["teacher"]
        return
    if task.kind == "none":
        if task.teacher:
            raise ConfigError(
                "`task.kind=none` uses no teacher: leave `task.teacher` out, or set `task.kind=hard` or `soft`."
            )
        return
    if not task.teacher:
        raise ConfigError(
            "distillation needs a teacher: `task.teacher=RUN`, or a model with public weights, for instance "
            "`task.teacher=resnet34 task.teacher_weights=IMAGENET1K_V1`. `task.kind=none` or `task=classify` trains "
            "with labels alone."
        )
    models = [*options("model"), *torchvision_names()]
    if task.teacher_weights:
        if task.teacher not in models:
            raise ConfigError(
                f"`task.teacher={task.teacher}`: `task.teacher_weights` needs a model here."
                f"{nearest(task.teacher, models)}  (`tfcli ls models`)"
            )
        return
    if task.teacher in models:
        raise ConfigError(
            f"`task.teacher={task.teacher}` is a model without trained weights: "
            "give `task.teacher_weights=NAME or PATH`."
        )
    run = find_run(task.teacher, needs=CHECKPOINT).resolve()
    overrides[:] = [f"task.teacher={run}" if o.startswith("task.teacher=") else o for o in overrides]
    task.teacher = str(run)


def load_teacher(config: DictConfig, data_name: str, data: Data) -> tuple[Teacher, str]:
    """Load the teacher that a config names. Return it and a line for the user.

    Args:
        config: of the student.
        data_name: the student's data set, as an option of `data`.
        data: prepared; how they are normalised is known.

    Raises:
        ConfigError: it is no classifier, or one of other classes.
        RunError, WeightsError: its weights are not there.
    """
    from tfcli.tasks.distill import Teacher

    public = config.task.teacher_weights
    net, seen, side, name = _public(config, data_name, data) if public else _run(Path(config.task.teacher), data)
    teacher = Teacher(net, name=name, teacher_norm=seen, student_norm=(data.mean, data.std), image_size=side)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    resized = f", images resized to {side} px" if side and side != config.data.image_size else ""
    return teacher, f"teacher: {name}, {parameters / 1e6:,.1f} M parameters{resized}"


def _run(folder: Path, data: Data) -> TeacherNet:
    from tfcli.engine.loading.load_model import find_model

    if not (folder / "config.yaml").is_file():
        raise RunError(f"the teacher's run `{folder}` is no longer there.")
    found = find_model(folder, [])
    _same_classes(found.classes, data.classes, run_name(folder))
    loaded = found.build()
    seen = loaded.preprocessing
    accuracy = read_record(folder).metrics.get("test/accuracy")
    name = f"run {run_name(folder)} ({loaded.choices['model']}"
    name += f", test accuracy {accuracy:.3f})" if accuracy is not None else ")"
    return loaded.net, (list(seen["mean"]), list(seen["std"])), seen["image_size"], name


def _public(config: DictConfig, data_name: str, data: Data) -> TeacherNet:
    from tfcli.engine.loading.load_model import find_model

    model, weights = config.task.teacher, str(config.task.teacher_weights)
    size = f"data.image_size={config.data.image_size}"
    job = compose("train", [f"model={model}", f"data={data_name}", size, "task=classify"])  # the student's images
    OmegaConf.update(job.config, "data.num_classes", data.num_classes)
    OmegaConf.update(job.config, "model.weights", weights)
    found = find_model(None, job=job)
    loaded = found.build(num_classes=data.num_classes, classes=data.classes)
    loaded.refuse_untrained(
        remedy=f"Train the teacher first (`tfcli train model={model} data={data_name} model.weights={weights}`), "
        "and name that run in `task.teacher`."
    )
    stated = found.blueprint.data if found.blueprint else {}
    seen = (stated["mean"], stated["std"]) if "mean" in stated else (data.mean, data.std)
    return loaded.net, seen, None, f"{model} with {weights}"


def _same_classes(theirs: list[str], ours: list[str], name: str) -> None:
    if theirs != ours:
        raise ConfigError(
            f"the teacher {name} knows {len(theirs)} classes ({_some(theirs)}), the data have {len(ours)} "
            f"({_some(ours)}): both must have the same classes in the same order."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
