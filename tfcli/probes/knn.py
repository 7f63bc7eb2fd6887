"""The k nearest training features vote: every K from one search."""

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

TEMPERATURE = 0.07  # of the weighted vote (Wu et al. 2018, section 3.4)


@dataclass(frozen=True)
class KnnResult:
    """Result of the k nearest neighbours.

    Args:
        k: the best K, by what `select` says.
        select: `val` or `test`; chosen on test it is what the homework reports, and too good by the choice.
        weighted: the vote's kind.
        val, test: figures of each K. Validation's bank is train.
        carved: samples of train held out as validation, as there was no such split; 0 otherwise.
        refitted: whether the bank of the test split held validation as well as train.
        bank: samples in the bank of the test split.
        seconds: for all of it.
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
    """The classes voted for, best first, five at most; -1 where fewer were.

    Majority: by the number of neighbours, then by their summed similarity, then by the nearest of them. Weighted: by
    the sum of `exp(similarity / temperature)`, then by the nearest.

    Args:
        similarity, neighbour_label: nearest first.
        k: only the first k vote; None: all.
        temperature: of the weighted vote.
    """
    similarity, label = similarity[:, :k].double(), neighbour_label[:, :k]
    parts = [_vote(s, n, weighted, temperature) for s, n in zip(similarity.split(4096), label.split(4096), strict=True)]
    return torch.cat(parts) if parts else label.new_empty(0, 5)


def _vote(similarity: Tensor, label: Tensor, weighted: bool, temperature: float) -> Tensor:
    same = label[:, :, None] == label[:, None, :]  # (M, k, k)
    if weighted:  # shifted by the nearest: the ranking is the same, and nothing overflows
        weight = ((similarity - similarity.amax(1, keepdim=True)) / temperature).exp()
    else:
        weight = similarity
    weight = (weight * 2.0**40).round()  # whole numbers: equal sums are equal in whatever order they are added
    keys = [(same * weight[:, None, :]).sum(2)]
    if not weighted:
        keys.append(same.sum(2).double())
    again = same.tril(-1).any(2)  # its class was already met nearer
    order = torch.arange(label.shape[1], device=label.device).expand(label.shape)
    for key in [*keys, (~again).double()]:  # stable sorts, the last key first in rank
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
            held out for the choice; the bank of the test split is all of train again.
        ks: the values of K.
        weighted, temperature: as for `vote`.
        select: split that chooses K: `val`, or `test` as the homework does (its best figure is then too good).
            Of equal figures the smallest K is taken.
        metric: `accuracy` or `per_class`: what chooses K.
        refit: whether the bank of the test split holds `val` as well as train, as the linear probe's last fit does.
        val_fraction, seed: of the part held out.

    Raises:
        ConfigError: a K below 1 or above the number of training samples, an unknown split or figure.
        DataError: a split that is empty, not finite, or whose labels do not fit.
    """
    for name, value, known in (("select", select, ("val", "test")), ("metric", metric, ("accuracy", "per_class"))):
        if value not in known:
            raise ConfigError(f"{name} must be `{known[0]}` or `{known[1]}`, got `{value}`.{nearest(value, known)}")
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
    """The figures of every K on a split."""
    if ks[-1] > len(bank[1]):
        raise ConfigError(
            f"K = {ks[-1]} neighbours, but the bank ({name}) has {len(bank[1])} samples: leave out K above that."
        )
    similarity, index = neighbours(split[0], bank[0], k=ks[-1], chunk=chunk)
    label = bank[1][index]
    return {k: score(vote(similarity, label, k=k, **options), split[1], num_classes=num_classes) for k in ks}
