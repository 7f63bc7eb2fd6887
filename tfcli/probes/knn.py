"""k-nearest-neighbour classification of features, with every K from one search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tfcli.errors import ConfigError, nearest
from tfcli.probes.neighbours import neighbours
from tfcli.probes.scores import Figures, Split, checked, hold_out, joined, score
from tfcli.shapes import Float, Int

TEMPERATURE = 0.07
"""Temperature of the weighted vote (Wu et al. 2018, section 3.4)."""


@dataclass(frozen=True)
class KnnResult:
    """Result of k-nearest-neighbour classification.

    Args:
        k: the best K on the split `select`.
        select: `val` or `test`; K chosen on test, as in the homework, makes the test figure too optimistic.
        weighted: whether the vote is weighted.
        val, test: figures of each K. On validation the neighbours are from train.
        carved: number of training samples held out for validation, where there is no such split; 0 otherwise.
        refitted: whether the neighbours of test samples are from train and validation.
        bank: number of samples among which the neighbours of test samples are searched.
        seconds: total time.
    """

    k: int
    select: str
    weighted: bool
    val: dict[int, Figures]
    test: dict[int, Figures]
    carved: int
    refitted: bool
    bank: int
    seconds: float


def vote(
    similarity: Float[Tensor, "M k"],
    neighbour_label: Int[Tensor, "M k"],
    *,
    k: int | None = None,
    weighted: bool = False,
    temperature: float = TEMPERATURE,
) -> Int[Tensor, "M R"]:
    """Return up to five classes by votes, best first; -1 where there are fewer.

    Majority: by the number of neighbours, then by their summed similarity, then by the nearest neighbour. Weighted: by
    the sum of `exp(similarity / temperature)`, then by the nearest neighbour.

    Args:
        similarity, neighbour_label: nearest first.
        k: number of neighbours that vote; None: all.
        temperature: temperature of the weighted vote.
    """
    similarity, label = similarity[:, :k].double(), neighbour_label[:, :k]
    parts = [_vote(s, n, weighted, temperature) for s, n in zip(similarity.split(4096), label.split(4096), strict=True)]
    return torch.cat(parts) if parts else label.new_empty(0, 5)


def _vote(similarity: Tensor, label: Tensor, weighted: bool, temperature: float) -> Tensor:
    same = label[:, :, None] == label[:, None, :]  # (M, k, k)
    if weighted:  # relative to the nearest, which keeps the ranking and avoids overflow
        weight = ((similarity - similarity.amax(1, keepdim=True)) / temperature).exp()
    else:
        weight = similarity
    weight = (weight * 2.0**40).round()  # whole numbers, so that sums do not depend on their order
    keys = [(same * weight[:, None, :]).sum(2)]
    if not weighted:
        keys.append(same.sum(2).double())
    again = same.tril(-1).any(2)  # a nearer neighbour has the same class
    order = torch.arange(label.shape[1], device=label.device).expand(label.shape)
    for key in [*keys, (~again).double()]:  # stable sorts; the last key has the highest rank
        order = order.gather(1, key.gather(1, order).argsort(dim=1, descending=True, stable=True))
    ranking = torch.where(again, -1, label).gather(1, order)[:, :5]
    return torch.nn.functional.pad(ranking, (0, 5 - ranking.shape[1]), value=-1)


def knn(
    train: Split,
    val: Split | None,
    test: Split,
    *,
    num_classes: int,
    ks: Sequence[int] = (1, 3, 5, 7, 11, 21),
    weighted: bool = False,
    temperature: float = TEMPERATURE,
    select: str = "val",
    metric: str = "accuracy",
    refit: bool = True,
    val_fraction: float = 0.2,
    seed: int = 0,
    chunk: int = 4096,
) -> KnnResult:
    """Classify by the nearest training features, for every K from one search.

    Args:
        train, val, test: features and labels. Without `val`, if K is chosen on it, a stratified part of train is
            held out for the choice; test samples are compared with all of train.
        ks: values of K.
        weighted, temperature: as for `vote`.
        select: split that chooses K: `val`, or `test` as in the homework (the best figure is then too optimistic).
            Among equal figures the smallest K is chosen.
        metric: figure that chooses K: `accuracy` or `per_class`.
        refit: whether test samples are compared with `val` as well as train, as in the linear probe's final fit.
        val_fraction, seed: size and seed of the held-out part.
        chunk: number of training samples compared at a time.

    Raises:
        ConfigError: a K is less than 1 or greater than the number of training samples; unknown split or figure.
        DataError: a split is empty or not finite, or its labels do not fit.
    """
    for name, value, known in (("select", select, ("val", "test")), ("metric", metric, ("accuracy", "per_class"))):
        if value not in known:
            raise ConfigError(f"{name} must be `{known[0]}` or `{known[1]}`, but is `{value}`.{nearest(value, known)}")
    ks = sorted({int(k) for k in ks})
    if not ks or ks[0] < 1:
        raise ConfigError(f"K must be at least 1, got {ks}.")
    begun = time.perf_counter()
    train = checked("train", train, num_classes=num_classes)
    width = train[0].shape[1]
    test = checked("test", test, num_classes=num_classes, width=width)
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "ks": ks,
        "weighted": weighted,
        "temperature": temperature,
        "chunk": chunk,
    }
    carved = 0
    if val is not None:
        val, bank = checked("val", val, num_classes=num_classes, width=width), train
    elif select == "val":
        bank, val = hold_out(train, fraction=val_fraction, seed=seed)
        carved = len(val[1])
    on_val = {} if val is None else _figures("train", bank, val, **options)
    refitted = refit and val is not None and not carved
    whole = joined(train, val) if refitted and val is not None else train
    on_test = _figures("train and validation" if refitted else "train", whole, test, **options)
    chooser = on_val if select == "val" else on_test
    best = max(ks, key=lambda k: chooser[k].figure(metric))
    return KnnResult(
        best, select, weighted, on_val, on_test, carved, refitted, len(whole[1]), time.perf_counter() - begun
    )


def _figures(
    name: str, bank: Split, split: Split, *, num_classes: int, ks: list[int], chunk: int, **options
) -> dict[int, Figures]:
    """Return the figures of every K on a split."""
    if ks[-1] > len(bank[1]):
        raise ConfigError(
            f"K = {ks[-1]} neighbours, but the bank ({name}) has {len(bank[1])} samples: leave out larger values of K."
        )
    similarity, index = neighbours(split[0], bank[0], k=ks[-1], chunk=chunk)
    label = bank[1][index]
    return {k: score(vote(similarity, label, k=k, **options), split[1], num_classes=num_classes) for k in ks}
