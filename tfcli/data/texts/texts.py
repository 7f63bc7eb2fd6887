"""The data module of texts: any source, any view of it, any rank, the same batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol, Unpack

import numpy as np
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tfcli.bounds import Count, Natural, Rate
from tfcli.data.columns.checks import check_classes, check_scores, like_notes, untrained_notes
from tfcli.data.columns.textitems import TextSource
from tfcli.data.common.facts import Facts
from tfcli.data.common.loader import batch_loader
from tfcli.data.common.order import Address, BucketBatches, EvalBatches, TrainBatches
from tfcli.data.common.paths import data_root
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, carved, height, limited
from tfcli.data.common.workers import Ranks
from tfcli.errors import ConfigError, DataError, nearest
from tfcli.text.subwords import Subwords

SPLITS = ("train", "val", "test")
TEXTS = ("text", "pair", "source", "target", "question", "context")
"""Columns of plain text: what a vocabulary is made from, besides lists of words and of choices."""


class Encoded(Protocol):
    """One split as numbers.

    Attributes:
        lengths: (N,) tokens of each sample, as they count for a batch.
        cut: how many were longer than they may be, and were cut.
    """

    lengths: np.ndarray
    cut: int

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Some samples, padded to the longest of them; whatever is drawn is addressed by (seed, epoch, row)."""
        ...


class View(Protocol):
    """Protocol of views: an objective's samples of rows of text (windows of a stream, masked sentences, pairs)."""

    unit: str

    def encode(self, rows: Columns, tokenizer: Subwords, *, length: int | None, train: bool) -> Encoded:
        """Rows as numbers.

        Args:
            rows: of one split.
            tokenizer: of the model.
            length: most tokens of a sample; None: there is no limit.
            train: whether the split is trained on.
        """
        ...


class TextSet(Dataset):
    """One split: `self[address]` is the batch that stands there, and under `amount` how many tokens it has."""

    in_memory = True

    def __init__(self, encoded: Encoded, *, seed: int):
        self.encoded, self.seed = encoded, seed

    def __len__(self) -> int:
        return len(self.encoded.lengths)

    def __getitem__(self, address: Address) -> dict[str, Any]:
        rows = np.asarray(address.indices)
        batch = self.encoded.batch(rows, seed=self.seed, epoch=address.epoch)
        return {**batch, "amount": int(self.encoded.lengths[rows].sum())}


