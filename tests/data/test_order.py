from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.data.common.order import EvalBatches, TrainBatches, epoch_order, equal_sums


def samples(sampler) -> list[int]:
    return [int(i) for address in sampler for i in address.indices]


def test_an_epoch_is_a_permutation_of_seed_and_epoch():
    first = epoch_order(100, seed=3, epoch=5)
    assert sorted(first) == list(range(100))
    assert np.array_equal(first, epoch_order(100, seed=3, epoch=5))
    assert not np.array_equal(first, epoch_order(100, seed=3, epoch=6))
    assert not np.array_equal(first, epoch_order(100, seed=4, epoch=5))


@given(count=st.integers(1, 60), batch=st.integers(1, 9), world=st.integers(1, 4), epoch=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_training_shards_have_equal_batches_and_drop_nothing(count, batch, world, epoch):
    shards = [
        TrainBatches(count, batch_size=batch, seed=1, rank=r, world=world, start_epoch=epoch) for r in range(world)
    ]
    sizes = [[len(a.indices) for a in shard] for shard in shards]
    assert all(size == sizes[0] for size in sizes)
    assert len(sizes[0]) == len(shards[0])
    for shard in shards:
        shard.set_epoch(epoch)
    seen = Counter(i for shard in shards for i in samples(shard))
    assert set(seen) == set(range(count))
    assert sum(seen.values()) == -(-count // world) * world


@given(count=st.integers(0, 60), batch=st.integers(1, 9), world=st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_evaluation_shards_are_exact(count, batch, world):
    shards = [EvalBatches(count, batch_size=batch, rank=r, world=world) for r in range(world)]
    assert sorted(i for shard in shards if not shard.spare for i in samples(shard)) == list(range(count))


def test_resume_in_the_middle_of_an_epoch():
    whole = TrainBatches(23, batch_size=4, seed=0)
    epochs = [[a.indices.tolist() for a in whole] for _ in range(3)]
    resumed = TrainBatches(23, batch_size=4, seed=0, start_epoch=1, start_batch=4)
    assert len(resumed) == 6
    first = [a for a in resumed]
    assert [a.number for a in first] == [4, 5]
    assert [a.indices.tolist() for a in first] == epochs[1][4:]
    assert [a.indices.tolist() for a in resumed] == epochs[2]


def test_choosing_the_epoch_it_has_changes_nothing():
    sampler = TrainBatches(10, batch_size=3, seed=0, start_epoch=2, start_batch=1)
    going = iter(sampler)
    sampler.set_epoch(2)
    assert [a.number for a in going] == [1, 2, 3]
    sampler.set_epoch(2)
    assert [a.number for a in sampler] == [1, 2, 3]
    sampler.set_epoch(3)
    assert [a.number for a in sampler] == [0, 1, 2, 3]


def test_interruptions_repeat_and_skip_nothing():
    seen, epoch, batch, random = [], 0, 0, np.random.default_rng(0)
    for _ in range(10):
        sampler = TrainBatches(50, batch_size=7, seed=2, start_epoch=epoch, start_batch=batch)
        steps = int(random.integers(1, 12))
        while steps:
            for address in sampler:
                seen += address.indices.tolist()
                epoch, batch, steps = address.epoch, address.number + 1, steps - 1
                if not steps:
                    break
    straight = TrainBatches(50, batch_size=7, seed=2)
    expected = [i for _ in range(epoch + 1) for i in samples(straight)]
    assert seen == expected[: len(seen)]


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match="at least 1"):
        TrainBatches(0, batch_size=4, seed=0)
    with pytest.raises(ValueError, match="start_batch"):
        TrainBatches(8, batch_size=4, seed=0, start_batch=3)


@given(
    repeats=st.integers(2, 4),
    groups=st.integers(1, 4),
    batches=st.integers(1, 5),
    world=st.integers(1, 4),
    left=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_copies_of_a_sample_share_a_global_batch(repeats, groups, batches, world, left):
    batch = repeats * groups
    count = batch * world * batches
    ranks = [TrainBatches(count, batch_size=batch, seed=1, repeats=repeats, rank=r, world=world) for r in range(world)]
    alone = TrainBatches(count, batch_size=batch * world, seed=1, repeats=repeats)
    assert len(ranks[0]) == batches
    epoch = []
    for parts in zip(alone, *ranks, strict=True):
        whole, *shares = [list(zip(a.indices.tolist(), a.copies.tolist(), strict=True)) for a in parts]
        joint = sorted(pair for share in shares for pair in share)
        assert joint == sorted(whole)  # so many ranks hold what one process with the joint batch does
        assert Counter(sample for sample, _ in joint) == dict.fromkeys({s for s, _ in joint}, repeats)
        assert {copy for _, copy in joint} == set(range(repeats))
        epoch += joint
    assert len(set(epoch)) == count
    assert len({sample for sample, _ in epoch}) == count // repeats


@given(count=st.integers(1, 50), batch=st.integers(1, 9), world=st.integers(1, 4), repeats=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_an_epoch_with_copies_is_as_long_as_one_without(count, batch, world, repeats):
    for rank in range(world):
        plain = TrainBatches(count, batch_size=batch, seed=0, rank=rank, world=world)
        many = TrainBatches(count, batch_size=batch, seed=0, rank=rank, world=world, repeats=repeats)
        assert [len(a.indices) for a in plain] == [len(a.indices) for a in many]


def test_copies_resume_in_the_middle_and_neighbours_are_strangers():
    whole = TrainBatches(60, batch_size=12, seed=0, repeats=3)
    first, second = ([(a.indices.tolist(), a.copies.tolist()) for a in whole] for _ in range(2))
    resumed = TrainBatches(60, batch_size=12, seed=0, repeats=3, start_epoch=1, start_batch=2)
    assert [(a.indices.tolist(), a.copies.tolist()) for a in resumed] == second[2:]
    for indices, _ in first:  # MixUp and CutMix join each image with the one before it
        assert all(a != b for a, b in zip(indices, np.roll(indices, 1), strict=True))


SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=60).map(np.array)


@given(
    lengths=SIZES, batch=st.integers(1, 6), world=st.integers(1, 3), bucket=st.integers(1, 9), repeats=st.integers(1, 2)
)
@settings(deadline=None, max_examples=80)
def test_buckets_have_the_samples_and_the_number_of_batches_of_the_plain_order(lengths, batch, world, bucket, repeats):
    count, share = len(lengths), {"repeats": repeats, "world": world, "batch_size": batch, "seed": 1}
    for epoch in (0, 1):
        plain, grouped = (
            [TrainBatches(count, rank=r, start_epoch=epoch, **share, **how) for r in range(world)]
            for how in ({}, {"bucket": bucket, "lengths": lengths})
        )
        assert [[len(a.indices) for a in rank] for rank in grouped] == [
            [len(a.indices) for a in rank] for rank in plain
        ]
        seen, expected = (
            Counter(i for rank in ranks for i in rank.shard(epoch)[0].tolist()) for ranks in (grouped, plain)
        )
        assert seen == expected  # of one rank, each sample once


@given(lengths=SIZES, batch=st.integers(1, 6), world=st.integers(2, 3), bucket=st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_ranks_divide_the_batches_of_similar_length_that_one_process_has(lengths, batch, world, bucket):
    lengths = np.resize(lengths, len(lengths) * world)
    grouped = {"seed": 2, "bucket": bucket, "lengths": lengths}
    alone = TrainBatches(len(lengths), batch_size=batch * world, **grouped)
    ranks = [TrainBatches(len(lengths), batch_size=batch, rank=r, world=world, **grouped) for r in range(world)]
    for whole, *shares in zip(alone, *ranks, strict=True):
        assert sorted(i for a in shares for i in a.indices) == sorted(whole.indices)


@given(lengths=SIZES, batch=st.integers(1, 6), bucket=st.integers(1, 9), resume=st.data())
@settings(deadline=None, max_examples=60)
def test_buckets_are_a_function_of_seed_and_epoch_and_resume_at_any_batch(lengths, batch, bucket, resume):
    def addresses(seed: int = 5, **start: int) -> list[tuple[int, list[int]]]:
        how = {"batch_size": batch, "bucket": bucket, "lengths": lengths, "seed": seed}
        sampler = TrainBatches(len(lengths), **how, **start)
        return [(a.number, a.indices.tolist()) for a in sampler]

    epoch = resume.draw(st.integers(0, 3))
    whole = addresses(start_epoch=epoch)
    assert whole == addresses(start_epoch=epoch)
    first = resume.draw(st.integers(0, len(whole)))
    assert addresses(start_epoch=epoch, start_batch=first) == whole[first:]


def test_batches_of_a_pool_have_similar_lengths_in_another_order_each_epoch():
    lengths = np.random.default_rng(0).integers(1, 60, 1000)

    def padded(**how: int) -> int:
        sampler = TrainBatches(1000, batch_size=10, seed=0, lengths=lengths, **how)
        return sum(len(a.indices) * int(lengths[a.indices].max()) for a in sampler)

    whole, pools, plain = padded(bucket=100), padded(bucket=20), padded()
    assert lengths.sum() / whole > 0.97
    assert lengths.sum() / pools > 0.9 > 0.6 > lengths.sum() / plain
    sampler = TrainBatches(1000, batch_size=10, seed=0, bucket=100, lengths=lengths)
    first, second = ([frozenset(a.indices.tolist()) for a in sampler] for _ in range(2))
    assert len(set(first) & set(second)) < 5
    longest = [int(lengths[list(batch)].max()) for batch in first]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3  # short and long batches are shuffled


def test_samples_of_one_length_keep_the_order_without_buckets():
    plain = TrainBatches(50, batch_size=7, seed=2)
    grouped = TrainBatches(50, batch_size=7, seed=2, bucket=3, lengths=np.full(50, 16))
    for _ in range(2):
        assert [a.indices.tolist() for a in grouped] == [a.indices.tolist() for a in plain]


@given(lengths=SIZES, batch=st.integers(1, 6), world=st.integers(1, 3), bucket=st.integers(1, 9), resume=st.data())
@settings(deadline=None, max_examples=80)
def test_batches_of_equal_tokens_have_each_sample_and_the_number_of_batches_of_the_plain_order(
    lengths, batch, world, bucket, resume
):
    def addresses(rank: int, **start: int) -> list[list[int]]:
        how = {"batch_size": batch, "seed": 3, "bucket": bucket, "lengths": lengths, "equal_tokens": True}
        sampler = TrainBatches(len(lengths), rank=rank, world=world, start_epoch=1, **how, **start)
        batches = [a.indices.tolist() for a in sampler]
        assert len(sampler) == start.get("start_batch", 0) + len(batches)
        return batches

    ranks = [addresses(rank) for rank in range(world)]
    plain = TrainBatches(len(lengths), batch_size=batch, seed=3, world=world, start_epoch=1)
    assert [len(rank) for rank in ranks] == [len(plain)] * world
    assert all(len({len(share) for share in shares}) == 1 and shares[0] for shares in zip(*ranks, strict=True))
    seen = Counter(i for rank in ranks for share in rank for i in share)
    assert set(seen) == set(range(len(lengths)))
    assert seen.total() <= len(lengths) + world - 1
    first = resume.draw(st.integers(0, len(plain)))
    assert addresses(0, start_batch=first) == ranks[0][first:]


def test_batches_of_a_pool_have_equal_tokens_and_few_of_them_are_padding():
    lengths = np.random.default_rng(0).integers(3, 60, 3000)
    sampler = TrainBatches(3000, batch_size=10, seed=0, bucket=100, lengths=lengths, equal_tokens=True)
    batches = [lengths[a.indices] for a in sampler]
    tokens, mean = np.array([b.sum() for b in batches]), lengths.sum() / len(batches)
    assert np.abs(tokens / mean - 1).max() < 0.2
    assert tokens.sum() / sum(len(b) * b.max() for b in batches) > 0.95
    fixed = TrainBatches(3000, batch_size=10, seed=0, bucket=100, lengths=lengths)
    assert np.ptp([lengths[a.indices].sum() for a in fixed]) > mean


@given(values=st.lists(st.integers(0, 20), min_size=1, max_size=40), parts=st.integers(1, 40))
@settings(deadline=None, max_examples=80)
def test_runs_of_equal_sums_are_not_empty(values, parts):
    parts = min(parts, len(values))
    counts = equal_sums(np.sort(values), parts)
    assert len(counts) == parts
    assert counts.sum() == len(values)
    assert counts.min() > 0


def test_buckets_need_lengths():
    with pytest.raises(ValueError, match="lengths of all 8 samples"):
        TrainBatches(8, batch_size=4, seed=0, bucket=2)
