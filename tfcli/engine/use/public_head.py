"""A published language model with the head that it was fine-tuned with: which task it answers, and its labels."""

from __future__ import annotations

from collections.abc import Iterable

from tfcli.engine.config.compose import compose, given
from tfcli.engine.config.configs import Configs, roots
from tfcli.engine.loading.blueprint import says
from tfcli.engine.use.language_model import LoadedLanguageModel, load_language_model
from tfcli.errors import ConfigError


def with_its_head(overrides: list[str], tasks: Iterable[str], *, config_dir: str | None = None) -> LoadedLanguageModel:
    """Load the model and weights that `overrides` name for the task that their head answers.

    Args:
        overrides: settings; `task=` in them is kept.
        tasks: to choose from.

    Raises:
        ConfigError: the weights have no head that answers any of them.
    """
    job = compose("train", overrides, config_dir)
    found = says(job.config)
    kind, outputs = found.head if found and found.head else ("", 0)
    configs = Configs(roots(config_dir))
    answered = {name: configs.mounted("task", name)["task"] for name in tasks}
    task = next((name for name, facts in answered.items() if facts.get("answer") == kind), None)
    if task is None:
        raise ConfigError(
            f"`{job.config.model.weights}` has no head that answers texts ({', '.join(tasks)}): what it says of them "
            "would be untrained. Train one first, for instance `tfcli train model=bert data=sst2 model.weights=...`."
        )
    own = given(overrides, job.choices)
    if "task" not in own:
        overrides = [*overrides, f"task={task}"]
    if "data" not in own:  # a set is composed with the task, and nothing of it is read
        needs = set(answered[task]["needs"])
        named = ((name, configs.mounted("data", name).get("data", {})) for name in configs.options("data"))
        fits = next(name for name, facts in named if needs <= set(facts.get("kinds") or ()))
        overrides = [*overrides, f"data={fits}"]
    labels = list(found.classes) if found and len(found.classes) == outputs else [f"LABEL_{i}" for i in range(outputs)]
    classes = labels if kind in ("classes", "tags") else []
    return load_language_model(None, overrides, config_dir=config_dir, classes=classes)
