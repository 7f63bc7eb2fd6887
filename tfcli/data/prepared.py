"""The base of the data module: the settings of a data set, and its splits after loading and checking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

import numpy as np
import torch
from torch import Tensor

from tfcli.bounds import Bounds, Count, Fraction, Natural, Positive, Rate, Share
from tfcli.data.columns.filetext import sample
from tfcli.data.columns.splits import SplitSettings
from tfcli.data.columns.tables import Source
from tfcli.data.common.facts import Facts
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, height, taken
from tfcli.data.common.splitnames import SPLITS
from tfcli.data.common.workers import Ranks
from tfcli.data.images.cache import Policy, Store
from tfcli.data.images.imageset import Images
from tfcli.data.images.resize import Fit
from tfcli.data.images.transforms import Augment, EvalTransform, TrainTransform
from tfcli.data.splitting import Recipe, split_tables
from tfcli.data.views.captioned import CaptionedImages
from tfcli.data.views.labelled import LabelledImages
from tfcli.data.views.view import View
from tfcli.errors import ConfigError, DataError, nearest
from tfcli.files import data_root

TEXTS = ("text", "pair", "source", "target", "question", "context")
"""Columns of plain text, from which a vocabulary is made together with captions, words and choices."""

POOL = 128
"""Number of global batches in a pool with `bucket=auto`; another number changes the order in which runs resume."""


class PreparedData:
    """A data set that is loaded, checked, split and decoded once; `DataModule` serves it in batches.

    A source loads tables of named columns, and a view turns their rows into samples. `serve` sets the view before
    `prepare`; the default is labelled images, or captioned images where there are no labels. `encode` takes the model's
    tokenizer after `prepare` and before the first loader.

    The splits of the data set are kept, and a missing one is set aside with `split_seed`. For images, val comes from
    train (`val_fraction`) and test from all images (`test_fraction`), stratified by class. For texts, the rows are
    random, or the ends of the documents where there are few. Validation samples never come from test. Images stay uint8
    until they are on the device.

    Where the view has another view `beside` it and the data set also has labelled images, evaluation has two loaders
    per split.

    Args:
        source: finds and loads the data set.
        name: name of the data set, and by default of its folder below the root of all data sets.
        columns: names of the columns of the data set; for a table, a mapping from our names to its headers.
        num_classes: required number of classes; None accepts any number.
        root: folder of the data set, or of all data sets; None means $TFCLI_DATA, or else `data` in the user's cache
            folder.
        batch_size, eval_batch_size: number of samples in a batch of one rank; evaluation's is twice training's by
            default.
        bucket: number of global batches in a shuffled pool that is sorted by length, so that a training batch has
            sequences of similar length; where the loss is a mean over tokens, batches then have about equal numbers of
            tokens, and `batch_size` is their mean number of sequences. auto means 128, or 0 with `batch_tokens`. 0
            means any lengths: the order of saved runs without this setting.
        batch_tokens: largest number of tokens in a training batch; batches then have sequences of similar length.
        max_length: largest number of tokens in a sequence; None means the limit of the model.
        vocabulary_chars: largest number of characters of train from which a new vocabulary is made.
        truncate: truncate longer sequences with a note; if False, they are an error.
        workers: number of loader processes, or `auto`.
        cache: cache of decoded images: `memory`, `disk`, `none` or `auto` (see `tfcli.data.images.cache`).
        download: download the data set where it is missing, but never with TFCLI_OFFLINE=1.
        verify: let torchvision verify checksums.
        on_error, max_bad_fraction: whether unreadable image files are an error (`raise`) or skipped (`skip`), and up to
            which fraction of all files.
        val_fraction, test_fraction: fractions that are set aside for missing splits.
        split_seed: seed of the splits that are set aside, and of limits.
        seed: seed of the order, the augmentation and the random choices of the view.
        limit_train, limit_val, limit_test: largest number of rows in a split, stratified for images; None means all.
        test_split: name of the test split of texts, where the data set has several.
        watch_test: also evaluate the test split in each epoch, for curves but never for choices.
        baseline: print results of simple models on the same data beside the result of a run.
        image_size: side of the square images that models read, in pixels.
        mean, std: mean and standard deviation of each channel, for pixels in 0..1.
        augment: keywords of `tfcli.data.images.transforms.Augment`.
        eval_crop, resize, interpolation, resizer, fill: preprocessing in evaluation; see
            `tfcli.data.images.resize.Fit`.
        decode_size: shorter side of decoded images, in pixels; None means the size of evaluation where it keeps the
            aspect ratio. It is the same in all cache modes, which therefore differ only in speed.
        facts: further facts from the config, for sources, messages and tables; see `tfcli.data.common.facts`.

    Attributes:
        start_epoch, start_batch: first batch of training; set by the engine before `fit` on resume.
        tokenizer: tokenizer of the texts; see `encode`.
        class_tokens: tokens (K, T, L) of T prompts for each class, for zero-shot metrics; set by the engine.
        on_skip: called with unreadable files and reasons that are found only while reading; set by the engine.
        ranks: number of this process and number of processes; from the environment until a trainer says them.
        classes_of: names of the classes of each column that holds classes; known after `prepare`.
        classes, groups, num_classes, counts, fingerprint, bad_files, notes: known after `prepare`.
        fingerprints: digest of each split; known after `prepare`.
        rows: table of each split; known after `prepare`.
        beside: tables of labelled images that are evaluated in addition to `rows`; often empty; known after `prepare`.
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
        bucket: Natural | Literal["auto"] = 0,
        batch_tokens: Count | None = None,
        max_length: Count | None = None,
        vocabulary_chars: Count = 100_000_000,
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
        for key, value, choices in (
            ("cache", cache, ("auto", "memory", "disk", "none")),
            ("on_error", on_error, ("raise", "skip")),
        ):
            if value not in choices:
                raise ConfigError(f"`data.{key}` must be one of {', '.join(choices)}, but is {value!r}.")
        if batch_tokens and bucket not in (0, "auto"):
            raise ConfigError(
                f"`data.bucket={bucket}` groups batches of `data.batch_size` sequences by length, and "
                "`data.batch_tokens` sorts a whole epoch by length: set one of them only."
            )
        self.source, self.name, self.given_classes = source, name, num_classes
        self.columns = dict(columns) if isinstance(columns, Mapping) else tuple(columns)
        self.root, self.download, self.verify, self.facts = data_root(root), download, verify, dict[str, Any](facts)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or 2 * batch_size
        self.bucket = (0 if batch_tokens else POOL) if bucket == "auto" else bucket
        self.batch_tokens, self.max_length, self.truncate = batch_tokens, max_length, truncate
        self.vocabulary_chars = vocabulary_chars
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
        """Set the view, before `prepare`.

        Args:
            view: the view of the task.
            needs: the columns that the view reads.
        """
        self.view, self.needs = view, tuple(needs)

    @property
    def num_classes(self) -> int:
        return len(self.classes) or self.given_classes or 0

    @property
    def unit(self) -> str:
        """Plural noun for samples, for counts and rates."""
        return self.view.unit if self.view else "rows"

    @property
    def counted(self) -> str:
        """Unit of the training speed: images or tokens."""
        return "images" if "image" in self.columns or (self.view and not self.view.reads_text) else "tokens"

    @property
    def request(self) -> Request:
        """The request to the source."""
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
        """Load, check and split the data set, and decode its images according to `cache`. A second call does nothing.

        Raises:
            ConfigError: MixUp, CutMix or repeated augmentation is set for images without labels.
            DataError: the data set is missing, unusable or does not match the config.
            PolicyStop: there are more unreadable files than `max_bad_fraction` allows.
        """
        if self.counts:
            return
        loaded = self.source.load(self.request)
        columns = loaded.splits.get("train", {})
        if missing := [name for name in self.needs if columns and name not in columns]:
            if missing[0] in self.columns:
                raise DataError(
                    f"{self.name}: `columns` names {', '.join(missing)}, but the source has only {', '.join(columns)}."
                    f"{nearest(missing[0], columns)}"
                )
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
        """The tables with labels: `beside` where there is one, and otherwise `rows`."""
        return self.beside or self.rows

    def labels(self, split: str) -> np.ndarray:
        """Return the labels (N,) of a split in its original order; empty where it has none."""
        self.prepare()
        return np.asarray(self.labelled.get(split, {}).get("label", []), np.int64)

    def texts(self, split: str) -> list[str]:
        """Return all texts of a split, from which a vocabulary is made, or a sample of `vocabulary_chars` characters.

        Raises:
            DataError: the split has no texts.
        """
        self.prepare()
        found: list[Any] = []
        for name, column in self.rows.get(split, {}).items():
            if name in TEXTS:
                found += taken(column)
            elif name in ("words", "choices"):
                found += [" ".join(words) for words in column]
            elif name == "caption":
                found += [text for own in taken(column) for text in own]
        if not found:
            raise DataError(f"{self.name} has no texts of a split `{split}`, or they were not asked for.")
        texts, total = sample(found, self.vocabulary_chars), sum(map(len, found))
        if (some := sum(map(len, texts))) < total:
            self.notes.append(
                f"{self.name}: a new vocabulary is made from {some:,} of the {total:,} characters of {split}, evenly "
                "spaced (data.vocabulary_chars)"
            )
        return texts

    def arrays(self, split: str, *, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return images (N, Y, X, 3) uint8 with the transform of evaluation, and labels (N,), for simple baselines."""
        self.prepare()
        table = self.labelled[split]
        rows = np.arange(len(table["image"]))[:limit]
        chunks = [table["image"].plain(rows[i : i + 512], self.eval_transform) for i in range(0, len(rows), 512)]
        return torch.cat(chunks).permute(0, 2, 3, 1).numpy(), table["label"][rows]

    def sources(self, split: str) -> list[str]:
        """Return the origin of each labelled image of a split: its file with the folder, or its row number."""
        self.prepare()
        images: Images = self.labelled[split]["image"]
        if isinstance(images.pixels, Store):
            return ["/".join(images.pixels.files[row].parts[-2:]) for row in images.rows]
        return [str(row) for row in images.rows]
