"""Samples as a dataset whose items are whole batches, and loaders of such batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tfcli.data.common.order import Address, EvalBatches, TrainBatches
from tfcli.data.common.workers import Ranks, choose_workers, patient
from tfcli.errors import DataError


def identity(batch: Any) -> Any:
    """The collation of batches that already are batches."""
    return batch


class BatchLoader(DataLoader):
    """A DataLoader that raises a loader process's error in the main process.

    torch does so too, but it loses the error's own arguments, adds the process's traceback to its text, and then waits
    five seconds for each process (2.15). Batches of a spare rank get the mark `spare`.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names a private iterator class
        mark = {"spare": True} if getattr(self.sampler, "spare", False) else {}
        return (_raised(batch) | mark for batch in super().__iter__())


def _raised(batch: Any) -> Any:
    if "error" in batch:
        raise batch["error"]
    return batch


class Batches(Protocol):
    """A dataset whose items are batches, addressed."""

    @property
    def in_memory(self) -> bool:
        """Whether reading one costs no decoding."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, address: Address) -> dict[str, Any]: ...


class Samples(Protocol):
    """Samples of one split, as a view lays them out.

    Attributes:
        lengths: (N,) size of each sample, as it counts for a batch: its tokens, or 1 for an image.
        cut: how many were longer than they may be, and were cut.
        notes: what else the user should be told of them.
        counted: what a speed is of: tokens or images.
    """

    lengths: np.ndarray
    cut: int
    notes: list[str]
    counted: str

    @property
    def in_memory(self) -> bool:
        """Whether reading a batch costs no decoding."""
        ...

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Any]:
        """Return some samples; whatever is drawn is addressed by (seed, epoch, row).

        Of images also by `copies`, where an epoch holds a sample several times: (B,) which of them.
        """
        ...

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        """Return a training batch in the right shapes, for measuring; nothing is decoded."""
        ...


class Served(Dataset):
    """One split: `self[address]` is the batch that stands there; of texts also, as `amount`, how many tokens it has.

    Args:
        samples: of the split.
        seed: of what is drawn.
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
    """A loader of whole batches, and a note where it has fewer processes than were asked for.

    Args:
        data: what is read.
        sampler: the addresses.
        workers: loader processes, or `auto`.
        ranks: who else reads on this machine.
        bytes_a_batch: what passes between processes.
        collate: applied to each batch.
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
        worker_init_fn=patient,
    )
    return loader, note
