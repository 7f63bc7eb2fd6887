"""Types and bounds of settings that are not arguments of a part: of the trainer, the run, a logger.

The types alone are used, read from the source as those of every part are (`signatures`): a top-level group of the
config finds its class by its name. Defaults and comments stand in `conf/`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from tfcli.bounds import Bounds, Count, Natural, NotNegative, Positive, Rate


class Config(TypedDict):
    """The top level of a config."""

    seed: Natural
    heads: list[str]


class Trainer(TypedDict):
    """`conf/trainer`."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
    strategy: Literal["auto", "ddp", "fsdp"]
    devices: Count | Literal["auto"]
    num_nodes: Count
    precision: Literal["auto", 32, "bf16", 64, "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
    compile: bool | Literal["auto"]
    max_epochs: Count
    max_steps: Count | None
    accumulate: Count
    clip: NotNegative
    ema_decay: Rate
    average_last: Natural
    monitor: str
    patience: Natural | None
    val_every_epochs: Count
    test: Literal["best", "last", "none"]
    save_every_minutes: NotNegative | None
    timeout_s: Positive
    save_every_steps: Natural | None
    log_every_steps: Count
    deterministic: bool
    threads: Count | None


class Run(TypedDict):
    """`run`."""

    dir: str | None
    root: str
    show_model: bool


class Wandb(TypedDict):
    """`logger.wandb`."""

    mode: Literal["auto", "online", "offline", "required"]
    project: str
    entity: str | None
    name: str | None
    group: str | None
    tags: list[str]


class Logger(TypedDict):
    """`conf/logger`."""

    wandb: Wandb | None
    tensorboard: bool


class Features(TypedDict):
    """`features` of `conf/probe.yaml`."""

    layer: str | None
    pool: Literal["head", "class", "mean"]
    precision: Literal["auto", 32, "bf16", 16]
    batch_size: Count
    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    devices: Count | Literal["auto"]
    threads: Count | None
    cache: str | None
    refresh: bool


class Bench(TypedDict):
    """`bench` of `conf/bench.yaml`."""

    lengths: list[Count]
    width: Count
    heads: Count
    batch_size: Count
    backward: bool
    repeats: Count
    limit_s: Positive
    limit_gb: Positive


class Tokenizer(TypedDict):
    """`tokenizer` of a model."""

    kind: Literal["chars", "words", "bpe", "byte_bpe", "wordpiece", "unigram", "clip"] | None
    vocab_size: Annotated[int, Bounds(low=2)] | None
    path: str | None
    lower: bool


class Facts(TypedDict):
    """Keys that say something about a part but are no arguments of its constructor."""

    weights: str | None
    names: list[str]
    needs: list[str]
    tokenizer: Tokenizer | None
    public: Any
    input_size: Count | None
    teacher_weights: str | None
    view: Any
    layout: str
    answer: str


class PartsOfParts(TypedDict):
    """Keys of nested parts that are not arguments: which parts fit together (see `tfcli.engine.config.validate`)."""

    applies_to: str | None
    placements: list[str]
    refuses: list[str]
    takes: list[str]


FACTS, NESTED_FACTS = tuple(Facts.__annotations__), tuple(PartsOfParts.__annotations__)
