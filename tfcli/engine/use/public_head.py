"""A published language model with the head that it was fine-tuned with: which task it answers, and its labels."""

from __future__ import annotations

from typing import Any

from tfcli.engine.config.compose import compose, given
from tfcli.engine.config.configs import Configs, roots
from tfcli.engine.config.offers import columns_of, has_method
from tfcli.engine.loading.adopt import read_blueprint
from tfcli.engine.use.language_model import LoadedLanguageModel, load_language_model
from tfcli.errors import ConfigError


def answering(config_dir: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the tasks that answer texts (by a method `predict_texts`), each with its config."""
    configs = Configs(roots(config_dir))
    found = {name: configs.mounted("task", name)["task"] for name in configs.options("task")}
    return {name: facts for name, facts in found.items() if has_method(str(facts.get("_target_")), "predict_texts")}


def with_its_head(overrides: list[str], *, config_dir: str | None = None) -> LoadedLanguageModel:
    """Load the model and weights that `overrides` name for the task that their head answers.

    Args:
        overrides: settings; `task=` in them is kept.

    Raises:
        ConfigError: the weights have no head that answers any of them.
    """
    job = compose("train", overrides, config_dir)
    found = read_blueprint(job.config)
    kind, outputs = found.head if found and found.head else ("", 0)
    configs = Configs(roots(config_dir))
    answered = answering(config_dir)
    task = next((name for name, facts in answered.items() if facts.get("answer") == kind), None)
    if task is None:
        raise ConfigError(
            f"`{job.config.model.weights}` has no head that answers texts ({', '.join(answered)}): what it says of "
            "them would be untrained. Train one first, as in `tfcli train model=bert data=sst2 model.weights=...`."
        )
    own = given(overrides, job.choices)
    if "task" not in own:
        overrides = [*overrides, f"task={task}"]
    if "data" not in own:  # a set is composed with the task, and nothing of it is read
        needs = set(answered[task]["needs"])
        named = ((name, configs.mounted("data", name).get("data", {})) for name in configs.options("data"))
        fits = next(name for name, facts in named if needs <= set(columns_of(facts)))
        overrides = [*overrides, f"data={fits}"]
    labels = list(found.classes) if found and len(found.classes) == outputs else [f"LABEL_{i}" for i in range(outputs)]
    classes = labels if kind in ("classes", "tags") else []
    return load_language_model(None, overrides, config_dir=config_dir, classes=classes)
