"""The data module of images with labels or captions: any source, any rank, any worker, the same batches."""

from __future__ import annotations

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
from tfcli.data.columns.checks import (
    check_captions,
    check_classes,
    check_labels,
    like_notes,
    subset_notes,
    untrained_notes,
)
from tfcli.data.columns.items import Items, Loaded, Source
from tfcli.data.common.facts import Facts
from tfcli.data.common.loader import Batches, batch_loader, identity
from tfcli.data.common.order import Address, EvalBatches, TrainBatches
from tfcli.data.common.paths import data_root
from tfcli.data.common.request import Request
from tfcli.data.common.workers import Ranks
from tfcli.data.images.assembly import Recipe, Split, assemble
from tfcli.data.images.cache import Policy, Store
from tfcli.data.images.imageset import FileSet, ImageSet, normalised
from tfcli.data.images.pairs import Encoder, PairSet, cut_note
from tfcli.data.images.preview import spread
from tfcli.data.images.resize import Fit
from tfcli.data.images.transforms import Augment, EvalTransform, Mix, TrainTransform, normalise
from tfcli.errors import ConfigError, DataError, nearest

SPLITS = ("train", "val", "test")


class ImageData(pl.LightningDataModule):
    """Images with labels or captions: found, checked, split, decoded once, and served in addressed batches.

    Splits are the set's own. A missing validation split is set aside from train (`val_fraction`), a missing test split
    from the whole (`test_fraction`), both stratified and seeded by `split_seed`; validation never comes from test.
    Images stay uint8 until they are on the device.

    Captioned (`captioned` set before `prepare`, or a set without labels), counts and training batches are of images
    with captions (`tfcli.data.images.pairs`), and evaluation has two loaders a split: the pairs, then the labelled
    samples where the set has them too, for zero-shot figures. They need a `tokenizer`, set before the first loader.

    Args:
        source: finds and reads the set (`tfcli.data.columns.items.Source`).
        name: of the set; also its folder below a folder of roots.
        num_classes: how many classes there must be; None takes what the data say.
        image_size: side of the square that models get, in pixels.
        mean, std: of each channel, of pixels in 0..1.
        root: the set's own root or a folder of roots; None: $TFCLI_DATA, else `data` in the user's cache folder.
        batch_size, eval_batch_size: samples a rank; evaluation's is twice training's by default.
        workers: loader processes, or `auto`.
        cache: `memory`, `disk`, `none` or `auto` (see `tfcli.data.images.cache`).
        download: fetch the set when it is missing; never under TFCLI_OFFLINE=1.
        verify: let torchvision check its checksums.
        on_error, max_bad_fraction: what to do about unusable image files: `raise`, or `skip` up to a share of them.
        val_fraction, test_fraction: shares that splits set aside take.
        split_seed: of splits set aside and limits.
        seed: of the order and the augmentation.
        limit_train, limit_val, limit_test: at most so many samples, stratified; None: all.
        watch_test: give the test split beside the validation split in each epoch; for curves, never for choices.
        baseline: the engine prints a logistic regression on pixels beside the result.
        augment: keywords of `tfcli.data.images.transforms.Augment`.
        eval_crop, resize, interpolation, resizer, fill: how evaluation brings images to size:
            `tfcli.data.images.resize.Fit`.
        decode_size: shorter side kept after decoding, in pixels; None: as evaluation resizes, where that keeps the
            proportions. All cache modes keep the same, so that they change the speed and nothing else.
        facts: what else the config says about the set, for sources, messages and tables.

    Attributes:
        start_epoch, start_batch: where the first training epoch begins; set by the engine before `fit` on resume.
        captioned, tokenizer: serve images with captions, in these tokens; set by the engine.
        on_skip: called with unusable files that are met only while reading, and why; set by the engine.
        ranks: this process and how many there are; from the environment until a trainer is attached.
        classes, num_classes, counts, fingerprint, bad_files, notes: known after `prepare`.
        fingerprints: likewise, one for each split alone.
    """

    name: str
    allow_zero_length_dataloader_with_multiple_devices = True  # exact shards: a rank may have nothing to evaluate

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        num_classes: Count | None = None,
        image_size: Count = 224,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225),
        root: str | Path | None = None,
        batch_size: Count = 64,
        eval_batch_size: Count | None = None,
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
        watch_test: bool = False,
        baseline: bool = False,
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
        self.source, self.name, self.given_classes = source, name, num_classes
        self.image_size, self.mean, self.std = image_size, tuple(mean), tuple(std)
        self.root = data_root(root)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or 2 * batch_size
        self.workers, self.cache = workers, cache
        self.download, self.verify = download, verify
        self.policy = Policy(on_error=on_error, max_bad_fraction=max_bad_fraction)
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed, self.seed = split_seed, seed
        self.limits = {"train": limit_train, "val": limit_val, "test": limit_test}
        self.watch_test, self.baseline, self.facts = watch_test, baseline, dict[str, Any](facts)
        self.augment = Augment(**(augment or {}))
        fit = Fit(image_size, eval_crop, resize, interpolation, resizer, tuple(fill))
        self.kept = replace(fit.step, side=decode_size, rule="shorter") if decode_size else fit.step
        colour, noise = ([255 * value for value in values] for values in (self.mean, self.std))
        self.eval_transform = EvalTransform(fit)
        self.train_transform = TrainTransform(fit, augment=self.augment, fill=colour, noise=noise)
        self.start_epoch, self.start_batch = 0, 0
        self.ranks = Ranks.from_environment()
        self.classes: list[str] = []
        self.counts: dict[str, int] = {}
        self.fingerprint = ""
        self.fingerprints: dict[str, str] = {}
        self._items: dict[str, tuple[Items, np.ndarray]] = {}
        self.notes: list[str] = []
        self.bad_files: list[tuple[str, str]] = []
        self.on_skip: Callable[[list[tuple[str, str]]], object] | None = None
        self.captioned = False
        self.mixes = bool(self.augment.mixup or self.augment.cutmix)
        self._tokenizer: Encoder | None = None
        self._sets: dict[str, ImageSet] = {}
        self._pairs: dict[str, Split] = {}

    # ---- finding and checking

    @property
    def num_classes(self) -> int:
        return len(self.classes) if self.classes else (self.given_classes or 0)

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
            test_fraction=self.test_fraction,
            facts=self.facts,
        )

    def prepare(self) -> None:
        """Find, check, split and (by the cache's mode) decode the set. Once; a second call does nothing.

        Raises:
            ConfigError: MixUp, CutMix or copies of images with captions.
            DataError: the set is missing, unusable or not what the config says.
            PolicyStop: more unusable files than `max_bad_fraction`.
        """
        if self.counts:
            return
        loaded = self.source.load(self.request)
        self.captioned = self.captioned or not loaded.splits  # a set of captions alone serves nothing else
        self.classes, notes = list(loaded.classes), list(loaded.notes)
        notes.extend(subset_notes(self.name, loaded, self.facts.get("counts")))
        if loaded.splits:
            check_classes(self.name, self.classes, self.given_classes)
            check_labels(self.name, loaded)
            labelled = self._assembled(loaded, notes)
            self._sets = {split: s.images for split, s in labelled.items()}
            self._items = {split: (s.items, s.positions) for split, s in labelled.items()}
            notes += like_notes(self.name, [] if self.given_classes else self.classes)
            if "train" in self._sets:
                notes += untrained_notes(self.name, self.classes, self._sets["train"].labels)
        if self.captioned:
            if self.mixes:
                raise ConfigError("data.augment.mixup and .cutmix cannot mix captions. Set both to 0.")
            if self.augment.repeats > 1:
                raise ConfigError(
                    "data.augment.repeats: repeated augmentation does not work with a contrastive loss: copies of "
                    "one image would count as negatives. Set it to 1."
                )
            check_captions(self.name, loaded)
            self._pairs = self._assembled(loaded.captioned(), notes)
        sets = {s: p.images for s, p in self._pairs.items()} if self.captioned else self._sets
        counts = {split: len(sets[split]) if split in sets else 0 for split in SPLITS}
        if not counts["train"]:
            raise DataError(
                f"{self.name}: no image is left to train on. Look at data.limit_train and the set's folder."
            )
        self.counts, self.notes = counts, notes + self.notes

    def _assembled(self, loaded: Loaded, notes: list[str]) -> dict[str, Split]:
        recipe = Recipe(
            name=self.name,
            val_fraction=self.val_fraction,
            split_seed=self.split_seed,
            limits=self.limits,
            resize=self.kept,
            cache=self.cache,
            policy=self.policy,
            ranks=self.ranks,
            train=self.train_transform,
            evaluation=self.eval_transform,
            seed=self.seed,
            mixes=self.mixes,
        )
        done = assemble(loaded, recipe)
        self.bad_files.extend(done.bad)
        notes.extend(done.notes)
        # With both kinds: of the run all, of a split alone its labelled samples, which frozen features are made of.
        whole = (self.fingerprint + done.fingerprint).encode()
        self.fingerprint = sha256(whole).hexdigest() if self.fingerprint else done.fingerprint
        self.fingerprints = done.fingerprints | self.fingerprints
        return done.splits

    @property
    def tokenizer(self) -> Encoder | None:
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Encoder) -> None:
        self._tokenizer = tokenizer
        self.notes.extend(cut_note(self.name, self.texts("train"), tokenizer))

    def texts(self, split: str) -> list[str]:
        """All captions of a split, image by image: what a vocabulary is made from.

        Raises:
            DataError: it has no captions.
        """
        self.prepare()
        if split not in self._pairs:
            raise DataError(f"{self.name} has no captions of a split `{split}`, or they were not asked for.")
        return [text for own in self._pairs[split].texts() for text in own]

    def arrays(self, split: str, *, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, Y, X, 3) uint8 as evaluation sees them, and labels (N,): for baselines on small sets."""
        self.prepare()
        data = self._sets[split]
        rows = np.arange(len(data) if limit is None else min(limit, len(data)))
        chunks = [data.plain(rows[i : i + 512], self.eval_transform) for i in range(0, len(rows), 512)]
        return torch.cat(chunks).permute(0, 2, 3, 1).numpy(), data.labels[rows]

    def samples(self, split: str, count: int, *, augmented: bool = False) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Return some images (N, Y, X, 3) uint8 of a split, classes in turn, their class names and row numbers.

        Captioned, evenly drawn images with their first captions.

        Raises:
            DataError: there is no such split.
        """
        self.prepare()
        if not self.counts.get(split):
            found = ", ".join(name for name, number in self.counts.items() if number)
            raise DataError(f"{self.name} has no split `{split}`, only {found}.{nearest(split, SPLITS)}")
        if self.captioned:
            data = self._pairs[split].images
            rows = np.unique(np.linspace(0, len(data) - 1, count).astype(np.int64))
            names = [own[0] for own in self._pairs[split].texts(rows)]
        else:
            data = self._sets[split]
            rows = spread(data.labels, count)
            names = [self.classes[label] for label in data.labels[rows]]
        if augmented:
            image = data[Address(0, 0, rows)]["image"]
        else:
            image = data.plain(rows, self.eval_transform)
        return image.permute(0, 2, 3, 1).numpy(), names, rows

    # ---- loaders

    unit = counted = "images"

    def batches(self, world: int) -> int:
        """Training batches of an epoch, on each of so many ranks."""
        return -(-self.counts["train"] // (self.batch_size * world))

    def setup(self, stage: str | None = None) -> None:
        self.prepare()

    def _place(self) -> Ranks:
        if self.trainer is not None:
            self.ranks = Ranks(self.trainer.global_rank, self.trainer.world_size)
        return self.ranks

    def _loader(
        self, data: Batches, sampler: TrainBatches | EvalBatches, collate: Callable[[Any], Any] = identity
    ) -> DataLoader:
        size = 3 * self.image_size**2 * sampler.batch_size
        loader, note = batch_loader(
            data, sampler, workers=self.workers, ranks=self.ranks, bytes_a_batch=size, collate=collate
        )
        if note and note not in self.notes:
            self.notes.append(note)
        return loader

    def train_dataloader(self) -> DataLoader:
        """Shuffled training batches, from (`start_epoch`, `start_batch`) on."""
        self.prepare()
        ranks = self._place()
        data = self._pair_set("train") if self.captioned else self._sets["train"]
        sampler = TrainBatches(
            len(data),
            batch_size=self.batch_size,
            seed=self.seed,
            repeats=self.augment.repeats,
            rank=ranks.rank,
            world=ranks.world,
            start_epoch=self.start_epoch,
            start_batch=self.start_batch,
        )
        return self._loader(data, sampler)

    def _pair_set(self, split: str) -> PairSet:
        if self._tokenizer is None:
            raise ValueError("`tokenizer` must be set before captions are served.")
        return PairSet(self._pairs[split], tokenizer=self._tokenizer, seed=self.seed, train=split == "train")

    def _eval_loader(self, data: Batches) -> DataLoader:
        ranks = self._place()
        sampler = EvalBatches(len(data), batch_size=self.eval_batch_size, rank=ranks.rank, world=ranks.world)
        return self._loader(data, sampler)

    def in_order(self, split: str, rows: np.ndarray) -> DataLoader:
        """Some samples of any split, in this order, as evaluation sees them: for features, also of training images."""
        self.prepare()
        data = self._sets[split]
        skip = self.policy.on_error == "skip"
        plain = ImageSet(data.pixels, data.rows, data.labels, transform=self.eval_transform, seed=self.seed, skip=skip)
        sampler = EvalBatches(len(rows), batch_size=self.eval_batch_size)
        sampler.shard = rows
        return self._loader(plain, sampler)

    def labels(self, split: str) -> np.ndarray:
        """The labels (N,) of a split, in its own order; empty where it has none."""
        self.prepare()
        return self._sets[split].labels if split in self._sets else np.empty(0, np.int64)

    def sources(self, split: str) -> list[str]:
        """Return the origin of each sample of a split, in order: its file below the set's folder, or its number."""
        self.prepare()
        items, positions = self._items[split]
        if items.files is None:
            return [str(i) for i in positions]
        return ["/".join(items.files[i].parts[-2:]) for i in positions]

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The validation split; with `watch_test` a list of it and the test split; without either an empty list.

        Captioned, a list of the pairs and the labelled samples of each.
        """
        self.prepare()
        names = [n for n in (("val", "test") if self.watch_test else ("val",)) if self.counts[n]]
        loaders = self._eval_loaders(names)
        return loaders[0] if names == ["val"] and not self.captioned else loaders

    def _eval_loaders(self, splits: Sequence[str]) -> list[DataLoader]:
        """One loader a split; captioned, one, or with labels in all of them two."""
        if not self.captioned:
            return [self._eval_loader(self._sets[split]) for split in splits]
        labelled = all(split in self._sets for split in splits)
        kinds: list[list[Batches]] = [
            [self._pair_set(split), *([self._sets[split]] if labelled else [])] for split in splits
        ]
        return [self._eval_loader(data) for kind in kinds for data in kind]

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """The test split, each sample exactly once over all ranks; captioned, the pairs and the labelled samples."""
        self.prepare()
        loaders = self._eval_loaders(["test"] if self.counts["test"] else [])
        return loaders[0] if loaders and not self.captioned else loaders

    def files_dataloader(self, paths: Sequence[str | Path], *, mark_bad: bool = False) -> DataLoader:
        """Evaluation batches of a user's files, in order, already normalised; labels are -1. Needs no `prepare`.

        Args:
            paths: the files.
            mark_bad: keep the places of unusable files (`tfcli.data.images.imageset.FileSet`); else as `on_error` says.
        """
        files = [Path(p) for p in paths]
        ranks = self._place()
        store = Store.of_files(files, resize=self.kept)
        labels = np.full(len(files), -1, dtype=np.int64)
        data = (FileSet if mark_bad else ImageSet)(
            store,
            np.arange(len(files)),
            labels,
            transform=self.eval_transform,
            seed=self.seed,
            skip=self.policy.on_error == "skip",
        )
        sampler = EvalBatches(len(files), batch_size=self.eval_batch_size, rank=ranks.rank, world=ranks.world)
        return self._loader(data, sampler, partial(normalised, mean=self.mean, std=self.std))

    # ---- on the device

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """To normalised floats; mixes a training batch where asked for; counts files skipped at first touch."""
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
        """A training batch of noise in the right shapes, as a task gets it: for measuring. Leaves the RNG alone."""
        source = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (size, 3, self.image_size, self.image_size), generator=source, dtype=torch.uint8)
        batch: dict[str, Any] = {"image": pixels, "index": torch.arange(size)}
        if self.captioned:
            self.prepare()
            texts = self._pairs["train"].texts(np.arange(size) % self.counts["train"])
            assert self._tokenizer is not None
            batch["tokens"] = torch.from_numpy(self._tokenizer.encode([own[0] for own in texts], truncate=True))
        else:
            batch["label"] = torch.randint(0, max(1, self.num_classes), (size,), generator=source)
        if self.mixes:
            batch["mix"] = 0
        return self.on_after_batch_transfer(batch, 0)

    def _skipped(self, bad: list[tuple[str, str]]) -> None:
        known = {path for path, _ in self.bad_files}
        new = [(path, reason) for path, reason in bad if path not in known]
        self.bad_files.extend(new)
        if self.on_skip and new:
            self.on_skip(new)
        if self.counts:
            self.policy.check(self.bad_files, total=sum(self.counts.values()))
