"""A set found, checked, split and decoded once: the settings of a set, and what its splits hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from tfcli.bounds import Bounds, Count, Fraction, Natural, Positive, Rate, Share
from tfcli.data.columns.splits import SplitSettings
from tfcli.data.columns.tables import Source
from tfcli.data.common.facts import Facts
from tfcli.data.common.paths import data_root
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, height, taken
from tfcli.data.common.splitnames import SPLITS
from tfcli.data.common.workers import Ranks
from tfcli.data.images.assembly import Recipe
from tfcli.data.images.cache import Policy, Store
from tfcli.data.images.imageset import Images
from tfcli.data.images.resize import Fit
from tfcli.data.images.transforms import Augment, EvalTransform, TrainTransform
from tfcli.data.splitting import split_tables
from tfcli.data.views.captioned import CaptionedImages
from tfcli.data.views.labelled import LabelledImages
from tfcli.data.views.view import View
from tfcli.errors import ConfigError, DataError

TEXTS = ("text", "pair", "source", "target", "question", "context")
"""Columns of plain text: what a vocabulary is made from, besides captions and lists of words and of choices."""


class PreparedData(pl.LightningDataModule):
    """A set found, checked, split and decoded once; `DataModule` serves it in batches.

    A source gives tables of named columns, a view lays out samples of them: `serve` names the view before `prepare`;
    without, labelled images, or captioned ones where there are no labels, are served, and of texts the rows alone are
    there. A model's tokenizer goes into `encode` after `prepare` and before the first loader.

    Splits are the set's own. What is missing is set aside by `split_seed`: of images stratified, val from
    train (`val_fraction`) and test from the whole (`test_fraction`); of texts rows at random, or of a few long
    documents their ends. Validation never comes from test. Images stay uint8 until they are on the device.

    Where a view has another `beside` it and the set has labelled images too, evaluation has two loaders a split.

    Args:
        source: finds and reads the set.
        name: of the set; also its folder below a folder of roots.
        columns: names of the columns that it gives; of a table, with what each is called there.
        num_classes: how many classes there must be; None takes what the data say.
        root: the set's own root or a folder of roots; None: $TFCLI_DATA, else `data` in the user's cache folder.
        batch_size, eval_batch_size: samples a rank; evaluation's is twice training's by default.
        batch_tokens: most tokens in a training batch; sequences of like length are then batched together.
        max_length: longest sequence in tokens; None: what the model takes.
        truncate: cut longer ones and say how many; False: an error.
        workers: loader processes, or `auto`.
        cache: of images: `memory`, `disk`, `none` or `auto` (see `tfcli.data.images.cache`).
        download: fetch the set when it is missing; never under TFCLI_OFFLINE=1.
        verify: let torchvision check its checksums.
        on_error, max_bad_fraction: what to do about unusable image files: `raise`, or `skip` up to a share of them.
        val_fraction, test_fraction: shares that splits set aside take.
        split_seed: of splits set aside and limits.
        seed: of the order, the augmentation and what a view draws.
        limit_train, limit_val, limit_test: at most so many rows, of images stratified; None: all.
        test_split: of texts, the split that is tested, where the set has several.
        watch_test: give the test split beside the validation split in each epoch; for curves, never for choices.
        baseline: the engine prints what simple models of the same data come to beside the result.
        image_size: side of the square that models get, in pixels.
        mean, std: of each channel, of pixels in 0..1.
        augment: keywords of `tfcli.data.images.transforms.Augment`.
        eval_crop, resize, interpolation, resizer, fill: how evaluation brings images to size:
            `tfcli.data.images.resize.Fit`.
        decode_size: shorter side kept after decoding, in pixels; None: as evaluation resizes, where that keeps the
            proportions. All cache modes keep the same, so that they change the speed and nothing else.
        facts: what else the config says about the set, for sources, messages and tables.

    Attributes:
        start_epoch, start_batch: where the first training epoch begins; set by the engine before `fit` on resume.
        tokenizer: of the texts; see `encode`.
        class_tokens: tokens (K, T, L) of texts that say each class, for zero-shot figures; set by the engine.
        on_skip: called with unusable files that are met only while reading, and why; set by the engine.
        ranks: this process and how many there are; from the environment until a trainer is attached.
        classes_of: names of the classes of each column that has some; known after `prepare`.
        classes, groups, num_classes, counts, fingerprint, bad_files, notes: known after `prepare`.
        fingerprints: likewise, one for each split alone.
        rows: after `prepare`, the table of each split that is served.
        beside: likewise, labelled images that are not those of `rows`; mostly empty.
    """

    name: str

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        columns: Sequence[str] | Mapping[str, Any] = ("image", "label"),
        num_classes: Count | None = None,
        root: str | Path | None = None,
        batch_size: Count = 64,
        eval_batch_size: Count | None = None,
        batch_tokens: Count | None = None,
        max_length: Count | None = None,
        truncate: bool = True,
        workers: Natural | Literal["auto"] = "auto",
        cache: Literal["auto", "memory", "disk", "none"] = "auto",
        download: bool = True,
        verify: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        max_bad_fraction: Fraction = 0.01,
        val_fraction: Rate = 0.1,
        test_fraction: Rate = 0.2,
        split_seed: Natural = 0,
        seed: Natural = 0,
        limit_train: Count | None = None,
        limit_val: Natural | None = None,
        limit_test: Natural | None = None,
        test_split: str = "test",
        watch_test: bool = False,
        baseline: bool = False,
        image_size: Count = 224,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225),
        augment: dict[str, Any] | None = None,
        eval_crop: Share = 0.875,
        decode_size: Count | None = None,
        resize: Literal["shorter", "longer", "squash", "none"] = "shorter",
        interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bilinear",
        resizer: Literal["pillow", "transformers"] = "pillow",
        fill: Sequence[Annotated[int, Bounds(low=0, high=255)]] = (0, 0, 0),
        **facts: Unpack[Facts],
    ):
        super().__init__()
        for key, value, choices in (
            ("cache", cache, ("auto", "memory", "disk", "none")),
            ("on_error", on_error, ("raise", "skip")),
        ):
            if value not in choices:
                raise ConfigError(f"`data.{key}` must be one of {', '.join(choices)}, but is {value!r}.")
        self.source, self.name, self.given_classes = source, name, num_classes
        self.columns = dict(columns) if isinstance(columns, Mapping) else tuple(columns)
        self.root, self.download, self.verify, self.facts = data_root(root), download, verify, dict[str, Any](facts)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or 2 * batch_size
        self.batch_tokens, self.max_length, self.truncate = batch_tokens, max_length, truncate
        self.workers, self.cache = workers, cache
        self.policy = Policy(on_error=on_error, max_bad_fraction=max_bad_fraction)
        self.fractions = {"val": val_fraction, "test": test_fraction}
        self.split_seed, self.seed, self.test_split = split_seed, seed, test_split
        self.limits = {"train": limit_train, "val": limit_val, "test": limit_test}
        self.watch_test, self.baseline = watch_test, baseline
        self.image_size, self.mean, self.std = image_size, tuple(mean), tuple(std)
        self.augment = Augment(**(augment or {}))
        self.mixes = bool(self.augment.mixup or self.augment.cutmix)
        fit = Fit(image_size, eval_crop, resize, interpolation, resizer, tuple(fill))
        self.kept = replace(fit.step, side=decode_size, rule="shorter") if decode_size else fit.step
        colour, noise = ([255 * value for value in values] for values in (self.mean, self.std))
        self.eval_transform = EvalTransform(fit)
        self.train_transform = TrainTransform(fit, augment=self.augment, fill=colour, noise=noise)
        self.start_epoch, self.start_batch = 0, 0
        self.ranks = Ranks.from_environment()
        self.view: View | None = None
        self.needs: tuple[str, ...] = ()
        if "image" in self.columns:
            views: dict[str, View] = {"label": LabelledImages(), "caption": CaptionedImages()}
            column = next((name for name in views if name in self.columns), None)
            if column:
                self.serve(views[column], (column,))
        self.tokenizer: Any = None
        self.class_tokens: Tensor | None = None
        self.classes: list[str] = []
        self.classes_of: dict[str, list[str]] = {}
        self.groups: list[str] = []
        self.counts: dict[str, int] = {}
        self.fingerprint = ""
        self.fingerprints: dict[str, str] = {}
        self.notes: list[str] = []
        self.bad_files: list[tuple[str, str]] = []
        self.on_skip: Callable[[list[tuple[str, str]]], object] | None = None
        self.rows: dict[str, Columns] = {}
        self.beside: dict[str, Columns] = {}

    # ---- finding, checking and splitting

    def serve(self, view: View, needs: Sequence[str]) -> None:
        """Say what is to be served, before `prepare`.

        Args:
            view: of the task.
            needs: the columns that it needs.
        """
        self.view, self.needs = view, tuple(needs)

    @property
    def num_classes(self) -> int:
        return len(self.classes) or self.given_classes or 0

    @property
    def unit(self) -> str:
        """Name of one sample, for counts and rates."""
        return self.view.unit if self.view else "rows"

    @property
    def counted(self) -> str:
        """Unit in which speed is counted: images or tokens."""
        return "images" if "image" in self.columns or (self.view and not self.view.reads_text) else "tokens"

    @property
    def request(self) -> Request:
        """Return the request to the source."""
        return Request(
            name=self.name,
            root=self.root,
            download=self.download,
            verify=self.verify,
            skip=self.policy.on_error == "skip",
            split_seed=self.split_seed,
            test_fraction=self.fractions["test"],
            columns=self.needs,
            facts={**self.facts, "columns": self.columns},
        )

    def prepare(self) -> None:
        """Find, check, split and (by the cache's mode) decode the set. Once; a second call does nothing.

        Raises:
            ConfigError: MixUp, CutMix or copies of images that have no labels.
            DataError: the set is missing, unusable or not what the config says.
            PolicyStop: more unusable files than `max_bad_fraction`.
        """
        if self.counts:
            return
        loaded = self.source.load(self.request)
        columns = loaded.splits.get("train", {})
        if missing := [name for name in self.needs if columns and name not in columns]:
            raise DataError(
                f"{self.name}: the task needs {', '.join(missing)}, but rows to train on have only "
                f"{', '.join(columns)}. Choose another task=NAME, or another set."
            )
        if not isinstance(loaded.classes, dict):
            raise DataError(
                f"{self.name}: a source gives `classes` for each of its columns, for instance "
                f"{{'label': ['cat', 'dog']}}, but here they are {loaded.classes!r}."
            )
        target = next((name for name in (*self.needs, *loaded.classes) if name in loaded.classes), None)
        self.classes, self.classes_of = list(loaded.classes.get(target or "", [])), loaded.classes
        self.groups = list(loaded.groups)
        found = split_tables(
            loaded,
            self._recipe,
            target=target,
            given=self.given_classes if target == "label" or "label" not in self.columns else None,
            official=self.facts.get("counts"),
            repeats=self.augment.repeats,
        )
        self.rows, self.beside = found.rows, found.beside
        self.fingerprint, self.fingerprints = found.fingerprint, found.fingerprints
        self.bad_files.extend(found.bad)
        self.notes = [*loaded.notes, *self.notes, *found.notes]
        self.counts = {split: height(self.rows.get(split, {})) for split in SPLITS}

    @property
    def _recipe(self) -> Recipe:
        return Recipe(
            name=self.name,
            splits=SplitSettings(self.fractions, self.split_seed, self.limits, self.test_split),
            resize=self.kept,
            cache=self.cache,
            policy=self.policy,
            ranks=self.ranks,
            train=self.train_transform,
            evaluation=self.eval_transform,
            mixes=self.mixes,
        )

    # ---- what there is

    @property
    def labelled(self) -> dict[str, Columns]:
        """The tables whose rows have labels, where there are any: what is served, or what stands beside it."""
        return self.beside or self.rows

    def labels(self, split: str) -> np.ndarray:
        """The labels (N,) of a split, in its own order; empty where it has none."""
        self.prepare()
        return np.asarray(self.labelled.get(split, {}).get("label", []), np.int64)

    def texts(self, split: str) -> list[str]:
        """All texts of a split: what a vocabulary is made from.

        Raises:
            DataError: it has none.
        """
        self.prepare()
        found: list[str] = []
        for name, column in self.rows.get(split, {}).items():
            if name in TEXTS:
                found += taken(column)
            elif name in ("words", "choices"):
                found += [" ".join(words) for words in column]
            elif name == "caption":
                found += [text for own in taken(column) for text in own]
        if not found:
            raise DataError(f"{self.name} has no texts of a split `{split}`, or they were not asked for.")
        return found

    def arrays(self, split: str, *, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, Y, X, 3) uint8 as evaluation sees them, and labels (N,): for baselines on small sets."""
        self.prepare()
        table = self.labelled[split]
        rows = np.arange(len(table["image"]))[:limit]
        chunks = [table["image"].plain(rows[i : i + 512], self.eval_transform) for i in range(0, len(rows), 512)]
        return torch.cat(chunks).permute(0, 2, 3, 1).numpy(), table["label"][rows]

    def sources(self, split: str) -> list[str]:
        """Return the origin of each labelled image of a split: its file below the set's folder, or its number."""
        self.prepare()
        images: Images = self.labelled[split]["image"]
        if isinstance(images.pixels, Store):
            return ["/".join(images.pixels.files[row].parts[-2:]) for row in images.rows]
        return [str(row) for row in images.rows]
