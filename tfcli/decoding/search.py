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
    """A finished sequence of a beam search.

    Attributes:
        tokens: tokens without the stop token.
        log_probability: log-probability of all tokens, the stop token included.
        score: log-probability divided by the length penalty, by which hypotheses are ranked.
        ended: whether a stop token ended it; otherwise the limit did.
    """

    tokens: list[int]
    log_probability: float
    score: float
    ended: bool


@dataclass(frozen=True)
class Rules:
    """The rules by which a beam search ranks sequences and ends.

    Attributes:
        penalty: divisor of log-probabilities: wu, ((5 + |Y|) / 6)^alpha (Wu et al. 2016, equation 14), or power,
            |Y|^alpha, as in transformers.
        early: True: a sample is done when as many sequences are finished as there are beams; False: when no unfinished
            sequence, scored at its present length, is better than the worst of these; never: the same, scored at its
            limit.
        longest: largest number of tokens of a sequence, the stop token included; None: the caller's limit.
        banned: tokens that are never generated.
        renormalise: whether the probabilities of the other tokens are renormalised.
        ends: whether a sequence that reaches its limit ends with the stop token, without a cost.
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
        """Return whether a sample's search may end.

        Args:
            found: its finished sequences.
            best: log-probability of its best unfinished sequence.
            length: number of tokens of unfinished sequences.
            limit: largest number of tokens.
            beams: number of beams.
            alpha: length penalty.
        """
        if len(found) < beams or self.early is True:
            return len(found) >= beams
        worst = sorted(one.score for one in found)[-beams]
        return self.rank(best, limit if self.early == "never" and alpha > 0 else length, alpha=alpha) <= worst

    def log_probabilities(self, logits: Float[Tensor, "R V"], stop: Sequence[int], last: Bool[Tensor, "R"]) -> Tensor:
        """Return the log-probabilities of the next token; with `ends`, only stop tokens are possible as the `last`."""
        logs = logits.float().log_softmax(-1)
        if len(self.banned):
            logs[:, list(self.banned)] = -torch.inf
        if self.ends:
            logs[last] = -torch.inf
            logs[last.nonzero(), torch.tensor(stop, device=logs.device)] = 0.0
        return logs.log_softmax(-1) if self.renormalise else logs


WU = Rules()


def length_penalty(length: int, alpha: float) -> float:
    """Return ((5 + |Y|) / 6)^alpha (Wu et al. 2016, equation 14)."""
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
    """Return the best sequences of each sample, best first: at least one, and at most `beams`.

    Among the `beams` best continuations, those that stop are finished, and the same number of others continues. A
    sample is done when `beams` sequences are finished (or by `rules`), or at its limit, where unfinished sequences are
    ranked with the others. One beam is greedy decoding; as many beams as there are sequences make an exhaustive search.
    Samples that are done leave the batch.

    Args:
        logits: logits of the first token of each sample.
        step: function from the tokens (R) of all beams to the logits of the next ones (R, V).
        reorder: called before each step with the index of the row that each row continues.
        beams: number of beams.
        limits: largest number of tokens of each sample, the stop token included.
        stop: tokens that end a sequence.
        alpha: exponent of the length penalty; 0: there is none; larger values favour longer sequences.
        rules: rules by which sequences are ranked and samples end.

    Raises:
        ValueError: `beams` or a limit is less than 1.
    """
    if beams < 1:
        raise ValueError(f"`beams` must be at least 1, but is {beams}.")
    if len(limits) and int(limits.min()) < 1:
        raise ValueError(f"a limit must be at least 1, but one is {int(limits.min())}.")
    found: list[list[Hypothesis]] = [[] for _ in range(len(logits))]
    ending = torch.tensor(stop, dtype=torch.long, device=logits.device)
    samples = torch.arange(len(logits), device=logits.device)  # samples that are not done
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
        order = ends.long().argsort(dim=1, stable=True)[:, :beams]  # unfinished ones first, the best ones first
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
    """Return the best continuations: their log-probabilities, best first, their beams and their tokens."""
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
    """Add the finished sequences to `found`."""
    where = where & scores.isfinite()
    rows = where.nonzero()[:, 0]
    for sample, total, tokens in zip(samples[rows].tolist(), scores[where].tolist(), past[where].tolist(), strict=True):
        kept = tokens[:-1] if ended else tokens
        found[sample].append(Hypothesis(kept, total, rank(total, past.shape[2]), ended))
