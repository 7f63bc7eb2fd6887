"""Beam search: the likeliest whole sequences, by going on with the few best beginnings at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from tfcli.bounds import Count, Natural
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


@dataclass(frozen=True)
class Rules:
    """By what rules a search ranks sequences and ends.

    Attributes:
        penalty: what log-probabilities are divided by: wu, ((5 + |Y|) / 6)^alpha (Wu et al. 2016, equation 14), or
            power, |Y|^alpha, as in transformers.
        early: whether a sample is done with as many found sequences as beams; False: once no beginning, ended now,
            would be better than the worst of them; never: the same, ended at its limit.
        longest: most tokens of a sequence, the stop included; None: as the caller says.
        banned: tokens that are never said.
        renormalise: whether what is left of the probabilities without those sums to one again.
        ends: whether a sequence ends with the stop where its limit cuts it, at no cost.
    """

    penalty: Literal["wu", "power"] = "wu"
    early: bool | Literal["never"] = True
    longest: Count | None = None
    banned: Sequence[Natural] = ()
    renormalise: bool = False
    ends: bool = False

    def rank(self, score: float, length: int, *, alpha: float) -> float:
        """Return the score by which sequences of different lengths are ranked."""
        return score / (length_penalty(length, alpha) if self.penalty == "wu" else length**alpha)

    def done(
        self, found: Sequence[Hypothesis], best: float, length: int, limit: int, *, beams: int, alpha: float
    ) -> bool:
        """Whether a sample's search may end.

        Args:
            found: the sequences that have ended.
            best: log-probability of the best beginning, of `length` tokens.
        """
        if len(found) < beams or self.early is True:
            return len(found) >= beams
        worst = sorted(one.score for one in found)[-beams]
        return self.rank(best, limit if self.early == "never" and alpha > 0 else length, alpha=alpha) <= worst

    def log_probabilities(self, logits: Float[Tensor, "R V"], stop: Sequence[int], last: Bool[Tensor, "R"]) -> Tensor:
        """Of each token to come next; where it is the `last` and `ends` is set, of the stop alone."""
        logs = logits.float().log_softmax(-1)
        if len(self.banned):
            logs[:, list(self.banned)] = -torch.inf
        if self.ends:
            logs[last] = -torch.inf
            logs[last.nonzero(), torch.tensor(stop, device=logs.device)] = 0.0
        return logs.log_softmax(-1) if self.renormalise else logs


WU = Rules()


def length_penalty(length: int, alpha: float) -> float:
    """((5 + |Y|) / 6)^alpha (Wu et al. 2016, equation 14)."""
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
    rules: Rules = WU,
) -> list[list[Hypothesis]]:
    """The best sequences of each sample, best first; at most `beams`, and one at least.

    Of the `beams` best ways to go on, those that stop are kept as found, and as many others go on. A sample is done
    when `beams` are found (or as `rules` say), or when its limit cuts what still goes on, which is then ranked with the
    rest. With one beam this is greedy; with as many as there are sequences it is exhaustive. Samples that are done
    leave the batch.

    Args:
        logits: of the first token of each sample.
        step: takes the tokens (R) of all beams, gives the logits of the next (R, V).
        reorder: is told, before each step, from which of the rows before each row goes on.
        beams: sequences that are followed at a time.
        limits: most tokens of each sample, the stop included.
        stop: tokens that end a sequence.
        alpha: of the length penalty; 0: there is none, larger: longer sequences.
        rules: how sequences are ranked, and when a sample is done.

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
    rank, done = partial(rules.rank, alpha=alpha), partial(rules.done, beams=beams, alpha=alpha)
    while len(samples):
        width = scores.shape[1]
        last = (limits[samples] <= past.shape[2] + 1).repeat_interleave(width)
        logs = rules.log_probabilities(logits, stop, last)
        scores, beam, token = _candidates(scores, logs, beams * (1 + len(stop)))
        past = torch.cat([_pick(past, beam), token[..., None]], 2)
        ends = torch.isin(token, ending)
        first = (torch.arange(ends.shape[1]) < beams).to(ends.device)
        _note(found, samples, past, scores, ends & first, True, rank)
        order = ends.long().argsort(dim=1, stable=True)[:, :beams]  # what goes on first, the best of it first
        scores = scores.masked_fill(ends, -torch.inf).gather(1, order)
        past, beam = _pick(past, order), beam.gather(1, order)
        cut = limits[samples] <= past.shape[2]
        _note(found, samples, past, scores, cut[:, None].expand_as(scores), False, rank)
        going = zip(samples.tolist(), scores.amax(1).tolist(), strict=True)
        length = past.shape[2]
        full = torch.tensor([done(found[s], best, length, int(limits[s])) for s, best in going], device=cut.device)
        rows = (scores.isfinite().any(1) & ~cut & ~full).nonzero()[:, 0]
        samples, scores, past = samples[rows], scores[rows], past[rows]
        if len(rows):
            reorder((rows[:, None] * width + beam[rows]).flatten())
            logits = step(past[:, :, -1].flatten())
    return [sorted(some, key=lambda one: -one.score)[:beams] for some in found]


def _candidates(
    scores: Float[Tensor, "S K"], logs: Float[Tensor, "R V"], count: int
) -> tuple[Float[Tensor, "S C"], Int[Tensor, "S C"], Int[Tensor, "S C"]]:
    """The best ways to go on: their log-probabilities, best first, the beams they go on from, their tokens."""
    total = scores[..., None] + logs.view(*scores.shape, -1)
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
    ended: bool,
    rank: Callable[[float, int], float],
) -> None:
    """Keep the sequences that are done."""
    where = where & scores.isfinite()
    rows = where.nonzero()[:, 0]
    for sample, total, tokens in zip(samples[rows].tolist(), scores[where].tolist(), past[where].tolist(), strict=True):
        said = tokens[:-1] if ended else tokens
        found[sample].append(Hypothesis(said, total, rank(total, past.shape[2]), ended))
