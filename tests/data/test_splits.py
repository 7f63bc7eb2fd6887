from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.data.columns.splits import SplitSettings, make_splits, stratified, stratified_sample


@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=80), share=st.floats(0, 1), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=100)
def test_a_split_never_overlaps_another(labels, share, seed):
    labels = np.array(labels)
    number = round(share * len(labels))
    kept, taken = stratified(labels, number=number, seed=seed, purpose="val")
    assert sorted([*kept, *taken]) == list(range(len(labels)))
    assert len(taken) <= number
    assert set(labels[kept]) == set(labels)
    classes, sizes = np.unique(labels, return_counts=True)
    for c, size in zip(classes, sizes, strict=True):
        assert (
            abs((labels[taken] == c).sum() - min(size * number / len(labels), size - 1)) <= 1 + 1e-9
            or len(taken) < number
        )


def test_number_is_met_and_the_seed_decides():
    labels = np.repeat(np.arange(10), 100)
    _, taken = stratified(labels, number=105, seed=0, purpose="val")
    assert len(taken) == 105
    assert np.bincount(labels[taken]).min() == 10
    assert np.array_equal(taken, stratified(labels, number=105, seed=0, purpose="val")[1])
    assert not np.array_equal(taken, stratified(labels, number=105, seed=1, purpose="val")[1])
    assert not np.array_equal(taken, stratified(labels, number=105, seed=0, purpose="test")[1])


def test_limits():
    labels = np.repeat(np.arange(5), 20)
    assert np.bincount(labels[stratified_sample(labels, number=10, seed=0, purpose="x")]).tolist() == [2] * 5
    assert len(stratified_sample(labels, number=3, seed=0, purpose="x")) == 3
    assert len(stratified_sample(labels, number=500, seed=0, purpose="x")) == 100


def test_a_note_tells_only_of_rows_that_were_set_aside():
    settings = SplitSettings({"val": 0.1, "test": 0.2}, 0, {"train": None, "val": None, "test": None})
    for rows, notes in ((1, 0), (40, 2)):
        tables, said = make_splits("few", {"train": {"image": list(range(rows)), "mask": list(range(rows))}}, settings)
        assert sum(len(table["mask"]) for table in tables.values()) == rows
        assert len(said) == notes
