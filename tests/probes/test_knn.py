"""Nearest neighbours: the exact answer whatever the first pass rounds to, and the vote."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from tfcli.errors import ConfigError, DataError
from tfcli.probes import neighbours as module
from tfcli.probes.knn import knn, vote
from tfcli.probes.neighbours import neighbours


def brute(query: torch.Tensor, bank: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All cosines in float64, rounded to float32; of equals the lower index."""
    query, bank = query.double(), bank.double()
    lengths = [torch.where(x.norm(dim=1) > 0, x.norm(dim=1), 1.0) for x in (query, bank)]
    cosine = ((query @ bank.T) / (lengths[0][:, None] * lengths[1])).float()
    order = cosine.argsort(dim=1, descending=True, stable=True)[:, :k]
    return cosine.gather(1, order), order


def features(kind: str, n: int, width: int, draw: torch.Generator) -> torch.Tensor:
    if kind == "whole":  # many ties
        return torch.randint(-2, 3, (n, width), generator=draw).float()
    x = torch.randn(n, width, generator=draw)
    return {"normal": x, "one direction": 0.1 * x + 3, "positive": x.abs(), "large": 1e4 * x, "equal": x * 0 + 1}[kind]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["whole", "normal", "one direction", "positive", "large", "equal"]),
    n=st.integers(1, 700),
    m=st.integers(1, 40),
    width=st.integers(1, 40),
    k=st.integers(1, 25),
    chunk=st.sampled_from([1, 64, 300, 4096]),
    low=st.booleans(),
    seed=st.integers(0, 999),
)
def test_neighbours_are_exact(kind, n, m, width, k, chunk, low, seed):
    draw = torch.Generator().manual_seed(seed)
    bank, query = features(kind, n, width, draw), features(kind, m, width, draw)
    k = min(k, n)
    cosine, index = neighbours(query, bank, k=k, chunk=chunk, low_precision=low)
    expected, order = brute(query, bank, k)
    assert torch.allclose(cosine, expected, atol=2e-7)
    differ = index != order  # float64 sums in another order may round to another float32
    assert (cosine[differ] - expected[differ]).abs().le(2e-7).all()
    assert kind != "whole" or width > 1 or torch.equal(index, order)


@pytest.mark.parametrize("low", [True, False])
def test_of_equal_rows_the_lower_index_is_nearer(low):
    rows = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    bank = rows.repeat(40, 1)
    _, index = neighbours(rows, bank, k=12, chunk=128, low_precision=low)
    assert torch.equal(index, torch.arange(50)[:, None] + 50 * torch.arange(12))


def test_crowds_of_equal_rows_are_settled_exactly_too(monkeypatch):
    gone_through = []
    whole = module._key
    monkeypatch.setattr(module, "_key", lambda *args: gone_through.append(1) or whole(*args))
    query = torch.eye(4)[:3]
    bank = torch.cat([torch.eye(4)[0].repeat(6000, 1), torch.eye(4)[1].repeat(3, 1), -torch.eye(4)[2].repeat(3, 1)])
    cosine, index = neighbours(query, bank, k=5, chunk=512)
    assert gone_through
    assert index.tolist() == [[0, 1, 2, 3, 4], [6000, 6001, 6002, 0, 1], [0, 1, 2, 3, 4]]
    assert cosine.tolist() == [[1.0] * 5, [1.0, 1.0, 1.0, 0.0, 0.0], [0.0] * 5]


def test_a_row_of_zeros_is_like_nothing():
    cosine, index = neighbours(torch.zeros(1, 3), torch.randn(10, 3), k=4)
    assert cosine.tolist() == [[0.0] * 4]
    assert index.tolist() == [[0, 1, 2, 3]]


def test_the_answer_is_faisss():
    faiss = pytest.importorskip("faiss")
    draw = torch.Generator().manual_seed(0)
    bank, query = torch.randn(3000, 48, generator=draw) + 1, torch.randn(100, 48, generator=draw) + 1
    index = faiss.IndexFlatIP(48)
    index.add(torch.nn.functional.normalize(bank).numpy())
    expected, order = index.search(torch.nn.functional.normalize(query).numpy(), 10)
    cosine, found = neighbours(query, bank, k=10)
    assert np.allclose(cosine, expected, atol=1e-6)
    assert (found.numpy() == order).mean() > 0.999


