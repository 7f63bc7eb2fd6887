"""The one data module: any source, any view of it, any rank, any worker, the same batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tfcli.bounds import Count, Fraction, Natural, Positive, Rate, Share
from tfcli.data.columns import checks
from tfcli.data.columns.items import Items, Loaded
from tfcli.data.columns.textitems import LoadedTexts
from tfcli.data.common.facts import Facts
from tfcli.data.common.loader import Batches, Served, batch_loader, identity
from tfcli.data.common.order import BucketBatches, EvalBatches, TrainBatches
from tfcli.data.common.paths import data_root
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, height
from tfcli.data.common.workers import Ranks
from tfcli.data.images.assembly import Recipe, Split, assemble
from tfcli.data.images.cache import Policy, Store
from tfcli.data.images.imageset import FileSet, Images, normalised
from tfcli.data.images.preview import spread
from tfcli.data.images.resize import Fit
from tfcli.data.images.transforms import Augment, EvalTransform, Mix, TrainTransform, normalise
from tfcli.data.texts.parted import SPLITS, parted
from tfcli.data.views.captioned import CaptionedImages
from tfcli.data.views.labelled import LabelledImages
from tfcli.data.views.view import View
from tfcli.errors import ConfigError, DataError, nearest

TEXTS = ("text", "pair", "source", "target", "question", "context")
"""Columns of plain text: what a vocabulary is made from, besides captions and lists of words and of choices."""


class DataModule(pl.LightningDataModule):
    """A set found, checked, split, decoded or cut into tokens once, and served in addressed batches.

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
        kinds: the columns it has.
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
        classes, groups, num_classes, counts, fingerprint, bad_files, notes: known after `prepare`.
        fingerprints: likewise, one for each split alone.
        rows: after `prepare`, the table of each split that is served.
    """

    name: str
    allow_zero_length_dataloader_with_multiple_devices = True  # exact shards: a rank may have nothing to evaluate

    def __init__(
        self,
        source: Any,
        *,
        name: str,
        kinds: Sequence[str] = ("image", "label"),
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
        fill: Sequence[int] = (0, 0, 0),
        **facts: Unpack[Facts],
    ):
        super().__init__()
        for key, value, choices in (
            ("cache", cache, ("auto", "memory", "disk", "none")),
            ("on_error", on_error, ("raise", "skip")),
        ):
            if value not in choices:
                raise ConfigError(f"`data.{key}` must be one of {', '.join(choices)}, but is {value!r}.")
        self.source, self.name, self.kinds, self.given_classes = source, name, tuple(kinds), num_classes
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
        if "image" in self.kinds:
            labelled = "label" in self.kinds
            self.serve(LabelledImages() if labelled else CaptionedImages(), ("label",) if labelled else ("caption",))
        self.tokenizer: Any = None
        self.class_tokens: Tensor | None = None
        self.classes: list[str] = []
        self.groups: list[str] = []
        self.counts: dict[str, int] = {}
        self.fingerprint = ""
        self.fingerprints: dict[str, str] = {}
        self.notes: list[str] = []
        self.bad_files: list[tuple[str, str]] = []
        self.on_skip: Callable[[list[tuple[str, str]]], object] | None = None
        self.rows: dict[str, Columns] = {}
        self._labelled: dict[str, Split] = {}
        self._sets: dict[str, Served] = {}
        self._beside: dict[str, Served] = {}

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
        """What a speed is of: images or tokens."""
        return "images" if "image" in self.kinds else "tokens"

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
            facts={**self.facts, "kinds": self.kinds},
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
        self.classes, self.notes = list(loaded.classes), [*loaded.notes, *self.notes]
        if "image" in self.kinds:
            self._prepare_images(loaded)
        else:
            self._prepare_texts(loaded)
        self.counts = {split: height(self.rows.get(split, {})) for split in SPLITS}

    def _check_train(self, unit: str, where: str) -> None:
        if not height(self.rows.get("train", {})):
            raise DataError(f"{self.name}: no {unit} is left to train on. Look at {where}.")

    def _prepare_texts(self, loaded: LoadedTexts) -> None:
        self.groups = list(loaded.groups)
        if self.classes:
            checks.check_classes(self.name, self.classes, self.given_classes)
            self.notes += checks.like_notes(self.name, [] if self.given_classes else self.classes)
        self.rows, notes = parted(
            self.name, loaded, test_split=self.test_split, fractions=self.fractions, limits=self.limits,
            seed=self.split_seed,
        )  # fmt: skip
        self.notes += notes
        digests = {s: sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest() for s, rows in self.rows.items()}
        self.fingerprints = digests
        self.fingerprint = sha256(json.dumps([digests, self.classes]).encode()).hexdigest()
        self._check_train("row", "data.limit_train")
        self._check_targets(self.rows["train"])

    def _check_targets(self, rows: Columns) -> None:
        """Refuse scores that teach nothing; note classes that no training row has."""
        if "score" in rows:
            checks.check_scores(self.name, rows["score"])
        if "label" in rows and self.classes:
            self.notes += checks.untrained_notes(self.name, self.classes, rows["label"])

    def _prepare_images(self, loaded: Loaded) -> None:
        self.notes += checks.subset_notes(self.name, loaded, self.facts.get("counts"))
        if loaded.splits:
            checks.check_classes(self.name, self.classes, self.given_classes)
            checks.check_labels(self.name, loaded)
            self._labelled = self._assembled(loaded)
            self.notes += checks.like_notes(self.name, [] if self.given_classes else self.classes)
            if "train" in self._labelled:
                labels = self._labelled["train"].table["label"]
                self.notes += checks.untrained_notes(self.name, self.classes, labels)
        served = self._labelled
        if "caption" in self.needs:
            if self.mixes:
                raise ConfigError("data.augment.mixup and .cutmix cannot mix captions. Set both to 0.")
            if self.augment.repeats > 1:
                raise ConfigError(
                    "data.augment.repeats: repeated augmentation does not work with a contrastive loss: copies of "
                    "one image would count as negatives. Set it to 1."
                )
            checks.check_captions(self.name, loaded)
            served = self._assembled(loaded.captioned())
        self.rows = {split: s.table for split, s in served.items()}
        self._check_train("image", "data.limit_train and the set's folder")

    def _assembled(self, loaded: Loaded) -> dict[str, Split]:
        recipe = Recipe(
            name=self.name,
            val_fraction=self.fractions["val"],
            split_seed=self.split_seed,
            limits=self.limits,
            resize=self.kept,
            cache=self.cache,
            policy=self.policy,
            ranks=self.ranks,
            train=self.train_transform,
            evaluation=self.eval_transform,
            mixes=self.mixes,
        )
        done = assemble(loaded, recipe)
        self.bad_files.extend(done.bad)
        self.notes.extend(done.notes)
        # With both kinds: of the run all, of a split alone its labelled samples, which frozen features are made of.
        whole = (self.fingerprint + done.fingerprint).encode()
        self.fingerprint = sha256(whole).hexdigest() if self.fingerprint else done.fingerprint
        self.fingerprints = done.fingerprints | self.fingerprints
        return done.splits

    # ---- laying out samples

    def encode(self, tokenizer: Any = None, *, longest: int | None = None) -> None:
        """Lay out all splits as the view wants them; `counts` are of its samples from now on.

        Args:
            tokenizer: of the model, where it reads text.
            longest: tokens that the model takes; None: any number.

        Raises:
            ConfigError: `max_length` is more than the model takes.
            DataError: a sequence is too long and may not be cut.
        """
        self.prepare()
        if self.view is None:
            raise ValueError("`serve` must name a view before samples are laid out.")
        if self.max_length and longest and self.max_length > longest:
            raise ConfigError(
                f"`data.max_length` is {self.max_length}, but the model has positions for {longest} tokens "
                f"(model.context). Shorten the one or lengthen the other."
            )
        self.tokenizer = tokenizer
        length = self.max_length or longest
        for split, rows in self.rows.items():
            self._sets[split] = self._laid_out(self.view, rows, split, length)
        beside = getattr(self.view, "beside", None)
        if beside is not None:
            labelled = self._labelled.items()
            self._beside = {split: self._laid_out(beside, s.table, split, length) for split, s in labelled}
        self.counts = {split: len(self._sets[split]) if split in self._sets else 0 for split in SPLITS}

    def _laid_out(self, view: View, rows: Columns, split: str, length: int | None) -> Served:
        samples = view.encode(rows, self.tokenizer, length=length, train=split == "train")
        if samples.cut and not self.truncate:
            raise DataError(
                f"{self.name}: {samples.cut:,} {view.unit} of {split} are longer than {length} tokens, and "
                "data.truncate=false forbids cutting them. Raise data.max_length (and model.context)."
            )
        if samples.cut:
            self.notes.append(
                f"{self.name}: {samples.cut:,} of {len(samples.lengths):,} {view.unit} of {split} are longer than "
                f"{length} tokens and are cut (data.max_length, data.truncate)"
            )
        self.notes += [f"{self.name}: {note}" for note in samples.notes]
        return Served(samples, seed=self.seed)

    def _set(self, split: str) -> Served:
        self.prepare()
        if not self._sets:
            self.encode(self.tokenizer)
        return self._sets[split]

    # ---- what there is

    def labels(self, split: str) -> np.ndarray:
        """The labels (N,) of a split, in its own order; empty where it has none."""
        self.prepare()
        table = self._labelled[split].table if split in self._labelled else self.rows.get(split, {})
        return np.asarray(table.get("label", []), np.int64)

    def texts(self, split: str) -> list[str]:
        """All texts of a split: what a vocabulary is made from.

        Raises:
            DataError: it has none.
        """
        self.prepare()
        found: list[str] = []
        for name, column in self.rows.get(split, {}).items():
            if name in TEXTS:
                found += column
            elif name in ("words", "choices"):
                found += [" ".join(words) for words in column]
            elif name == "caption":
                found += [text for own in column.take(np.arange(len(column))) for text in own]
        if not found:
            raise DataError(f"{self.name} has no texts of a split `{split}`, or they were not asked for.")
        return found

    def arrays(self, split: str, *, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, Y, X, 3) uint8 as evaluation sees them, and labels (N,): for baselines on small sets."""
        self.prepare()
        table = self._labelled[split].table
        rows = np.arange(len(table["image"]))[:limit]
        chunks = [table["image"].plain(rows[i : i + 512], self.eval_transform) for i in range(0, len(rows), 512)]
        return torch.cat(chunks).permute(0, 2, 3, 1).numpy(), table["label"][rows]

    def samples(self, split: str, count: int, *, augmented: bool = False) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Return some images (N, Y, X, 3) uint8 of a split, classes in turn, their class names and row numbers.

        Where captions are served, evenly drawn images with their first captions.

        Raises:
            DataError: there is no such split.
        """
        self.prepare()
        if not self.counts.get(split):
            found = ", ".join(name for name, number in self.counts.items() if number)
            raise DataError(f"{self.name} has no split `{split}`, only {found}.{nearest(split, SPLITS)}")
        table = self.rows[split]
        images: Images = table["image"]
        if "caption" in table:
            rows = np.unique(np.linspace(0, len(images) - 1, count).astype(np.int64))
            names = [own[0] for own in table["caption"].take(rows)]
        else:
            rows = spread(table["label"], count)
            names = [self.classes[label] for label in table["label"][rows]]
        if augmented:
            image, _, _ = images.draw(rows, seed=self.seed, epoch=0)
        else:
            image = images.plain(rows, self.eval_transform)
        return image.permute(0, 2, 3, 1).numpy(), names, rows

    def sources(self, split: str) -> list[str]:
        """Return the origin of each labelled image of a split: its file below the set's folder, or its number."""
        self.prepare()
        items: Items = self._labelled[split].items
        positions = self._labelled[split].positions
        if items.files is None:
            return [str(i) for i in positions]
        return ["/".join(items.files[i].parts[-2:]) for i in positions]

    # ---- loaders

    def setup(self, stage: str | None = None) -> None:
        self.prepare()

    def _place(self) -> Ranks:
        if self.trainer is not None:
            self.ranks = Ranks(self.trainer.global_rank, self.trainer.world_size)
        return self.ranks

    def batches(self, world: int) -> int:
        """Training batches of an epoch, on each of so many ranks."""
        return len(self._train_batches(Ranks(0, world)))

    def _train_batches(self, ranks: Ranks, **start: int) -> TrainBatches | BucketBatches:
        data = self._set("train")
        where: dict[str, Any] = {"seed": self.seed, "rank": ranks.rank, "world": ranks.world, **start}
        if self.batch_tokens:
            return BucketBatches(data.samples.lengths, tokens=self.batch_tokens, **where)
        return TrainBatches(len(data), batch_size=self.batch_size, repeats=self.augment.repeats, **where)

    def train_dataloader(self) -> DataLoader:
        """Shuffled training batches, from (`start_epoch`, `start_batch`) on."""
        sampler = self._train_batches(self._place(), start_epoch=self.start_epoch, start_batch=self.start_batch)
        return self._loader(self._set("train"), sampler, self._bytes(self._set("train")))

    def _bytes(self, data: Served) -> int:
        """Bytes of a sample, as it passes between processes."""
        return 8 * int(data.samples.lengths.max(initial=1)) + 3 * self.image_size**2 * ("image" in self.kinds)

    def _loader(self, data: Batches, sampler: Any, size: int, collate: Callable[[Any], Any] = identity) -> DataLoader:
        loader, note = batch_loader(
            data,
            sampler,
            workers=self.workers,
            ranks=self.ranks,
            bytes_a_batch=size * sampler.batch_size,
            collate=collate,
        )
        if note and note not in self.notes:
            self.notes.append(note)
        return loader

    def _eval_loader(self, data: Served) -> DataLoader:
        """A split, each sample exactly once over all ranks, those of like length together."""
        ranks = self._place()
        order = np.argsort(-data.samples.lengths, kind="stable")
        sampler = EvalBatches(
            len(data), batch_size=self.eval_batch_size, rank=ranks.rank, world=ranks.world, order=order
        )
        return self._loader(data, sampler, self._bytes(data))

    def _eval_loaders(self, splits: Sequence[str]) -> list[DataLoader]:
        """One loader a split; where a view stands beside that of the task, and all splits have its samples, two."""
        if not splits:
            return []
        self._set(splits[0])
        beside = all(split in self._beside for split in splits)
        sets = [[self._sets[split], *([self._beside[split]] if beside else [])] for split in splits]
        return [self._eval_loader(data) for both in sets for data in both]

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The validation split; with `watch_test` a list of it and the test split; without either an empty list.

        Of a view that has another beside it, a list of the samples of both.
        """
        self.prepare()
        names = [n for n in (("val", "test") if self.watch_test else ("val",)) if self.counts[n]]
        loaders = self._eval_loaders(names)
        return loaders[0] if names == ["val"] and not hasattr(self.view, "beside") else loaders

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """The test split, each sample exactly once over all ranks; a list as `val_dataloader` gives."""
        self.prepare()
        loaders = self._eval_loaders(["test"] if self.counts["test"] else [])
        return loaders[0] if loaders and not hasattr(self.view, "beside") else loaders

    def in_order(self, split: str, rows: np.ndarray) -> DataLoader:
        """Some labelled images of any split, in this order, as evaluation sees them: for features."""
        self.prepare()
        table = self._labelled[split].table
        plain = {**table, "image": table["image"].seen_by(self.eval_transform)}
        data = Served(LabelledImages().encode(plain, None, length=None, train=False), seed=self.seed)
        sampler = EvalBatches(len(rows), batch_size=self.eval_batch_size)
        sampler.shard = rows
        return self._loader(data, sampler, self._bytes(data))

    def files_dataloader(self, paths: Sequence[str | Path], *, mark_bad: bool = False) -> DataLoader:
        """Evaluation batches of a user's images, in order, already normalised; labels are -1. Needs no `prepare`.

        Args:
            paths: the files.
            mark_bad: keep the places of unusable files (`tfcli.data.images.imageset.FileSet`); else as `on_error` says.
        """
        files = [Path(p) for p in paths]
        ranks = self._place()
        store = Store.of_files(files, resize=self.kept)
        skip = self.policy.on_error == "skip"
        images = Images(store, np.arange(len(files)), transform=self.eval_transform, skip=skip)
        sampler = EvalBatches(len(files), batch_size=self.eval_batch_size, rank=ranks.rank, world=ranks.world)
        collate = partial(normalised, mean=self.mean, std=self.std)
        return self._loader(FileSet(images, mark_bad=mark_bad), sampler, 3 * self.image_size**2, collate)

    # ---- on the device

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Images to normalised floats, mixed where asked for; counts files skipped at first touch."""
        if "image" not in batch:
            return batch
        bad, mix_seed = batch.pop("bad", None), batch.pop("mix", None)
        if bad:
            self._skipped(bad)
        image = normalise(batch["image"], self.mean, self.std)
        if mix_seed is not None and len(image) > 1:
            mix = Mix(self.augment, num_classes=self.num_classes)
            image, batch["target"] = mix(image, batch["label"], seed=mix_seed)
        batch["image"] = image
        return batch

    def blank(self, size: int) -> dict[str, Tensor]:
        """A training batch in the right shapes, as a task gets it: for measuring. Leaves the RNG alone."""
        return self.on_after_batch_transfer(self._set("train").samples.blank(size, seed=0), 0)

    def _skipped(self, bad: list[tuple[str, str]]) -> None:
        known = {path for path, _ in self.bad_files}
        new = [(path, reason) for path, reason in bad if path not in known]
        self.bad_files.extend(new)
        if self.on_skip and new:
            self.on_skip(new)
        if self.counts:
            self.policy.check(self.bad_files, total=sum(self.counts.values()))
