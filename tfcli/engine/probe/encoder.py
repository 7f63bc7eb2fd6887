"""A frozen encoder and a data set, ready for one pass: which weights, which transform, which arithmetic."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from tfcli.data.common.counter_rng import seed_for
from tfcli.data.images.resize import SETTINGS
from tfcli.data.module import DataModule
from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import Composition, given
from tfcli.engine.config.equal import same
from tfcli.engine.loading.load_model import Found, Loaded, find_model
from tfcli.engine.runs.record import run_name
from tfcli.engine.runs.saved_config import trusted_config
from tfcli.engine.runs.terminal import progress, quiet_libraries
from tfcli.engine.train import numerics
from tfcli.errors import ConfigError, WeightsError
from tfcli.files import cache_root
from tfcli.models.protocols import ImageTextEncoder
from tfcli.probes import features, store
from tfcli.text.tokenizer import Tokenizer
from tfcli.weights.load_report import HEADS


@dataclass
class Frozen:
    """An encoder with its data.

    Attributes:
        name: of the encoder, as it stands in tables and folders.
        source: where its weights are from, in words.
        notes: what the user should know.
    """

    job: Composition
    loaded: Loaded
    name: str
    source: str
    data: DataModule
    devices: list[torch.device]
    notes: list[str] = field(default_factory=list)
    precision: str = "32"
    why: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    from_cache: dict[str, bool] = field(default_factory=dict)

    @property
    def net(self) -> nn.Module:
        return self.loaded.net

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Of its text tower, if it has one."""
        return self.loaded.tokenizer

    @property
    def has_text(self) -> bool:
        return isinstance(self.net, ImageTextEncoder) and self.tokenizer is not None

    @property
    def weights(self) -> str | None:
        return self.job.config.model.get("weights")

    @property
    def cache(self) -> Path:
        given = self.job.config.features.cache
        return Path(given).expanduser() if given else cache_root() / "features"


def prepare(job: Composition, run: Path | None) -> Frozen:
    """Find the data, build the encoder, load its weights. Nothing is extracted yet.

    Args:
        job: of the config `probe`.
        run: a training run whose checkpoint is the encoder; else the model's weights are.

    Raises:
        UserError: whatever the user has to mend first; in particular weights that nobody named.
    """
    quiet_libraries()
    config = job.config
    if "label" not in config.data.columns:
        raise ConfigError(
            f"data `{job.choices['data']}` has no labels, which every head is measured by. Retrieval on it is "
            "measured by `tfcli evaluate` of a CLIP run, or of `model=clip model.weights=...`."
        )
    if "vocab_size" in config.model:
        raise ConfigError(
            f"`model={job.choices['model']}` reads text and has no features of images. What its layers hold of words: "
            f"`tfcli words {job.choices['model']} model.weights=... --word WORD SENTENCE SENTENCE`."
        )
    found = _found(job, run)
    if "data.cache" not in found.typed:
        config.data.cache = "none"  # each image is read once
    config.data.eval_batch_size = config.features.batch_size
    devices = numerics.find_devices({**plain(config.features), "strategy": "parallel", "num_nodes": 1})
    numerics.set_threads(devices, config.features.threads)
    data = cast(DataModule, build(config.data))
    data.prepare()
    OmegaConf.update(config, "data.num_classes", data.num_classes)
    torch.manual_seed(seed_for(config.seed, "init"))
    loaded = found.build(lambda: [f"a photo of a {name}" for name in data.classes])
    loaded.refuse_untrained(unused=HEADS)
    loaded.net.requires_grad_(False)
    notes = [*data.notes, *loaded.notes]
    source = f"run {run_name(run)}" if run is not None else found.weights or "no weights"
    if config.model.get("weights") == "random":
        source = "random weights"
        notes.append("the weights are random (model.weights=random): these figures are those of an untrained network")
    if loaded.report is not None:
        notes += [note for note in loaded.report.notes if "head" not in note]
    name = job.choices["model"]
    name = config.model.name if name == "torchvision" else name
    return Frozen(job, loaded, name, source, data, devices.local, notes)


def _found(job: Composition, run: Path | None) -> Found:
    """Return the encoder: of a run, of public weights, or one that is left as initialised where that was asked for."""
    config, weights = job.config, job.config.model.get("weights")
    if run is not None:
        _adopt_run(config, run, given(job.overrides, job.choices))
    try:
        return find_model(run, job=job, trained=weights not in (None, "random"))
    except WeightsError as error:
        if run is not None or not config.model.get("tokenizer") or Path(str(weights)).exists():
            raise
        own = "`tfcli train model=clip data=shapes`, then `tfcli probe latest shapes`"
        raise WeightsError(f"{error} Or probe a CLIP of your own: {own}.") from error


def _adopt_run(config: DictConfig, run: Path, typed: set[str]) -> None:
    """Take over the run's own model and how it saw images."""
    saved = trusted_config(run)
    OmegaConf.set_struct(config, False)
    config.model = OmegaConf.create(saved["model"])
    config.model.weights = str(run.resolve())
    OmegaConf.set_struct(config, True)
    for key in SETTINGS:
        if f"data.{key}" not in typed and key in saved["data"]:
            config.data[key] = saved["data"][key]


# ---- one pass


