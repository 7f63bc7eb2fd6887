"""The data module of images with labels: any source, any rank, any worker, the same batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tfcli.data.cache import Policy, Store, store_files
from tfcli.data.checks import check_classes, check_labels, fingerprint, subset_notes
from tfcli.data.imageset import BatchLoader, ImageSet, identity, normalised
from tfcli.data.items import Items, Loaded, Request, Source
from tfcli.data.order import Address, EvalBatches, TrainBatches
from tfcli.data.places import data_root
from tfcli.data.preview import spread
from tfcli.data.splits import Rows, carve
from tfcli.data.transforms import Augment, EvalTransform, Mix, TrainTransform, normalise
from tfcli.data.workers import Ranks, choose_workers
from tfcli.errors import ConfigError, DataError, nearest

SPLITS = ("train", "val", "test")


class ImageData(pl.LightningDataModule):
    """Images and labels of one set: found, checked, split, decoded once, and served in addressed batches.

    Splits are the set's own. A missing validation split is carved from train (`val_fraction`), a missing test split
    from the whole (`test_fraction`), both stratified and seeded by `split_seed`; validation never comes from test.
    Images stay uint8 until they are on the device.

    Args:
        source: finds and reads the set (`tfcli.data.items.Source`).
        name: of the set; also its folder below a folder of roots.
        num_classes: how many classes there must be; None takes what the data say.
        image_size: side of the square that models get, in pixels.
        mean, std: of each channel, of pixels in 0..1.
        root: the set's own root or a folder of roots; None: $TFCLI_DATA, else `data` in the user's cache folder.
        batch_size, eval_batch_size: samples a rank; evaluation's is twice training's by default.
        workers: loader processes, or `auto`.
        cache: `memory`, `disk`, `none` or `auto` (see `tfcli.data.cache`).
        download: fetch the set when it is missing; never under TFCLI_OFFLINE=1.
        verify: let torchvision check its checksums.
        on_error, max_bad_fraction: what to do about unusable image files: `raise`, or `skip` up to a share of them.
        val_fraction, test_fraction: shares that carved splits take.
        split_seed: of carved splits and limits.
        seed: of the order and the augmentation.
        limit_train, limit_val, limit_test: at most so many samples, stratified; None: all.
        watch_test: give the test split beside the validation split in each epoch; for curves, never for choices.
        baseline: the engine prints a logistic regression on pixels beside the result.
        augment: keywords of `tfcli.data.transforms.Augment`.
        eval_crop: as in `EvalTransform`.
        decode_size: shorter side kept after decoding, in pixels; None: `image_size / eval_crop`. All cache modes keep
            the same, so that they change the speed and nothing else.
        interpolation: bilinear or bicubic.
        facts: what else the config says about the set (licence, url, kinds, ...), for messages and tables.

    Attributes:
        start_epoch, start_batch: where the first training epoch begins; set by the engine before `fit` on resume.
        ranks: this process and how many there are; from the environment until a trainer is attached.
        classes, num_classes, counts, fingerprint, bad_files, notes: known after `prepare`.
    """

    name: str
    allow_zero_length_dataloader_with_multiple_devices = True  # exact shards: a rank may have nothing to evaluate

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        num_classes: int | None = None,
        image_size: int = 224,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        root: str | Path | None = None,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        workers: int | str = "auto",
        cache: str = "auto",
        download: bool = True,
        verify: bool = True,
        on_error: str = "raise",
        max_bad_fraction: float = 0.01,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        seed: int = 0,
        limit_train: int | None = None,
        limit_val: int | None = None,
        limit_test: int | None = None,
        watch_test: bool = False,
        baseline: bool = False,
        augment: dict[str, Any] | None = None,
        eval_crop: float = 0.875,
        decode_size: int | None = None,
        interpolation: str = "bilinear",
        **facts: Any,
    ):
        super().__init__()
        for key, value, choices in (
            ("cache", cache, ("auto", "memory", "disk", "none")),
            ("on_error", on_error, ("raise", "skip")),
            ("interpolation", interpolation, ("bilinear", "bicubic")),
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
        self.watch_test, self.baseline, self.facts = watch_test, baseline, facts
        self.augment = Augment(**(augment or {}))
        self.decode_size = decode_size or round(image_size / eval_crop)
        fill = [255 * m for m in self.mean]
        self.eval_transform = EvalTransform(image_size, crop=eval_crop, interpolation=interpolation)
        self.train_transform = TrainTransform(
            image_size, augment=self.augment, eval_crop=eval_crop, interpolation=interpolation, fill=fill
        )
        self.start_epoch, self.start_batch = 0, 0
        self.ranks = Ranks.from_environment()
        self.classes: list[str] = []
        self.counts: dict[str, int] = {}
        self.fingerprint = ""
        self.notes: list[str] = []
        self.bad_files: list[tuple[str, str]] = []
        self._sets: dict[str, ImageSet] = {}

    # ---- finding and checking

    @property
    def num_classes(self) -> int:
        return len(self.classes) if self.classes else (self.given_classes or 0)

    @property
    def request(self) -> Request:
        """What the source is asked for."""
        return Request(
            name=self.name,
            root=self.root,
            download=self.download,
            verify=self.verify,
            split_seed=self.split_seed,
            test_fraction=self.test_fraction,
            facts=self.facts,
        )

    def prepare(self) -> None:
        """Find, check, split and (by the cache's mode) decode the set. Once; a second call does nothing.

        Raises:
            DataError: the set is missing, unusable or not what the config says.
            PolicyStop: more unusable files than `max_bad_fraction`.
        """
        if self._sets:
            return
        loaded = self.source.load(self.request)
        self.classes, notes = list(loaded.classes), list(loaded.notes)
        check_classes(self.name, self.classes, self.given_classes)
        check_labels(self.name, loaded)
        notes.extend(subset_notes(self.name, loaded, self.facts.get("counts")))
        rows, said = carve(
            self.name, loaded, val_fraction=self.val_fraction, split_seed=self.split_seed, limits=self.limits
        )
        notes.extend(said)
        stores = self._stores(loaded, rows, notes)
        for split, (origin, positions) in rows.items():
            self._sets[split] = self._set(split, loaded.splits[origin], positions, stores.get(origin))
        self.counts = {split: len(self._sets[split]) if split in self._sets else 0 for split in SPLITS}
        if not self.counts["train"]:
            raise DataError(
                f"{self.name}: no image is left to train on. Look at data.limit_train and the set's folder."
            )
        self.fingerprint = fingerprint(self.name, self.classes, loaded, rows)
        self.notes = notes + self.notes

    def _stores(self, loaded: Loaded, rows: Rows, notes: list[str]) -> dict[str, tuple[np.ndarray, Store]]:
        """For each split of files: which of them are used, and their decoded images."""
        used: dict[str, np.ndarray] = {}
        for origin, positions in rows.values():
            if loaded.splits[origin].files is not None:
                used[origin] = np.union1d(used.get(origin, positions), positions)
        if not used:
            return {}
        files = {origin: loaded.splits[origin].picked(chosen).files or [] for origin, chosen in used.items()}
        stores, bad, said = store_files(
            files, name=self.name, side=self.decode_size, mode=self.cache, policy=self.policy, ranks=self.ranks
        )
        self.bad_files.extend(bad)
        notes.extend(said)
        return {origin: (used[origin], stores[origin]) for origin in used}

    def _set(
        self, split: str, items: Items, positions: np.ndarray, decoded: tuple[np.ndarray, Store] | None
    ) -> ImageSet:
        pixels: Any = items.pixels
        rows = positions
        if decoded is not None:
            used, pixels = decoded
            rows = np.searchsorted(used, positions)
            good = pixels.good[rows]
            positions, rows = positions[good], rows[good]
        return ImageSet(
            pixels,
            rows,
            items.labels[positions],
            transform=self.train_transform if split == "train" else self.eval_transform,
            seed=self.seed,
            mixes=split == "train" and bool(self.augment.mixup or self.augment.cutmix),
            skip=self.policy.on_error == "skip",
        )

    def arrays(self, split: str, *, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, Y, X, 3) uint8 as evaluation sees them, and labels (N,): for baselines on small sets."""
        self.prepare()
        data = self._sets[split]
        rows = np.arange(len(data) if limit is None else min(limit, len(data)))
        chunks = [data.plain(rows[i : i + 512], self.eval_transform) for i in range(0, len(rows), 512)]
        return torch.cat(chunks).permute(0, 2, 3, 1).numpy(), data.labels[rows]

    def samples(self, split: str, count: int, *, augmented: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Some images (N, Y, X, 3) uint8 of a split, classes in turn, and their labels; for looking at.

        Raises:
            DataError: there is no such split.
        """
        self.prepare()
        if split not in self._sets:
            raise DataError(
                f"{self.name} has no split `{split}`, only {', '.join(self._sets)}.{nearest(split, SPLITS)}"
            )
        data = self._sets[split]
        rows = spread(data.labels, count)
        if augmented:
            image = data[Address(0, 0, rows)]["image"]
        else:
            image = data.plain(rows, self.eval_transform)
        return image.permute(0, 2, 3, 1).numpy(), data.labels[rows]

    # ---- loaders

    def setup(self, stage: str | None = None) -> None:
        self.prepare()

    def _place(self) -> Ranks:
        if self.trainer is not None:
            self.ranks = Ranks(self.trainer.global_rank, self.trainer.world_size)
        return self.ranks

    def _loader(
        self, data: ImageSet, sampler: TrainBatches | EvalBatches, collate: Callable[[Any], Any] = identity
    ) -> DataLoader:
        bytes_a_batch = 3 * self.image_size**2 * sampler.batch_size
        count, note = choose_workers(
            self.workers, in_memory=data.in_memory, ranks=self.ranks, batches=len(sampler), bytes_a_batch=bytes_a_batch
        )
        if note and note not in self.notes:
            self.notes.append(note)
        return BatchLoader(
            data,
            batch_size=None,
            sampler=sampler,
            num_workers=count,
            persistent_workers=count > 0,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> DataLoader:
        """Shuffled training batches, from (`start_epoch`, `start_batch`) on."""
        self.prepare()
        ranks = self._place()
        data = self._sets["train"]
        sampler = TrainBatches(
            len(data),
            batch_size=self.batch_size,
            seed=self.seed,
            rank=ranks.rank,
            world=ranks.world,
            start_epoch=self.start_epoch,
            start_batch=self.start_batch,
        )
        return self._loader(data, sampler)

    def _eval_loader(self, split: str) -> DataLoader:
        ranks = self._place()
        data = self._sets[split]
        sampler = EvalBatches(len(data), batch_size=self.eval_batch_size, rank=ranks.rank, world=ranks.world)
        return self._loader(data, sampler)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The validation split; with `watch_test` a list of it and the test split; without either an empty list."""
        self.prepare()
        names = [n for n in (("val", "test") if self.watch_test else ("val",)) if self.counts[n]]
        loaders = [self._eval_loader(name) for name in names]
        return loaders[0] if names == ["val"] else loaders

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """The test split, each sample exactly once over all ranks."""
        self.prepare()
        return self._eval_loader("test") if self.counts["test"] else []

    def files_dataloader(self, paths: Sequence[str | Path]) -> DataLoader:
        """Evaluation batches of a user's files, in order, already normalised; labels are -1. Needs no `prepare`."""
        files = [Path(p) for p in paths]
        ranks = self._place()
        store = Store.of_files(files, side=self.decode_size)
        labels = np.full(len(files), -1, dtype=np.int64)
        data = ImageSet(
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
        label = torch.randint(0, max(1, self.num_classes), (size,), generator=source)
        batch: dict[str, Any] = {"image": pixels, "label": label, "index": torch.arange(size)}
        if self.augment.mixup or self.augment.cutmix:
            batch["mix"] = 0
        return self.on_after_batch_transfer(batch, 0)

    def _skipped(self, bad: list[tuple[str, str]]) -> None:
        known = {path for path, _ in self.bad_files}
        self.bad_files.extend((path, reason) for path, reason in bad if path not in known)
        if self.counts:
            self.policy.check(self.bad_files, total=sum(self.counts.values()))
