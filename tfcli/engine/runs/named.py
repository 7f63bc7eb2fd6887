"""Resolve the words before the settings: `clip flowers` is `model=clip data=flowers`; a run may stand for the model.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from tfcli.engine.config.compose import Composition, compose
from tfcli.engine.config.configs import Configs, options, public_title, roots, torchvision_names
from tfcli.engine.config.offers import columns_of, families_for
from tfcli.engine.runs.paths import check_paths, check_results
from tfcli.engine.runs.record import CHECKPOINT, all_runs, find_run, read_config, run_name
from tfcli.engine.runs.saved_config import config_for_this_machine, find_checkpoint
from tfcli.engine.runs.terminal import say
from tfcli.errors import ConfigError, RunError, nearest

ANY_DATA = "model=pixels"
"""A model that composes with every data set."""


def frozen_job(
    words: Sequence[str], *, name: str = "probe", config_dir: str | None = None
) -> tuple[Composition, Path | None]:
    """Compose the config of a frozen verb, and find the run whose model it is, if one is.

    Args:
        words: `[MODEL or RUN] [DATA] [KEY=VALUE]...`.
        name: the primary config.

    Raises:
        ConfigError: a word that is neither a model nor a run nor a data set, or no data set at all.
    """
    run, overrides = resolve(words, config_dir)
    _check_images(overrides, config_dir)
    if run is not None:
        # Its own model and image size replace these; the family's defaults need not fit this data set.
        rest = [o for o in overrides if not o.startswith("model=")]
        job = compose(name, [ANY_DATA, *rest], config_dir)
        saved = read_config(run)
        job.choices["model"], job.overrides[:] = str(saved.get("choices", {}).get("model")), overrides
        find_checkpoint(run, "best")
        check_takes(run, "images")
        _check_heads(job, saved["model"])
        return job, run
    job = compose(name, overrides, config_dir)
    public = job.config.model.get("public")
    if public and not job.config.model.weights:
        # The bare family is sized for training on a laptop; what is probed without further words is the public one.
        own = [o for o in overrides if not o.startswith("model=")]
        _say_public(job.choices["model"], public)
        job = compose(name, [f"model={public.model}", f"model.weights={public.weights}", *own], config_dir)
    _check_weights(job)
    _check_heads(job, job.config.model)
    return job, run


def _check_weights(job: Composition) -> None:
    """Refuse a model without weights. Raises ConfigError with what may be probed."""
    model = job.config.model
    if not model.get("weights") and not str(model._target_).endswith(".Pixels"):
        raise ConfigError(
            f"`model={job.choices['model']}` has no weights to probe. Name a public checkpoint or a file "
            "(`model.weights=NAME or PATH`), give one of your runs in place of the model "
            f"(`tfcli probe outputs/train/... {job.choices['data']}`), or ask for untrained ones "
            "(`model.weights=random`)."
        )


def _check_heads(job: Composition, model: Mapping[str, Any]) -> None:
    """Refuse zero-shot alone of a model without a text tower. Raises ConfigError."""
    if list(job.config.get("heads") or []) == ["zeroshot"] and not model.get("tokenizer"):
        name = job.choices["model"]
        raise ConfigError(
            f"zero-shot needs a text tower, and `{name}` has none. CLIP has one (`model=clip`); `tfcli linear` and "
            f"`tfcli knn` work with `{name}`."
        )


def _check_images(overrides: list[str], config_dir: str | None) -> None:
    """Refuse a set without images, before a model that wants them is composed with it.

    Raises:
        ConfigError: names what does work on texts.
    """
    configs = Configs(roots(config_dir))
    for override in overrides:
        key, _, names = override.partition("=")
        for name in names.split(",") if key == "data" else ():
            data = configs.mounted("data", name).get("data")
            if data and "image_size" not in data:
                models = families_for(columns_of(data), configs)
                train = f" `tfcli train model={models[0]} data={name}` trains a model on these data." if models else ""
                raise ConfigError(
                    f"data `{name}` has no images, and features and the heads on them (probe, zeroshot, linear, knn) "
                    f"are made of images alone.{train}"
                )


def resolve(words: Sequence[str], config_dir: str | None = None) -> tuple[Path | None, list[str]]:
    """Turn words into the run that the first one names (None where it names a model) and overrides.

    Raises:
        ConfigError: see `frozen_job`.
    """
    bare = [w for w in words if "=" not in w]
    overrides = [w for w in words if "=" in w]
    given = {o.partition("=")[0] for o in overrides}
    if len(bare) > 2:
        raise ConfigError(f"`{bare[2]}`: after MODEL and DATA come settings, written key=value.")
    run: Path | None = None
    if bare and "model" not in given:
        first = bare.pop(0)
        run = run_named(first, config_dir)
        if run is None:
            overrides.insert(0, f"model={first}")
        else:
            choices = read_config(run).get("choices", {})
            overrides.insert(0, f"model={choices.get('model')}")
            if not bare and "data" not in given:
                bare = [str(choices.get("data"))]
    if bare:
        if "data" in given:
            raise ConfigError(f"`{bare[0]}`: the data set is already given as a setting.")
        overrides.insert(1 if overrides and overrides[0].startswith("model=") else 0, f"data={bare[0]}")
    elif "data" not in given:
        raise ConfigError("which data set? For instance `tfcli probe clip flowers`  (`tfcli ls data` lists them)")
    return run, overrides


Takes = Literal["images", "text", "questions"]
"""Kind of input that a command passes to a model; `questions` are asked about images."""


def check_takes(run: Path, takes: Takes) -> None:
    """Refuse a run whose model takes another kind of input. Raises ConfigError."""
    saved = read_config(run)
    answers = "question" in saved.get("task", {}).get("needs", []) and "image_size" in saved.get("data", {})
    if answers and takes != "questions":
        raise ConfigError(
            f"`{run}` answers questions about images, but is given {takes} alone: `tfcli predict {run} FILE` needs "
            f'`--question "..."` as well; `tfcli evaluate {run}` measures it on its set.'
        )
    if takes == "questions":
        if not answers:
            raise ConfigError(f"`{run}` answers no questions about images: its task needs no `question` and `image`.")
        return
    if takes == "images" and "image_size" not in saved.get("data", {}):
        raise ConfigError(f"`{run}` was trained on data without images, and this command needs a model of images.")
    if takes == "text" and not saved.get("model", {}).get("tokenizer"):
        raise ConfigError(f"`{run}` takes no text: its model has no `model.tokenizer`.")


def resolve_model(
    rest: list[str], settings: list[str], config_dir: str | None, *, takes: Takes | None = None
) -> tuple[Path | None, list[str]]:
    """Take the run or the model off the front of `rest`; a model without weights of its own is the public one.

    Returns:
        the run, or None; and the settings, with the model's.

    Raises:
        ConfigError: there is neither a run nor weights, or a setting is wrong.
        RunError, WeightsError: the run has no checkpoint, or the weights are not there.
    """
    hint = ""
    if not any(s.startswith("model=") for s in settings) and rest:
        run = run_named(rest[0], config_dir)
        word = rest.pop(0)
        if (Path(word) / "config.yaml").is_file():  # a run that is called as a model is
            hint = f" The run in the folder `{word}` is `./{word}`."
        if run is not None:
            find_checkpoint(run, "best")
            if takes:
                check_takes(run, takes)
            if settings:
                check_results(config_for_this_machine(run, settings)[0])
            return run, settings
        settings = [f"model={word}", *settings]
    job = compose("train", [*settings], config_dir)
    if job.config.model.get("weights"):
        check_paths(job.config)
        return None, settings
    public = job.config.model.get("public")
    if not public:
        raise ConfigError(
            f"a run, or `model.weights=NAME or PATH`, is needed: untrained weights give no useful output.{hint}"
        )
    own = [s for s in settings if not s.startswith("model=")]
    _say_public(job.choices["model"], public)
    return None, [f"model={public.model}", f"model.weights={public.weights}", *own]


def _say_public(name: str, public: DictConfig) -> None:
    if public.model != name:
        title = public_title(public.model)
        say(f"{name}: the public {title} ({public.weights}); `tfcli train model={name}` trains one of laptop size")


def run_named(word: str, config_dir: str | None) -> Path | None:
    """Return the run that a word means; None for the name of a model. Raises ConfigError for any other word."""
    models = [*options("model", config_dir), *torchvision_names()]
    if word in models or "," in word:  # several: a sweep over models
        return None
    try:
        return find_run(word, needs=CHECKPOINT)
    except RunError as error:
        if "may mean" in str(error) or Path(word).exists() or word == "latest":
            raise
        names = [*models, *(run_name(r) for r in all_runs()[:50])]
        raise ConfigError(
            f"`{word}` is neither a model nor a run.{nearest(word, names)}  (`tfcli ls models`, `tfcli runs ls`)"
        ) from None
