"""The order of samples: which batch holds which samples, as a function of (seed, epoch).

A loader takes one of these as `sampler=` with `batch_size=None`: each element is the address of a whole batch and the
dataset returns that batch, so that sets held in memory are read by one vectorised gather.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from tfcli.data.common.counter_rng import hash64


class Address(NamedTuple):
    """Address of a batch: the epoch, its number in the epoch, and its samples (positions in the split).

    Where samples are repeated, `copies` numbers them: 0 for a sample's first place in the epoch, 1 for its second.
    """

    epoch: int
    number: int
    indices: np.ndarray
    copies: np.ndarray | None = None


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """A permutation of 0..count-1 that depends on `seed` and `epoch` alone."""
    return np.argsort(hash64(seed, "order", epoch, np.arange(count)), kind="stable")


class TrainBatches(Sampler):
    """Shuffled batches of one rank, resumable at any batch.

    The permutation of an epoch is dealt out to the ranks in turn (rank r takes r, r + world, ...). When the ranks do
    not divide the samples, the first samples of the permutation are dealt a second time, so that all ranks have
    equally many batches of equal size: at most `world - 1` samples are seen twice in an epoch and none is dropped.
    The last batch may be smaller.

    With `repeats` above 1 an epoch is as long as ever, but takes only the beginning of the permutation, each sample so
    many times and all its copies in one global batch, that of all ranks (Hoffer et al. 2020, "Augment your batch";
    Touvron et al. 2021, section 6). Where `repeats` does not divide the global batch, a sample at its edge has its
    other copies in the next. Within a batch all first copies come before all second ones: MixUp and CutMix join
    neighbours, which must not be the same image.

    Args:
        count: samples in the split.
        batch_size: samples in a batch of this rank.
        seed: of the order.
        repeats: places of a sample in the epochs that it is in.
        rank, world: this process and how many there are.
        start_epoch, start_batch: where to begin. Only `start_epoch` begins late; the length is always a whole epoch's.

    Raises:
        ValueError: no samples, or a start beyond the epoch's last batch.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int,
        repeats: int = 1,
        rank: int = 0,
        world: int = 1,
        start_epoch: int = 0,
        start_batch: int = 0,
    ):
        if count < 1:
            raise ValueError(f"`count` must be at least 1, but is {count}: there is nothing to train on.")
        self.count, self.batch_size, self.seed, self.repeats = count, batch_size, seed, repeats
        self.rank, self.world = rank, world
        self.start_epoch, self.start_batch = start_epoch, start_batch
        self.epoch = start_epoch
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"`start_batch` must be in 0..{len(self)}, but is {start_batch}.")

    def __len__(self) -> int:
        share = -(-self.count // self.world)
        return -(-share // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration. The epoch that is already chosen changes nothing."""
        self.epoch = epoch

    def shard(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The samples of this rank in `epoch`, in order, and which of its copies each one is."""
        order = epoch_order(self.count, seed=self.seed, epoch=epoch)
        share = -(-self.count // self.world)
        place = np.arange(share * self.world)
        samples, copies = order[place // self.repeats % self.count], place % self.repeats
        dealt = np.lexsort((copies, place // (self.batch_size * self.world)))[self.rank :: self.world]
        return samples[dealt], copies[dealt]

    def __iter__(self) -> Iterator[Address]:
        return self._addresses(self.epoch)  # the epoch is fixed here, not at the first `next`

    def _addresses(self, epoch: int) -> Iterator[Address]:
        samples, copies = self.shard(epoch)
        first = self.start_batch if epoch == self.start_epoch else 0
        for number in range(first, len(self)):
            part = slice(number * self.batch_size, (number + 1) * self.batch_size)
            yield Address(epoch, number, samples[part], copies[part] if self.repeats > 1 else None)
        self.epoch = epoch + 1  # for loops that never call set_epoch


class BucketBatches(Sampler):
    """Shuffled batches of samples of like length, each of at most so many tokens with its padding.

    An epoch's samples are sorted by length, equal lengths in an order of (seed, epoch), and cut into batches; these are
    shuffled by (seed, epoch) and dealt out to the ranks in turn. Where the cuts lie depends on the lengths alone, so
    that all epochs have equally many batches. What the ranks do not divide is filled up with the epoch's first batches.

    Args:
        lengths: (N,) tokens of each sample.
        tokens: most tokens in a batch of this rank; a longer sample is a batch of its own.
        seed, rank, world, start_epoch, start_batch: as for `TrainBatches`.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        *,
        tokens: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        start_epoch: int = 0,
        start_batch: int = 0,
    ):
        if not len(lengths):
            raise ValueError("`lengths` must not be empty: there is nothing to train on.")
        self.lengths, self.seed, self.rank, self.world = lengths, seed, rank, world
        self.start_epoch, self.start_batch, self.epoch = start_epoch, start_batch, start_epoch
        cuts, first = [0], 0
        for i, length in enumerate(np.sort(lengths)):
            if (i - first + 1) * length > tokens and i > first:
                cuts.append(i)
                first = i
        self.cuts = np.array([*cuts, len(lengths)])
        self.batch_size = int(np.diff(self.cuts).max())
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"`start_batch` must be in 0..{len(self)}, but is {start_batch}.")

    def __len__(self) -> int:
        return -(-(len(self.cuts) - 1) // self.world)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Address]:
        return self._addresses(self.epoch)

    def _addresses(self, epoch: int) -> Iterator[Address]:
        ties = hash64(self.seed, "order", epoch, np.arange(len(self.lengths)))
        samples = np.lexsort((ties, self.lengths))
        order = epoch_order(len(self.cuts) - 1, seed=self.seed, epoch=epoch)
        mine = np.resize(order, len(self) * self.world)[self.rank :: self.world]
        first = self.start_batch if epoch == self.start_epoch else 0
        for number, batch in enumerate(mine[first:], first):
            yield Address(epoch, number, samples[self.cuts[batch] : self.cuts[batch + 1]])
        self.epoch = epoch + 1


class EvalBatches(Sampler):
    """Batches of an evaluation in the split's own order: rank r takes r, r + world, ...; every sample exactly once.

    Ranks may differ by one sample. Where samples are fewer than ranks, a rank without one is `spare`: it gets another
    rank's first sample, so that it takes part in the evaluation, and its loader marks the batch as not to be counted.
    `order` is another order than the split's own, for instance by length.
    """

    def __init__(self, count: int, *, batch_size: int, rank: int = 0, world: int = 1, order: np.ndarray | None = None):
        whole = np.arange(count) if order is None else order
        self.spare = 0 < count <= rank
        self.shard = whole[:1] if self.spare else whole[rank::world]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.shard) // self.batch_size)

    def __iter__(self) -> Iterator[Address]:
        for number in range(len(self)):
            yield Address(0, number, self.shard[number * self.batch_size : (number + 1) * self.batch_size])
