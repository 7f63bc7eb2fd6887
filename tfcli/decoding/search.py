"""Beam search: the likeliest whole sequences, by going on with the few best beginnings at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tfcli.decoding.sampling import Step
from tfcli.shapes import Bool, Float, Int


@dataclass(frozen=True)
class Hypothesis:
    """A sequence that was found.

    Attributes:
        tokens: without the stop.
        log_probability: of all its tokens, the stop included.
        score: the same over the length penalty; what hypotheses are ranked by.
        ended: whether a stop ended it; otherwise its limit did.
    """

    tokens: list[int]
    log_probability: float
    score: float
    ended: bool


def length_penalty(length: int, alpha: float) -> float:
    """((5 + |Y|) / 6)^alpha, by which log-probabilities are divided (Wu et al. 2016, equation 14)."""
    return ((5 + length) / 6) ** alpha


def beam_search(
    logits: Float[Tensor, "B V"],
    step: Step,
    reorder: Callable[[Tensor], None],
    *,
    beams: int,
    limits: Int[Tensor, "B"],
    stop: Sequence[int],
    alpha: float = 0.6,
) -> list[list[Hypothesis]]:
    """The best sequences of each sample, best first; at most `beams`, and one at least.

    Of the `beams` best ways to go on, those that stop are kept as found, and as many others go on. A sample is done
    when `beams` are found, or when its limit cuts what still goes on, which is then ranked with the rest. With one beam
    this is greedy; with as many as there are sequences it is exhaustive. Samples that are done leave the batch.

    Args:
        logits: of the first token of each sample.
        step: takes the tokens (R) of all beams, gives the logits of the next (R, V).
        reorder: is told, before each step, from which of the rows before each row goes on.
        beams: sequences that are followed at a time.
        limits: most tokens of each sample, the stop included.
        stop: tokens that end a sequence.
        alpha: of the length penalty; 0: there is none, larger: longer sequences.

    Raises:
        ValueError: `beams` or a limit is less than 1.
    """
    if beams < 1:
        raise ValueError(f"`beams` must be at least 1, but is {beams}.")
    if len(limits) and int(limits.min()) < 1:
        raise ValueError(f"a limit must be at least 1, but one is {int(limits.min())}.")
    found: list[list[Hypothesis]] = [[] for _ in range(len(logits))]
    ending = torch.tensor(stop, dtype=torch.long, device=logits.device)
    samples = torch.arange(len(logits), device=logits.device)  # that are not done
    scores = torch.zeros(len(logits), 1, device=logits.device)  # (S, K), log-probabilities
    past = torch.zeros(len(logits), 1, 0, dtype=torch.long, device=logits.device)  # (S, K, length)
    limits = limits.to(logits.device)
    while len(samples):
        width = scores.shape[1]
        scores, beam, token = _candidates(scores, logits, beams * (1 + len(stop)))
        past = torch.cat([_pick(past, beam), token[..., None]], 2)
        ends = torch.isin(token, ending)
        _note(found, samples, past, scores, ends & (torch.arange(ends.shape[1]) < beams).to(ends.device), alpha, True)
        order = ends.long().argsort(dim=1, stable=True)[:, :beams]  # what goes on first, the best of it first
        scores = scores.masked_fill(ends, -torch.inf).gather(1, order)
        past, beam = _pick(past, order), beam.gather(1, order)
        cut = limits[samples] <= past.shape[2]
        _note(found, samples, past, scores, cut[:, None].expand_as(scores), alpha, False)
        full = torch.tensor([len(found[sample]) >= beams for sample in samples.tolist()], device=cut.device)
        rows = (scores.isfinite().any(1) & ~cut & ~full).nonzero()[:, 0]
        samples, scores, past = samples[rows], scores[rows], past[rows]
        if len(rows):
            reorder((rows[:, None] * width + beam[rows]).flatten())
            logits = step(past[:, :, -1].flatten())
    return [sorted(some, key=lambda one: -one.score)[:beams] for some in found]


def _candidates(
    scores: Float[Tensor, "S K"], logits: Float[Tensor, "R V"], count: int
) -> tuple[Float[Tensor, "S C"], Int[Tensor, "S C"], Int[Tensor, "S C"]]:
    """The best ways to go on: their log-probabilities, best first, the beams they go on from, their tokens."""
    total = scores[..., None] + logits.float().log_softmax(-1).view(*scores.shape, -1)
    best, index = total.flatten(1).topk(min(count, total[0].numel()))
    return best, index // total.shape[-1], index % total.shape[-1]


def _pick(past: Int[Tensor, "S K N"], beam: Int[Tensor, "S C"]) -> Int[Tensor, "S C N"]:
    return past.gather(1, beam[..., None].expand(-1, -1, past.shape[2]))


def _note(
    found: list[list[Hypothesis]],
    samples: Int[Tensor, "S"],
    past: Int[Tensor, "S K N"],
    scores: Float[Tensor, "S K"],
    where: Bool[Tensor, "S K"],
    alpha: float,
    ended: bool,
) -> None:
    """Keep the sequences that are done."""
    penalty = length_penalty(past.shape[2], alpha)
    where = where & scores.isfinite()
    rows = where.nonzero()[:, 0]
    for sample, total, tokens in zip(samples[rows].tolist(), scores[where].tolist(), past[where].tolist(), strict=True):
        found[sample].append(Hypothesis(tokens[:-1] if ended else tokens, total, total / penalty, ended))
