"""Loaders of batches that a dataset already makes whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import torch
from torch.utils.data import DataLoader, Dataset

from tfcli.data.common.order import Address, EvalBatches, TrainBatches
from tfcli.data.common.workers import Ranks, choose_workers, patient


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