def facts(frozen: Frozen, split: str) -> store.Facts:
    """Return everything that the features of a split depend on."""
    config, data = frozen.job.config, frozen.data
    settings = plain(config.model)
    for word in ("weights", "tokenizer", "public", "num_classes", "text", "names"):
        settings.pop(word, None)
    return {
        "model": frozen.name,
        "data": data.name,
        "split": split,
        "weights": frozen.loaded.digest,
        "settings": json.loads(json.dumps(settings, default=str)),
        "transform": {
            **asdict(data.eval_transform.fit),
            "fill": list(data.eval_transform.fit.fill),
            "decode_size": config.data.decode_size,
            "mean": list(data.mean),
            "std": list(data.std),
        },
        "fingerprint": data.fingerprints[split],
        "precision": frozen.precision,
        "layer": config.features.layer,
        "pool": config.features.pool,
    }


def entry(frozen: Frozen, split: str) -> store.Entry:
    """Return a split's place in the cache: where it was kept under earlier names of the same settings, if it was."""
    return store.entry(frozen.cache, facts(frozen, split), frozen.data.counts[split], same=same)


def fetch_features(frozen: Frozen, split: str) -> tuple[Tensor, Tensor]:
    """Return features (N, D) float32 and labels (N,) of a split, from the cache where they are there.

    Raises:
        DataError: the split is empty, or a feature is not finite.
    """
    config, data = frozen.job.config, frozen.data
    choose_precision(frozen)
    wanted = entry(frozen, split)
    began = time.monotonic()
    dtype = features.DTYPES[frozen.precision]
    nets: list[nn.Module] = []

    def extract(rows: Sequence[int]) -> Iterator[store.Shard]:
        if not nets:
            nets.extend(features.replicas(frozen.net, frozen.devices, dtype))
        encoders = [features.encoder(net, layer=config.features.layer, pool=config.features.pool) for net in nets]
        return features.extract(
            encoders,
            frozen.devices,
            data.in_order(split, np.asarray(rows)),
            ready=partial(data.on_after_batch_transfer, dataloader_idx=0),
            dtype=dtype,
            where=f"{data.name}, {split}",
        )

    from tfcli.engine.runs.folder import say

    with progress(f"features of {data.name} {split}", data.counts[split], "images") as advance:
        found, extracted = store.fetch(
            wanted,
            extract,
            sources=data.sources(split),
            say=say,
            advance=advance,
            refresh=bool(config.features.refresh),
        )
    left_out = data.counts[split] - len(found["label"])
    if left_out:
        say(f"{data.name}, {split}: {left_out:,} image files cannot be used and are left out (data.on_error=skip)")
    frozen.seconds[split] = time.monotonic() - began
    frozen.from_cache[split] = extracted == 0
    return found["features"], found["label"]


def cached(frozen: Frozen) -> list[dict[str, Any]]:
    """Tell for each split whether its features are cached, and what differs from the nearest that are."""
    choose_precision(frozen)
    rows = []
    for split, count in frozen.data.counts.items():
        if not count:
            continue
        wanted = entry(frozen, split)
        kept, every = wanted.kept, len(wanted.shards)
        if kept == every:
            state, why = "hit", "same weights, transform, split, precision"
        elif kept:
            state, why = "part", f"{kept:,} of {every:,} shards; the rest will be extracted"
        else:
            state, why = "miss", store.why_missed(frozen.cache, wanted) or "not cached yet"
        rows.append({"split": split, "cache": state, "why": why, "folder": str(wanted.folder)})
    return rows


def choose_precision(frozen: Frozen) -> None:
    """Choose the precision where it is `auto`: the fastest arithmetic whose features agree with fp32's to 0.9999.

    Measured once on a few images of the set and remembered, so that the cache is hit tomorrow.
    """
    asked = str(frozen.job.config.features.precision)
    if frozen.why:
        return
    if asked != "auto":
        frozen.precision, frozen.why = asked, "asked for"
        return
    if not any(True for _ in frozen.net.parameters()):
        frozen.why = "nothing to compute"
        return
    split = next(s for s in ("train", "val", "test") if frozen.data.counts[s])

    def measure() -> dict[str, str]:
        rows = np.arange(min(16, frozen.data.counts[split]))
        batch = next(iter(frozen.data.in_order(split, rows)))
        return dict(zip(("precision", "why"), _compared(frozen, batch["image"]), strict=True))

    identity = [frozen.loaded.digest, frozen.data.image_size, str(frozen.devices[0]), torch.get_num_threads()]
    known = numerics.cached_measurement(["features", *identity], measure)
    frozen.precision, frozen.why = known["precision"], known["why"]


def _step(encode: features.Encode, pixels: Tensor) -> None:
    with torch.no_grad():
        encode(pixels)
    if pixels.device.type == "cuda":
        torch.cuda.synchronize(pixels.device)


def _compared(frozen: Frozen, image: Tensor) -> tuple[str, str]:
    from tfcli.data.images.transforms import normalise

    device = frozen.devices[0]
    outs: dict[str, Tensor] = {}
    steps: list[Callable[[], None]] = []
    for name in ("32", "bf16"):
        dtype = features.DTYPES[name]
        net = features.replicas(frozen.net, [device], dtype)[0]
        encode = features.encoder(net, layer=None, pool="head")
        pixels = normalise(image.to(device), frozen.data.mean, frozen.data.std).to(dtype)
        with torch.no_grad():
            outs[name] = encode(pixels).float()

        steps.append(partial(_step, encode, pixels))
    cosine = float(torch.nn.functional.cosine_similarity(outs["32"], outs["bf16"]).min())
    if not cosine >= 0.9999:
        return "32", f"bf16 features differ here: cosine {cosine:.5f}"
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    plain_s, half_s = numerics.time_in_turns(steps, clock=clock)
    precision = "bf16" if plain_s / half_s >= numerics.MARGIN else "32"
    return precision, f"bf16: {plain_s / half_s:.2f} times as fast, cosine {cosine:.5f}"
