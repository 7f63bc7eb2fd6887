"""Every model with every task on every kind of data: accepted, and then it can be built and described, or refused."""

from __future__ import annotations

import pytest
import torch
from contract.families import CONFIGS, columns_of_sets, node

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.config.configs import options
from tfcli.engine.config.offers import check_offer, fitting, lacking
from tfcli.engine.tools.describe import describe
from tfcli.errors import ConfigError

SETS = columns_of_sets()
TASKS = sorted(options("task"))


FAMILIES = {node("model", name)["_target_"]: name for name in reversed(options("model"))}
"""One model of each class: of the others only the numbers differ."""


def data_for(task: str) -> str:
    """The smallest set that has what a task needs."""
    needs = set(node("task", task)["needs"])
    return min((name for name, columns in SETS.items() if needs <= columns), key=lambda name: (len(SETS[name]), name))


def words(family: str, task: str, data: str) -> list[str]:
    sized = ["model.patch_size=4"] if "patch_size" in node("model", family) else []
    image = ["data.image_size=32"] if "image" in SETS[data] else []
    return [f"model={family}", f"task={task}", f"data={data}", *sized, *image]


OFFERED = [
    (family, task)
    for family in sorted(FAMILIES.values())
    for task in TASKS
    if lacking(node("model", family), node("task", task)) is None and (task != "distill" or family == "deit")
]


@pytest.mark.parametrize(("family", "task"), OFFERED)
def test_what_a_model_offers_is_built_and_described(family, task):
    job = compose("train", words(family, task, data_for(task)))
    facts, _ = describe(job.config, job.choices)
    assert facts["params"]["total"] > 0
    with torch.device("meta"):
        build(job.config.task, net=build(job.config.model))


def test_every_combination_is_accepted_or_refused_for_a_reason():
    """Over all models, tasks and kinds of columns, without composing: 12,000 combinations."""
    kinds = set(SETS.values())
    for model in options("model"):
        reasons = {task: lacking(node("model", model), node("task", task)) for task in TASKS}
        for task, reason in reasons.items() if model in FAMILIES.values() else ():
            if reason is not None:
                with pytest.raises(ConfigError, match=f"`{model}` does not offer task `{task}`: {reason}"):
                    check_offer(node("model", model), node("task", task), {"model": model, "task": task}, CONFIGS)
        assert model == "pixels" or None in reasons.values()
        for columns in kinds if model in FAMILIES.values() else ():
            fits = fitting(node("model", model), columns, CONFIGS)
            assert all(reasons[task] is None and set(node("task", task)["needs"]) <= columns for task in fits)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["model=vit", "data=sst2"], "model `vit` offers no task for data `sst2`"),
        (["model=bert", "data=digits"], "model `bert` offers no task for data `digits`"),
        (["model=gpt", "data=multi30k"], "model `gpt` offers no task for data `multi30k`"),
        (["model=transformer", "data=squad"], "model `transformer` offers no task for data `squad`"),
        (["model=clip", "data=pets"], "model `clip` offers no task for data `pets`"),
    ],
)
def test_data_of_another_kind_are_refused_with_the_models_that_take_them(line, said):
    with pytest.raises(ConfigError, match=said) as error:
        compose("train", line)
    takes = {"sst2": "bert, gpt", "digits": "deit", "multi30k": "rnn, transformer", "squad": "bert", "pets": "vit"}
    assert takes[line[1].removeprefix("data=")] in str(error.value).partition("Models for these data: ")[2]
