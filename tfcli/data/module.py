"""The data module, which serves any source through any view; its batches do not depend on loader processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from tfcli.data.common.loader import Batches, Served, batch_loader, identity
from tfcli.data.common.order import BucketBatches, EvalBatches, TrainBatches
from tfcli.data.common.rows import Columns
from tfcli.data.common.splitnames import SPLITS
from tfcli.data.common.workers import Ranks
from tfcli.data.images.cache import Store
from tfcli.data.images.imageset import FileSet, Images, normalised
from tfcli.data.images.pictures import PICTURES
from tfcli.data.images.transforms import normalise
from tfcli.data.prepared import PreparedData
from tfcli.data.views.labelled import LabelledImages
from tfcli.data.views.view import View
from tfcli.errors import ConfigError, DataError


class DataModule(PreparedData):
    """A data set that is loaded, checked, split and encoded once, and served in batches that are functions of the seed.

    A source loads tables of named columns, and a view turns their rows into samples. `serve` sets the view before
    `prepare`; `encode` then makes the samples before the first loader. See `PreparedData` for the arguments.
    """

    _sets: Mapping[str, Served] = MappingProxyType({})
    _beside: Mapping[str, Served] = MappingProxyType({})

    # ---- laying out samples

    def encode(self, tokenizer: Any = None, *, longest: int | None = None) -> None:
        """Make the samples of all splits with the view; afterwards `counts` are numbers of samples.

        Args:
            tokenizer: the model's tokenizer, where it reads text.
            longest: largest number of tokens that the model can read; None means no limit.

        Raises:
            ConfigError: `max_length` is larger than `longest`.
            DataError: a sequence is too long and must not be truncated.
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
        self._sets = {split: self._laid_out(self.view, rows, split, length) for split, rows in self.rows.items()}
        beside = getattr(self.view, "beside", None)
        if beside is not None:
            self._beside = {split: self._laid_out(beside, rows, split, length) for split, rows in self.beside.items()}
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

    def samples(self, split: str) -> Any:
        """Return the samples of a split, as the view has laid them out (`tfcli.data.common.loader.Samples`)."""
        return self._set(split).samples

    # ---- loaders

    def batches(self, world: int) -> int:
        """Return the number of training batches in an epoch on each of `world` ranks."""
        return len(self._train_batches(Ranks(0, world)))

    def _train_batches(self, ranks: Ranks, **start: int) -> TrainBatches | BucketBatches:
        data = self._set("train")
        where: dict[str, Any] = {"seed": self.seed, "rank": ranks.rank, "world": ranks.world, **start}
        if self.batch_tokens:
            return BucketBatches(data.samples.lengths, tokens=self.batch_tokens, **where)
        where |= {"bucket": self.bucket, "lengths": data.samples.lengths}
        where |= {"equal_tokens": getattr(data.samples, "token_mean", False)}
        return TrainBatches(len(data), batch_size=self.batch_size, repeats=self.augment.repeats, **where)

    def train_dataloader(self) -> DataLoader:
        """Return a loader of shuffled training batches from (`start_epoch`, `start_batch`) on."""
        sampler = self._train_batches(self.ranks, start_epoch=self.start_epoch, start_batch=self.start_batch)
        return self._loader(self._set("train"), sampler, self._bytes(self._set("train")))

    def _bytes(self, data: Served) -> int:
        """Return the size in bytes of a sample that passes between processes."""
        own = getattr(data.samples, "bytes_each", None)  # samples with several images state their own size
        if own is not None:
            return own
        return 8 * int(data.samples.lengths.max(initial=1)) + 3 * self.image_size**2 * ("image" in self.columns)

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
        """Return a loader of a split with every sample exactly once over all ranks, sorted by length."""
        order = np.argsort(-data.samples.lengths, kind="stable")
        sampler = EvalBatches(
            len(data), batch_size=self.eval_batch_size, rank=self.ranks.rank, world=self.ranks.world, order=order
        )
        return self._loader(data, sampler, self._bytes(data))

    def _eval_loaders(self, splits: Sequence[str]) -> list[DataLoader]:
        """Return one loader per split, or two where all splits also have samples of the view's `beside`."""
        if not splits:
            return []
        self._set(splits[0])
        beside = all(split in self._beside for split in splits)
        sets = [[self._sets[split], *([self._beside[split]] if beside else [])] for split in splits]
        return [self._eval_loader(data) for both in sets for data in both]

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return the loader of the validation split.

        With `watch_test`, or for a view that has another view `beside` it, this is a list of the loaders of all splits
        and views. Without any samples to evaluate it is an empty list.
        """
        self.prepare()
        names = [n for n in (("val", "test") if self.watch_test else ("val",)) if self.counts[n]]
        loaders = self._eval_loaders(names)
        return loaders[0] if names == ["val"] and not hasattr(self.view, "beside") else loaders

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return the loader of the test split, or a list of loaders as in `val_dataloader`."""
        self.prepare()
        loaders = self._eval_loaders(["test"] if self.counts["test"] else [])
        return loaders[0] if loaders and not hasattr(self.view, "beside") else loaders

    def in_order(self, split: str, rows: np.ndarray) -> DataLoader:
        """Return a loader of some labelled images of a split in the given order, with the transform of evaluation."""
        self.prepare()
        table = self.labelled[split]
        plain = {**table, "image": table["image"].with_transform(self.eval_transform)}
        data = Served(LabelledImages().encode(plain, None, length=None, train=False), seed=self.seed)
        sampler = EvalBatches(len(rows), batch_size=self.eval_batch_size)
        sampler.shard = rows
        return self._loader(data, sampler, self._bytes(data))

    def files_dataloader(self, paths: Sequence[str | Path], *, mark_bad: bool = False) -> DataLoader:
        """Return a loader of a user's images in order, already normalised, with labels -1. Needs no `prepare`.

        Args:
            paths: the files.
            mark_bad: keep unreadable files as black images (see `tfcli.data.images.imageset.FileSet`); otherwise they
                are treated by `on_error`.
        """
        files, ranks = [Path(p) for p in paths], self.ranks
        store = Store.of_files(files, resize=self.kept)
        skip = self.policy.on_error == "skip"
        images = Images(store, np.arange(len(files)), transform=self.eval_transform, skip=skip)
        sampler = EvalBatches(len(files), batch_size=self.eval_batch_size, rank=ranks.rank, world=ranks.world)
        collate = partial(normalised, mean=self.mean, std=self.std)
        return self._loader(FileSet(images, mark_bad=mark_bad), sampler, 3 * self.image_size**2, collate)

    # ---- on the device

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Normalise images to floats, apply MixUp or CutMix, and count files that were skipped while reading."""
        bad, mix_seed = batch.pop("bad", None), batch.pop("mix", None)
        if bad:
            self._skipped(bad)
        for name in [name for name in PICTURES if name in batch]:
            batch[name] = normalise(batch[name], self.mean, self.std)
        if "crops" in batch:
            batch["crops"] = [normalise(crop, self.mean, self.std) for crop in batch["crops"]]
        if mix_seed is not None and len(batch["image"]) > 1:
            from tfcli.data.images.mixing import Mix  # it imports torchvision

            mix = Mix(self.augment, num_classes=self.num_classes)
            batch["image"], batch["target"] = mix(batch["image"], batch["label"], seed=mix_seed)
        return batch

    def blank(self, size: int) -> dict[str, Tensor]:
        """Return a training batch of the right shapes for measuring, without changing torch's random state."""
        return self.on_after_batch_transfer(self._set("train").samples.blank(size, seed=0), 0)

    def _skipped(self, bad: list[tuple[str, str]]) -> None:
        known = {path for path, _ in self.bad_files}
        new = [(path, reason) for path, reason in bad if path not in known]
        self.bad_files.extend(new)
        if self.on_skip and new:
            self.on_skip(new)
        if self.counts:
            self.policy.check(self.bad_files, total=sum(self.counts.values()))
