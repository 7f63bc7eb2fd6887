"""Samplers: the samples of each batch as a function of (seed, epoch).


A loader takes one of these as `sampler=` with `batch_size=None`: each element is the address of a whole batch and the
dataset returns that batch, so that sets held in memory are read by one vectorised gather.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from tfcli.data.common.counter_rng import below, hash64, permutation


class Address(NamedTuple):
    """Address of a batch: the epoch, the number of the batch in it, and the positions of its samples in the split.

    Where an epoch repeats samples, `copies` is the number of each copy: 0 for the first, 1 for the second.
    """

    epoch: int
    number: int
    indices: np.ndarray
    copies: np.ndarray | None = None


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of 0..count-1 that depends only on `seed` and `epoch`."""
    return permutation(count, seed, "order", epoch)


class TrainBatches(Sampler):
    """Sampler of shuffled training batches of one rank, which can start at any batch.

    Rank r takes the samples r, r + world, ... of an epoch's permutation. Where the number of ranks does not divide
    the number of samples, the first samples of the permutation are used again, so that all ranks have the same number
    of batches of the same size: at most `world - 1` samples occur twice in an epoch, and none is dropped. The last
    batch may be smaller.

    With `repeats` above 1, the length of an epoch does not change, but it has only the first samples of the
    permutation, each of them `repeats` times, with all copies in one global batch, that of all ranks (Hoffer et al.
    2020, "Augment your batch"; Touvron et al. 2021, section 6). Where `repeats` does not divide the global batch, the
    copies of one sample may be in two batches. In a batch all first copies come before all second copies, because
    MixUp and CutMix mix neighbours, which must not be the same image.

    With `bucket` above 0, a global batch has samples of similar length, so that few tokens are padding: the permutation
    is cut into pools of at most `bucket` global batches, each pool is sorted by length (ties keep their order) and cut
    into as many batches, and the batches of all pools are shuffled; a smaller batch stays the last. With
    `equal_tokens`, the batches of a pool have about equal numbers of tokens in place of equal numbers of samples: a
    loss that is a mean over a batch's tokens would otherwise give the tokens of short samples more weight than without
    buckets (so do Liu et al. 2019, RoBERTa, section 4.2, "doc-sentences"). Where all lengths are equal, the order is
    that without buckets.

    Args:
        count: number of samples in the split.
        batch_size: number of samples in a batch of this rank.
        seed: seed of the order.
        repeats: number of copies of a sample in an epoch.
        bucket: number of global batches in a pool; 0 means that the lengths do not matter.
        lengths: (count,) length of each sample, for `bucket`.
        equal_tokens: whether batches have about equal numbers of tokens, with `bucket`; `batch_size` is then their mean
            number of samples.
        rank, world: number of this process and number of processes.
        start_epoch, start_batch: first batch, after a resume. `len` is always the length of a whole epoch.

    Raises:
        ValueError: there are no samples, the start is after the last batch of the epoch, or `bucket` is without the
            lengths of all samples.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int,
        repeats: int = 1,
        bucket: int = 0,
        lengths: np.ndarray | None = None,
        equal_tokens: bool = False,
        rank: int = 0,
        world: int = 1,
        start_epoch: int = 0,
        start_batch: int = 0,
    ):
        if count < 1:
            raise ValueError(f"`count` must be at least 1, but is {count}: there is nothing to train on.")
        if bucket and (lengths is None or len(lengths) != count):
            raise ValueError(f"`bucket` needs the lengths of all {count} samples.")
        self.count, self.batch_size, self.seed, self.repeats = count, batch_size, seed, repeats
        self.bucket = bucket if bucket and lengths is not None and np.ptp(lengths) else 0
        self.lengths, self.equal_tokens = lengths, equal_tokens
        self.rank, self.world = rank, world
        self.start_epoch, self.start_batch = start_epoch, start_batch
        self.epoch = start_epoch
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"`start_batch` must be in 0..{len(self)}, but is {start_batch}.")

    def __len__(self) -> int:
        share = -(-self.count // self.world)
        return -(-share // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def shard(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what this rank has in `epoch`: its samples in order, the number of the copy of each, and the (K + 1,)
        places in them where each of the K batches begins, with the end of the last.
        """
        order = epoch_order(self.count, seed=self.seed, epoch=epoch)
        share = -(-self.count // self.world)
        place = np.arange(share * self.world)
        samples, copies = order[place // self.repeats % self.count], place % self.repeats
        cuts = np.append(np.arange(0, share, self.batch_size), share)
        if self.bucket:
            grouped, cuts = self._grouped(samples, epoch)
            samples, copies = samples[grouped], copies[grouped]
        if self.repeats == 1:
            return samples[self.rank :: self.world], copies[self.rank :: self.world], cuts
        batch = np.arange(len(self)).repeat(np.diff(cuts) * self.world)
        dealt = np.lexsort((copies, batch))[self.rank :: self.world]
        return samples[dealt], copies[dealt], cuts

    def _grouped(self, samples: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of `samples` in the order in which global batches have similar lengths, and the cuts of
        one rank between its batches.
        """
        assert self.lengths is not None
        size = self.batch_size * self.world
        batches, rest = divmod(len(samples), size)
        pools = max(1, -(-batches // self.bucket))
        pool = np.arange(batches) * pools // max(1, batches)
        places = np.lexsort((self.lengths[samples], np.append(pool.repeat(size), np.full(rest, pools - 1))))
        # The rest, which is the last batch, is cut out of the last pool between two batches, whose lengths vary.
        first = int((pool < pools - 1).sum())
        cut = size * (first + int(below(hash64(self.seed, "rest", epoch), batches - first + 1)[0]))
        whole, last = np.delete(places, np.s_[cut : cut + rest]), places[cut : cut + rest]
        counts = np.full(batches, self.batch_size)
        if self.equal_tokens and batches:
            longest = self.lengths[samples[whole]].reshape(-1, self.world).max(1)  # of the samples that ranks share
            parts = np.split(longest, np.flatnonzero(np.diff(pool) > 0) * self.batch_size + self.batch_size)
            counts = np.concatenate([equal_sums(p, len(p) // self.batch_size) for p in parts])
        shuffled = np.argsort(hash64(self.seed, "buckets", epoch, np.arange(batches)), kind="stable")
        every = np.split(whole, counts.cumsum()[:-1] * self.world)
        cuts = np.append(counts[shuffled], [rest // self.world] if rest else []).astype(np.int64).cumsum()
        return np.concatenate([*(every[i] for i in shuffled), last]), np.append(0, cuts)

    def __iter__(self) -> Iterator[Address]:
        return self._addresses(self.epoch)  # the epoch is fixed here, not at the first `next`

    def _addresses(self, epoch: int) -> Iterator[Address]:
        samples, copies, cuts = self.shard(epoch)
        first = self.start_batch if epoch == self.start_epoch else 0
        for number in range(first, len(self)):
            part = slice(cuts[number], cuts[number + 1])
            yield Address(epoch, number, samples[part], copies[part] if self.repeats > 1 else None)
        self.epoch = epoch + 1  # for loops that never call set_epoch


def equal_sums(values: np.ndarray, parts: int) -> np.ndarray:
    """Return how many values are in each of `parts` runs of about equal sums; none is empty.

    Args:
        values: (N,) positive numbers.
        parts: number of runs, at most N.
    """
    sums, i = np.cumsum(values), np.arange(1, parts)
    cuts = 1 + np.searchsorted(sums, sums[-1] * i / parts - values.mean() / 2)
    cuts = np.minimum(i + np.maximum.accumulate(np.maximum(cuts - i, 0)), len(values) - parts + i)
    return np.diff(np.concatenate([[0], cuts, [len(values)]]))


class BucketBatches(Sampler):
    """Sampler of shuffled training batches of similar lengths with at most `tokens` tokens each, padding included.

    The samples of an epoch are sorted by length (ties in random order) and cut into batches; the batches are shuffled
    and distributed to the ranks in turn. All randomness is a function of (seed, epoch). The cuts depend only on the
    lengths, so that all epochs have the same number of batches. Where the number of ranks does not divide the number
    of batches, the first batches of the epoch are used again.

    Args:
        lengths: (N,) number of tokens of each sample.
        tokens: largest number of tokens in a batch of this rank; a longer sample is a batch of its own.
        seed, rank, world, start_epoch, start_batch: as in `TrainBatches`.

    Raises:
        ValueError: there are no samples, or the start is after the last batch of the epoch.
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
        """Set the epoch of the next iteration."""
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
    """Sampler of evaluation batches: rank r takes r, r + world, ... of the split, every sample exactly once.

    The ranks may differ by one sample. Where there are fewer samples than ranks, a rank without samples is `spare`: it
    gets the first sample, so that it takes part in the evaluation, and its loader marks the batch so that metrics
    ignore it. `order` replaces the order of the split, for example by an order of lengths.
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
