"""Search against every sequence there is, draws against the distribution they are drawn from."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.decoding.sampling import Sampler, generate, greedy, until
from tfcli.decoding.search import beam_search, length_penalty

V, STOP = 4, 0


class Table:
    """A model whose next logits are any function of all tokens before, row by row."""

    def __init__(self, samples: int, *, seed: int, vocab_size: int = V):
        self.rows: list[tuple[int, ...]] = [(sample,) for sample in range(samples)]
        self.seed, self.vocab_size, self.widest = seed, vocab_size, 0

    def after(self, row: tuple[int, ...]) -> torch.Tensor:
        draw = torch.Generator().manual_seed(abs(hash((self.seed, *row))) % 2**31)
        return 2 * torch.randn(self.vocab_size, generator=draw)

    def logits(self) -> torch.Tensor:
        self.widest = max(self.widest, len(self.rows))
        return torch.stack([self.after(row) for row in self.rows])

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        self.rows = [(*row, token) for row, token in zip(self.rows, tokens.tolist(), strict=True)]
        return self.logits()

    def reorder(self, rows: torch.Tensor) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]


def every_sequence(table: Table, sample: int, limit: int, alpha: float) -> list[tuple[float, list[int]]]:
    """All sequences that stop or reach the limit, best first."""
    whole = []
    for length in range(1, limit + 1):
        for tokens in product(range(V), repeat=length):
            if STOP in tokens[:-1] or (tokens[-1] != STOP and length < limit):
                continue
            total = sum(
                table.after((sample, *tokens[:place])).log_softmax(-1)[token].item()
                for place, token in enumerate(tokens)
            )
            whole.append((total / length_penalty(length, alpha), until(tokens, [STOP])))
    return sorted(whole, key=lambda one: -one[0])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999),
    alpha=st.sampled_from([0.0, 0.6, 1.5]),
    limits=st.lists(st.integers(1, 3), min_size=3, max_size=3),
)
def test_a_beam_of_all_sequences_is_exhaustive(seed, alpha, limits):
    table = Table(3, seed=seed)
    found = beam_search(
        table.logits(), table.step, table.reorder, beams=V**3, limits=torch.tensor(limits), stop=[STOP], alpha=alpha
    )
    for sample, (some, limit) in enumerate(zip(found, limits, strict=True)):
        whole = every_sequence(table, sample, limit, alpha)
        assert [one.tokens for one in some] == [tokens for _, tokens in whole]
        assert [one.score for one in some] == pytest.approx([score for score, _ in whole], abs=1e-4)
        assert all(one.ended or len(one.tokens) == limit for one in some)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), limits=st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_one_beam_is_greedy(seed, limits):
    table, other = Table(4, seed=seed), Table(4, seed=seed)
    limits = torch.tensor(limits)
    found = beam_search(table.logits(), table.step, table.reorder, beams=1, limits=limits, stop=[STOP])
    assert [[one.tokens for one in some] for some in found] == [
        [tokens] for tokens in greedy(other.logits(), other.step, limits=limits, stop=[STOP])
    ]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), beams=st.integers(2, 5))
def test_samples_do_not_know_of_one_another(seed, beams):
    together = Table(3, seed=seed)
    settings_ = {"beams": beams, "stop": [STOP], "alpha": 0.6}
    found = beam_search(together.logits(), together.step, together.reorder, limits=torch.tensor([5, 7, 3]), **settings_)
    for sample, limit in enumerate([5, 7, 3]):
        alone = Table(3, seed=seed)
        alone.rows = [(sample,)]
        assert (
            beam_search(alone.logits(), alone.step, alone.reorder, limits=torch.tensor([limit]), **settings_)[0]
            == found[sample]
        )


def test_more_beams_find_no_worse_sequences_and_larger_alpha_longer_ones():
    means, lengths = [], []
    for beams in (1, 2, 8):
        table = Table(60, seed=1)
        found = beam_search(
            table.logits(), table.step, table.reorder, beams=beams, limits=torch.full((60,), 8), stop=[STOP], alpha=0.0
        )
        means.append(sum(some[0].log_probability for some in found) / 60)
    assert means == sorted(means)
    for alpha in (0.0, 1.0, 3.0):
        table = Table(60, seed=1)
        found = beam_search(
            table.logits(), table.step, table.reorder, beams=8, limits=torch.full((60,), 8), stop=[STOP], alpha=alpha
        )
        lengths.append(sum(len(some[0].tokens) for some in found) / 60)
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_the_length_penalty_is_the_papers():
    assert length_penalty(1, 0.6) == 1
    assert length_penalty(7, 1.0) == 2
    assert length_penalty(30, 0.0) == 1


LOGITS = torch.tensor([[1.0, 3.0, 2.0, -1.0, 0.5, 2.5]])


@pytest.mark.parametrize(
    "sampler", [Sampler(temperature=0.0), Sampler(temperature=1e-6), Sampler(top_k=1), Sampler(top_p=1e-9)]
)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
def test_cold_or_narrow_draws_are_greedy(sampler, seed):
    logits = torch.randn(50, 11, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(sampler(logits, generator=torch.Generator().manual_seed(seed)), logits.argmax(-1))


@pytest.mark.parametrize(
    ("sampler", "left"),
    [
        (Sampler(), [0, 1, 2, 3, 4, 5]),
        (Sampler(temperature=2.0), [0, 1, 2, 3, 4, 5]),
        (Sampler(top_k=3), [1, 2, 5]),
        (Sampler(top_k=9), [0, 1, 2, 3, 4, 5]),
        (Sampler(top_p=0.6), [1, 5]),  # 0.45, 0.27, 0.17, 0.06: the second crosses
        (Sampler(top_p=0.9), [0, 1, 2, 5]),
        (Sampler(top_k=3, top_p=0.8), [1, 5]),  # of the three that are left: 0.51, 0.31, 0.19
        (Sampler(temperature=0.5, top_p=0.9), [1, 2, 5]),
    ],
)
def test_draws_follow_the_truncated_distribution(sampler, left):
    draws, generator = 20_000, torch.Generator().manual_seed(0)
    expected = torch.zeros(6)
    expected[left] = (LOGITS[0, left] / sampler.temperature).softmax(-1)
    drawn = sampler(LOGITS.expand(draws, -1), generator=generator)
    counts = torch.bincount(drawn, minlength=6).float()
    sigma = (draws * expected * (1 - expected)).sqrt()
    assert (counts[expected == 0] == 0).all()
    assert ((counts - draws * expected).abs() <= 3 * sigma).all(), (counts, draws * expected)


def test_what_occurred_is_less_likely_whatever_its_sign():
    seen = torch.tensor([[False, True, False, True, False, False]])
    found = Sampler(repetition_penalty=2.0).penalised(LOGITS, seen)
    assert found.tolist() == [[1.0, 1.5, 2.0, -2.0, 0.5, 2.5]]

    def step(tokens: torch.Tensor) -> torch.Tensor:
        return LOGITS.expand(len(tokens), -1)

    options = {"limit": 3, "sampler": Sampler(temperature=0.0, repetition_penalty=5.0)}
    assert torch.stack(list(generate(LOGITS, step, **options))).tolist() == [[1], [5], [2]]
    told = list(generate(LOGITS, step, **options, prompt=torch.tensor([[5, 2]])))
    assert torch.stack(told).tolist() == [[1], [0], [1]]


def test_a_seed_fixes_the_draws_and_tokens_come_one_by_one():
    def drawn(seed: int) -> list[int]:
        table = Table(1, seed=3, vocab_size=9)
        return [
            int(token)
            for token in generate(
                table.logits(), table.step, limit=12, sampler=Sampler(), generator=torch.Generator().manual_seed(seed)
            )
        ]

    assert drawn(1) == drawn(1) != drawn(2)
    table = Table(1, seed=3)
    tokens = generate(table.logits(), table.step, limit=5)
    assert table.rows == [(0,)]
    next(tokens), next(tokens)
    assert len(table.rows[0]) == 2  # the model is asked for no more than what is listened to


def test_samples_that_ended_wait_for_the_others():
    table = Table(20, seed=5)
    columns = torch.stack(list(generate(table.logits(), table.step, limit=50, stop=[STOP, 1]))).T.tolist()
    assert all({STOP, 1} & set(row) for row in columns)
    assert len({len(until(row, [STOP, 1])) for row in columns}) > 1
    for row in columns:
        end = len(until(row, [STOP, 1]))
        assert set(row[end:]) == {row[end]}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sampler(temperature=-1.0), ["temperature", "0", "-1.0"]),
        (lambda: Sampler(temperature=float("nan")), ["temperature", "nan"]),
        (lambda: Sampler(top_k=0), ["top_k", "1", "0"]),
        (lambda: Sampler(top_p=0.0), ["top_p", "0.0"]),
        (lambda: Sampler(top_p=1.5), ["top_p", "1.5"]),
        (lambda: Sampler(repetition_penalty=0.0), ["repetition_penalty", "0"]),
        (lambda: beam_search(LOGITS, len, len, beams=0, limits=torch.tensor([1]), stop=[]), ["beams", "1", "0"]),
        (lambda: beam_search(LOGITS, len, len, beams=1, limits=torch.tensor([0]), stop=[]), ["limit", "0"]),
    ],
)
def test_wrong_numbers_say_what_they_must_be(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert all(word in str(error.value) for word in words)