def test_a_bank_may_be_a_file_or_an_iteration(tmp_path):
    bank = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    query = bank[:20] + 0.1
    np.save(tmp_path / "bank.npy", bank.numpy())
    expected = neighbours(query, bank, k=5)
    mapped = neighbours(query, np.load(tmp_path / "bank.npy", mmap_mode="r"), k=5, chunk=100)
    pieces = neighbours(query, lambda: bank.split(77), k=5)
    for found in (mapped, pieces):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_no_more_than_a_chunk_and_a_few_candidates_are_held(monkeypatch):
    query, held = torch.randn(64, 16, generator=torch.Generator().manual_seed(0)), []

    def chunks():
        source = torch.Generator().manual_seed(1)
        for _ in range(60):
            yield torch.randn(1000, 16, generator=source)

    scan = module.Part.scan

    def watched(self, block):
        scan(self, block)
        held.append(sum(len(kept[0]) for kept in self.kept))

    monkeypatch.setattr(module.Part, "scan", watched)
    _, index = neighbours(query, chunks, k=5, chunk=1000)
    assert max(held) < 64 * (16 * 5 + 512)
    assert torch.equal(index, brute(query, torch.cat(list(chunks())), 5)[1])


@pytest.mark.parametrize(("k", "words"), [(0, "at least 1"), (11, "K = 11 neighbours of 10")])
def test_a_k_that_cannot_be_is_refused(k, words):
    with pytest.raises(ConfigError, match=words):
        neighbours(torch.randn(2, 3), torch.randn(10, 3), k=k)


def by_hand(similarity: list[float], label: list[int], weighted: bool) -> list[int]:
    """The vote in plain words."""
    classes = list(dict.fromkeys(label))
    own = {c: [s for s, other in zip(similarity, label, strict=True) if other == c] for c in classes}
    if weighted:
        key = {c: (sum(round(float(np.exp((s - max(similarity)) / 0.07)) * 2**40) for s in own[c]),) for c in classes}
    else:
        key = {c: (len(own[c]), sum(own[c])) for c in classes}
    ranking = sorted(classes, key=lambda c: key[c], reverse=True)[:5]  # stable: the nearer first
    return ranking + [-1] * (5 - len(ranking))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), k=st.integers(1, 21), weighted=st.booleans())
def test_the_vote_is_that_by_hand(data, k, weighted):
    values = st.sampled_from([0.25, 0.5, 0.75])  # sums are exact: ties are ties
    similarity = sorted(data.draw(st.lists(values, min_size=k, max_size=k)), reverse=True)
    label = data.draw(st.lists(st.integers(0, 6), min_size=k, max_size=k))
    ranking = vote(torch.tensor([similarity]), torch.tensor([label]), weighted=weighted)
    assert ranking.tolist() == [by_hand(similarity, label, weighted)]


def test_ties_go_to_the_larger_sum_and_then_to_the_nearest():
    assert vote(torch.tensor([[0.9, 0.8, 0.7, 0.1]]), torch.tensor([[4, 2, 2, 4]])).tolist()[0][0] == 2
    assert vote(torch.tensor([[0.5, 0.5]]), torch.tensor([[6, 1]])).tolist()[0][:2] == [6, 1]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), k=st.integers(2, 15))
def test_the_order_among_equal_similarities_of_a_class_changes_nothing(seed, k):
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(4, (1, k), generator=draw)
    similarity = torch.rand(1, k, generator=draw).sort(descending=True).values
    renamed = (label + 3) % 4
    first, second = vote(similarity, label), vote(similarity, renamed)
    assert torch.equal(torch.where(first >= 0, (first + 3) % 4, first), second)


