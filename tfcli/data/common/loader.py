"""Datasets whose items are whole batches, and their loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tfcli.data.common.order import Address, EvalBatches, TrainBatches
from tfcli.data.common.workers import Ranks, choose_workers, outlive_signals
from tfcli.errors import DataError

MOST_AHEAD, AHEAD_BYTES = 16, 2**20


def identity(batch: Any) -> Any:
    """Return a batch unchanged: the collate function for items that are already batches."""
    return batch


class BatchLoader(DataLoader):
    """A DataLoader that raises the errors of loader processes in the main process.

    torch does so too, but it loses the arguments of the error, adds a traceback to its text, and then waits five
    seconds for each process (torch 2.15). Batches of a spare rank (see `EvalBatches`) get the entry `spare`.

    Without loader processes and pinned memory the batches are read directly.

    Attributes:
        ahead: number of batches to read at once.
    """

    ahead = 1

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names a private iterator class
        mark = {"spare": True} if getattr(self.sampler, "spare", False) else {}
        if self.num_workers or self.pin_memory:
            return (_raised(batch) | mark for batch in super().__iter__())
        return (_raised(self.collate_fn(batch)) | mark for batch in self._read(iter(self.sampler)))

    def _read(self, addresses: Iterator[Address]) -> Iterator[Any]:
        while some := list(islice(addresses, self.ahead)):
            yield from cast(Served, self.dataset).several(some) if len(some) > 1 else [self.dataset[some[0]]]


def _raised(batch: Any) -> Any:
    if "error" in batch:
        raise batch["error"]
    return batch


class Batches(Protocol):
    """Protocol of datasets whose items are whole batches, indexed by `Address`."""

    @property
    def in_memory(self) -> bool:
        """Return whether a batch needs no decoding."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, address: Address) -> dict[str, Any]: ...


class Samples(Protocol):
    """Protocol of the samples of one split, which a view makes.

    Attributes:
        lengths: (N,) size of each sample for batching: its number of tokens, or 1 for an image.
        cut: number of truncated samples.
        notes: messages for the user.
        counted: unit of the training speed, "tokens" or "images".
    """

    lengths: np.ndarray
    cut: int
    notes: list[str]
    counted: str

    @property
    def in_memory(self) -> bool:
        """Return whether a batch needs no decoding."""
        ...

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Any]:
        """Return a batch of some samples; random choices are functions of (seed, epoch, row).

        Samples of images also take `copies` (B,), the number of the copy where an epoch repeats a sample.
        """
        ...

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        """Return a training batch of the right shapes for measuring memory and speed, without decoding images."""
        ...


class Served(Dataset):
    """Dataset of one split: `self[address]` is a batch; batches of texts have their number of tokens as `amount`.

    Args:
        samples: the samples of the split.
        seed: seed of all random choices.
    """

    def __init__(self, samples: Samples, *, seed: int):
        self.samples, self.seed = samples, seed

    def __len__(self) -> int:
        return len(self.samples.lengths)

    @property
    def in_memory(self) -> bool:
        return self.samples.in_memory

    def __getitem__(self, address: Address) -> dict[str, Any]:
        try:
            return self._batch(address)
        except DataError as error:
            if get_worker_info() is None:
                raise
            return {"error": error}

    def several(self, addresses: list[Address]) -> list[dict[str, Any]]:
        """Return several batches of an epoch, at once where the samples can and an epoch repeats none."""
        first, together = addresses[0], getattr(self.samples, "batches", None)
        if together is None or first.copies is not None:
            return [self[address] for address in addresses]
        return together([address.indices for address in addresses], seed=self.seed, epoch=first.epoch)

    def _batch(self, address: Address) -> dict[str, Any]:
        rows = np.asarray(address.indices)
        copies: dict[str, Any] = {} if address.copies is None else {"copies": address.copies}
        batch = self.samples.batch(rows, seed=self.seed, epoch=address.epoch, **copies)
        return {**batch, "amount": int(self.samples.lengths[rows].sum())} if self.samples.counted == "tokens" else batch


def batch_loader(
    data: Batches,
    sampler: TrainBatches | EvalBatches,
    *,
    workers: int | str,
    ranks: Ranks,
    bytes_a_batch: int,
    collate: Callable[[Any], Any] = identity,
) -> tuple[DataLoader, str | None]:
    """Return a loader of whole batches, and a note where it has fewer processes than requested.

    Args:
        data: the dataset.
        sampler: yields the addresses of the batches.
        workers: number of loader processes, or `auto`.
        ranks: the ranks that share this machine.
        bytes_a_batch: size of a batch that passes between processes.
        collate: function applied to each batch.
    """
    count, note = choose_workers(
        workers, in_memory=data.in_memory, ranks=ranks, batches=len(sampler), bytes_a_batch=bytes_a_batch
    )
    loader = BatchLoader(
        cast(Dataset, data),
        batch_size=None,
        sampler=sampler,
        num_workers=count,
        persistent_workers=count > 0,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=outlive_signals,
    )
    if data.in_memory and not count and isinstance(data, Served):
        loader.ahead = max(1, min(MOST_AHEAD, AHEAD_BYTES // bytes_a_batch))
    return loader, note
