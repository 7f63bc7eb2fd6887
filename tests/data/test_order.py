from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.data.common.order import EvalBatches, TrainBatches, epoch_order


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