def test_one_neighbour_votes_alone_and_weights_change_nothing_then():
    similarity, label = torch.rand(30, 4).sort(descending=True).values, torch.randint(5, (30, 4))
    for weighted in (False, True):
        assert torch.equal(vote(similarity, label, k=1, weighted=weighted)[:, 0], label[:, 0])


def test_an_odd_k_on_two_classes_is_scikit_learns():
    draw = torch.Generator().manual_seed(0)
    x, label = torch.randn(300, 6, generator=draw), torch.randint(2, (300,), generator=draw)
    theirs = KNeighborsClassifier(7, metric="cosine").fit(x[:200].numpy(), label[:200].numpy())
    similarity, index = neighbours(x[200:], x[:200], k=7)
    assert np.array_equal(vote(similarity, label[index])[:, 0].numpy(), theirs.predict(x[200:].numpy()))


@pytest.fixture(scope="module")
def splits():
    draw = torch.Generator().manual_seed(0)
    centres, label = torch.randn(6, 10, generator=draw), torch.arange(900) % 6
    x = centres[label] + 0.9 * torch.randn(900, 10, generator=draw)
    return (x[:500], label[:500]), (x[500:700], label[500:700]), (x[700:], label[700:])


def test_k_does_not_depend_on_the_test_split(splits):
    train, val, test = splits
    for validation in (val, None):
        honest = knn(train, validation, test, num_classes=6)
        noise = knn(train, validation, (torch.randn(200, 10), test[1].flip(0)), num_classes=6)
        assert honest.k == noise.k
        assert {k: f.accuracy for k, f in honest.val.items()} == {k: f.accuracy for k, f in noise.val.items()}
    best = max(honest.val.values(), key=lambda f: f.accuracy).accuracy
    assert honest.k == min(k for k, f in honest.val.items() if f.accuracy == best)


def test_k_chosen_on_test_is_the_homeworks(splits):
    train, _, test = splits
    result = knn(train, None, test, num_classes=6, select="test")
    assert (result.val, result.carved) == ({}, 0)
    assert result.test[result.k].accuracy == max(f.accuracy for f in result.test.values())


def test_all_of_train_is_the_bank_of_test(splits):
    train, _, test = splits
    carved, plain = (knn(train, None, test, num_classes=6, select=select) for select in ("val", "test"))
    assert carved.carved == 100
    assert {k: f.accuracy for k, f in carved.test.items()} == {k: f.accuracy for k, f in plain.test.items()}


def test_validation_goes_back_into_the_bank_as_linear_refits_on_it(splits):
    train, val, test = splits
    both, alone = (knn(train, val, test, num_classes=6, refit=refit) for refit in (True, False))
    joined = tuple(torch.cat(parts) for parts in zip(train, val, strict=True))
    assert (both.refitted, both.bank, alone.refitted, alone.bank) == (True, len(joined[1]), False, len(train[1]))
    assert both.k == alone.k  # chosen among the neighbours of train alone
    assert both.val == alone.val
    for found, bank in ((both, joined), (alone, train)):
        assert found.test == knn(bank, None, test, num_classes=6, select="test").test


def test_shuffled_test_labels_give_chance(splits):
    train, val, test = splits
    shuffled = test[1][torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    result = knn(train, val, (test[0], shuffled), num_classes=6)
    assert result.test[result.k].accuracy_interval[0] <= 1 / 6 <= result.test[result.k].accuracy_interval[1]


def test_wrong_settings_are_refused(splits):
    train, val, test = splits
    with pytest.raises(ConfigError, match=r"select .*Did you mean `test`"):
        knn(train, val, test, num_classes=6, select="tets")
    with pytest.raises(ConfigError, match="metric"):
        knn(train, val, test, num_classes=6, metric="top5")
    with pytest.raises(ConfigError, match="at least 1"):
        knn(train, val, test, num_classes=6, ks=(0, 1))
    with pytest.raises(ConfigError, match=r"K = 501 .*500 samples"):
        knn(train, val, test, num_classes=6, ks=(1, 501))
    with pytest.raises(DataError, match="train: features of row 0 are not finite"):
        knn((train[0] * float("nan"), train[1]), val, test, num_classes=6)