class TextData(pl.LightningDataModule):
    """Texts found, split, cut into tokens once, and served in addressed batches.

    `view` (of the task) and `tokenizer` (of the model) must be set after `prepare` and before the first loader. Splits
    are the set's own; what is missing of validation and test is set aside, rows at random by `split_seed`, or of a few
    long documents their ends.

    Args:
        source: finds and reads the set (`tfcli.data.columns.textitems.TextSource`).
        name: of the set; also its folder below a folder of roots.
        kinds: the columns it has.
        num_classes: how many classes there must be; None takes what the data say.
        root: the set's own root or a folder of roots; None: $TFCLI_DATA, else `data` in the user's cache folder.
        batch_size, eval_batch_size: sequences a rank; evaluation's is twice training's by default.
        batch_tokens: most tokens in a training batch; sequences of like length are then batched together.
        max_length: longest sequence in tokens; None: what the model takes.
        truncate: cut longer ones and say how many; False: an error.
        workers: loader processes, or `auto`.
        download: fetch the set when it is missing; never under TFCLI_OFFLINE=1.
        val_fraction, test_fraction: shares that splits set aside take.
        split_seed: of splits set aside and limits.
        seed: of the order and of what a view draws.
        limit_train, limit_val, limit_test: at most so many rows; None: all.
        test_split: the split that is tested, where the set has several.
        watch_test: give the test split beside the validation split in each epoch; for curves, never for choices.
        baseline: the engine prints what a simple model of the same texts comes to beside the result.
        facts: what else the config says about the set, for sources, messages and tables.
    """

    allow_zero_length_dataloader_with_multiple_devices = True
    name: str
    captioned = False
    counted = "tokens"

    def __init__(
        self,
        source: TextSource,
        *,
        name: str,
        kinds: Sequence[str],
        num_classes: Count | None = None,
        root: str | Path | None = None,
        batch_size: Count = 64,
        batch_tokens: Count | None = None,
        eval_batch_size: Count | None = None,
        max_length: Count | None = None,
        truncate: bool = True,
        workers: Natural | Literal["auto"] = "auto",
        download: bool = True,
        val_fraction: Rate = 0.05,
        test_fraction: Rate = 0.05,
        split_seed: Natural = 0,
        seed: Natural = 0,
        limit_train: Count | None = None,
        limit_val: Natural | None = None,
        limit_test: Natural | None = None,
        test_split: str = "test",
        watch_test: bool = False,
        baseline: bool = True,
        **facts: Unpack[Facts],
    ):
        super().__init__()
        self.source, self.name, self.kinds, self.given_classes = source, name, tuple(kinds), num_classes
        self.root, self.download, self.workers, self.facts = data_root(root), download, workers, dict[str, Any](facts)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or 2 * batch_size
        self.batch_tokens, self.max_length, self.truncate = batch_tokens, max_length, truncate
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed, self.seed, self.test_split, self.watch_test = split_seed, seed, test_split, watch_test
        self.baseline = baseline
        self.limits = {"train": limit_train, "val": limit_val, "test": limit_test}
        self.start_epoch, self.start_batch = 0, 0
        self.ranks = Ranks.from_environment()
        self.classes: list[str] = []
        self.groups: list[str] = []
        self.counts: dict[str, int] = {}
        self.fingerprint, self.fingerprints = "", dict[str, str]()
        self.notes: list[str] = []
        self.bad_files: list[tuple[str, str]] = []
        self.on_skip: Callable[[list[tuple[str, str]]], object] | None = None
        self.rows: dict[str, Columns] = {}
        self.view: View | None = None
        self.tokenizer: Subwords | None = None
        self._sets: dict[str, TextSet] = {}

    # ---- finding and splitting

    @property
    def num_classes(self) -> int:
        return len(self.classes) or self.given_classes or 0

    @property
    def unit(self) -> str:
        """Name of one sample, for counts and rates."""
        return self.view.unit if self.view else "rows"

    @property
    def request(self) -> Request:
        """Return the request to the source."""
        facts = {**self.facts, "kinds": self.kinds}
        return Request(
            name=self.name, root=self.root, download=self.download, split_seed=self.split_seed,
            test_fraction=self.test_fraction, facts=facts,
        )  # fmt: skip

    def prepare(self) -> None:
        """Find, read and split the set. Once; a second call does nothing.

        Raises:
            DataError: the set is missing, cannot be read, or has not what the config says.
        """
        if self.counts:
            return
        loaded = self.source.load(self.request)
        self.classes, self.notes = list(loaded.classes), [*loaded.notes, *self.notes]
        self.groups = list(loaded.groups)
        if self.classes:
            check_classes(self.name, self.classes, self.given_classes)
            self.notes += like_notes(self.name, [] if self.given_classes else self.classes)
        splits = dict(loaded.splits)
        if self.test_split != "test" and self.test_split not in splits:
            further = [name for name in splits if name not in ("train", "val")]
            raise ConfigError(
                f"{self.name} has no split `{self.test_split}`.{nearest(self.test_split, further)} "
                f"There are {', '.join(further) or 'none besides train and val'}."
            )
        splits = {k: v for k, v in splits.items() if k in ("train", "val")} | (
            {"test": splits[self.test_split]} if self.test_split in splits else {}
        )
        for split, fraction in (("test", self.test_fraction), ("val", self.val_fraction)):
            if split not in splits and fraction:
                splits["train"], splits[split], note = carved(splits["train"], fraction, seed=self.split_seed, to=split)
                self.notes.append(
                    f"{self.name}: no {split} split of its own; {note} (data.{split}_fraction={fraction:g})"
                )
        self.rows = {s: limited(splits[s], self.limits[s], seed=self.split_seed) for s in SPLITS if s in splits}
        digests = {s: sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest() for s, rows in self.rows.items()}
        self.fingerprints = digests
        self.fingerprint = sha256(json.dumps([digests, self.classes]).encode()).hexdigest()
        self.counts = {split: height(self.rows.get(split, {})) for split in SPLITS}
        if not self.counts["train"]:
            raise DataError(f"{self.name}: no row is left to train on. Look at data.limit_train.")
        self._check_targets(self.rows["train"])

    def _check_targets(self, rows: Columns) -> None:
        """Refuse scores that teach nothing; note classes that no training row has."""
        if "score" in rows:
            check_scores(self.name, rows["score"])
        if "label" in rows and self.classes:
            self.notes += untrained_notes(self.name, self.classes, rows["label"])

    def labels(self, split: str) -> np.ndarray:
        """The labels (N,) of a split, in its own order; empty where it has none."""
        self.prepare()
        return np.array(self.rows.get(split, {}).get("label", []), np.int64)

    def texts(self, split: str) -> list[str]:
        """All texts of a split: what a vocabulary is made from."""
        self.prepare()
        found: list[str] = []
        for name, column in self.rows[split].items():
            if name in TEXTS:
                found += column
            elif name in ("words", "choices"):
                found += [" ".join(words) for words in column]
        return found

    def encode(self, view: View, tokenizer: Subwords, *, longest: int | None) -> None:
        """Cut all splits into tokens, as `view` wants them; `counts` are of its samples from now on.

        Args:
            view: of the task.
            tokenizer: of the model.
            longest: tokens that the model takes; None: any number.

        Raises:
            ConfigError: `max_length` is more than the model takes.
            DataError: a sequence is too long and may not be cut.
        """
        self.prepare()
        if self.max_length and longest and self.max_length > longest:
            raise ConfigError(
                f"`data.max_length` is {self.max_length}, but the model has positions for {longest} tokens "
                f"(model.context). Shorten the one or lengthen the other."
            )
        self.view, self.tokenizer = view, tokenizer
        length = self.max_length or longest
        for split, rows in self.rows.items():
            encoded = view.encode(rows, tokenizer, length=length, train=split == "train")
            if encoded.cut and not self.truncate:
                raise DataError(
                    f"{self.name}: {encoded.cut:,} {view.unit} of {split} are longer than {length} tokens, and "
                    "data.truncate=false forbids cutting them. Raise data.max_length (and model.context)."
                )
            if encoded.cut:
                self.notes.append(
                    f"{self.name}: {encoded.cut:,} of {len(encoded.lengths):,} {view.unit} of {split} are longer than "
                    f"{length} tokens and are cut (data.max_length, data.truncate)"
                )
            self._sets[split] = TextSet(encoded, seed=self.seed)
        self.counts = {split: len(self._sets[split]) if split in self._sets else 0 for split in SPLITS}

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
        data = self._sets["train"]
        where: dict[str, Any] = {"seed": self.seed, "rank": ranks.rank, "world": ranks.world, **start}
        if self.batch_tokens:
            return BucketBatches(data.encoded.lengths, tokens=self.batch_tokens, **where)
        return TrainBatches(len(data), batch_size=self.batch_size, **where)

    def train_dataloader(self) -> DataLoader:
        """Shuffled training batches, from (`start_epoch`, `start_batch`) on."""
        sampler = self._train_batches(self._place(), start_epoch=self.start_epoch, start_batch=self.start_batch)
        return self._loader(self._sets["train"], sampler)

    def _loader(self, data: TextSet, sampler: Any) -> DataLoader:
        size = 8 * int(data.encoded.lengths.max(initial=1)) * sampler.batch_size
        loader, note = batch_loader(data, sampler, workers=self.workers, ranks=self.ranks, bytes_a_batch=size)
        if note and note not in self.notes:
            self.notes.append(note)
        return loader

    def eval_dataloader(self, split: str) -> DataLoader:
        """A split, each sample exactly once over all ranks, those of like length together."""
        ranks, data = self._place(), self._sets[split]
        order = np.argsort(-data.encoded.lengths, kind="stable")
        sampler = EvalBatches(
            len(data), batch_size=self.eval_batch_size, rank=ranks.rank, world=ranks.world, order=order
        )
        return self._loader(data, sampler)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The validation split; with `watch_test` a list of it and the test split; without either an empty list."""
        names = [n for n in (("val", "test") if self.watch_test else ("val",)) if self.counts[n]]
        loaders = [self.eval_dataloader(name) for name in names]
        return loaders[0] if names == ["val"] else loaders

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """The test split."""
        return self.eval_dataloader("test") if self.counts["test"] else []

    def blank(self, size: int) -> dict[str, Tensor]:
        """A training batch in the right shapes: the longest samples."""
        encoded = self._sets["train"].encoded
        rows = np.argsort(-encoded.lengths, kind="stable")[:size]
        return encoded.batch(rows, seed=self.seed, epoch=0)
