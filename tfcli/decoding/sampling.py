"""Autoregressive generation: greedy decoding, and sampling with temperature, top-k, top-p and repetition penalty.

A model is a function `step` from the tokens just chosen (B) to the logits of the next (B, V), which keeps its own
state. The logits of the first token come from the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tfcli.shapes import Bool, Float, Int

Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sampler:
    """The rule by which the next token is chosen. The options apply in this order.

    Args:
        repetition_penalty: divisor of positive logits, and factor of negative logits, of tokens that have occurred
            (Keskar et al. 2019, CTRL, section 4.1); 1: no change.
        temperature: divisor of the logits; 0: the most likely token is chosen.
        top_k: keep the `top_k` most likely tokens only (Fan et al. 2018); None: all.
        top_p: keep the most likely tokens up to this total probability only, including the one that reaches it
            (Holtzman et al. 2020, nucleus sampling); 1: all.

    Raises:
        ValueError: a number is out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"`temperature` must be at least 0 (0: the most likely token), but is {self.temperature}.")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"`top_k` must be at least 1, but is {self.top_k}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"`top_p` must be above 0 and at most 1, but is {self.top_p}.")
        if not self.repetition_penalty > 0:
            raise ValueError(f"`repetition_penalty` must be above 0, but is {self.repetition_penalty}.")

    def __call__(
        self,
        logits: Float[Tensor, "B V"],
        seen: Bool[Tensor, "B V"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B"]:
        """Choose the next token of each sample.

        Args:
            logits: logits of the next token.
            seen: True for tokens that have occurred; None: there are none.
            generator: random generator on the CPU, so that all devices draw the same numbers.
        """
        logits = self.penalised(logits.float(), seen)
        if self.temperature == 0:
            return logits.argmax(-1)
        probability, ids = self.kept(logits)
        cumulative = probability.cumsum(-1)
        drawn = torch.rand(len(logits), 1, generator=generator).to(logits.device) * cumulative[:, -1:]
        place = torch.searchsorted(cumulative, drawn, right=True)
        if ids is None:
            return place.clamp_(max=probability.shape[-1] - 1)[:, 0]
        last = (probability > 0).sum(-1, keepdim=True) - 1
        return ids.gather(-1, torch.minimum(place, last))[:, 0]

    def penalised(self, logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None) -> Float[Tensor, "B V"]:
        """Apply the repetition penalty."""
        if seen is None or self.repetition_penalty == 1:
            return logits
        lowered = torch.where(logits > 0, logits / self.repetition_penalty, logits * self.repetition_penalty)
        return torch.where(seen, lowered, logits)

    def kept(self, logits: Float[Tensor, "B V"]) -> tuple[Float[Tensor, "B R"], Int[Tensor, "B R"] | None]:
        """Return the probabilities of the tokens that are kept, most likely first, and their ids.

        Tokens that `top_p` removes have probability 0. Without top-k and top-p the order is that of the vocabulary, and
        the ids are None.
        """
        logits, ids = logits / self.temperature, None
        if self.top_k is not None:
            logits, ids = logits.topk(min(self.top_k, logits.shape[-1]))
        elif self.top_p < 1:
            logits, ids = logits.sort(descending=True)
        probability = logits.softmax(-1)
        if self.top_p < 1:
            before = probability.cumsum(-1) - probability
            before[:, 0] = 0  # at least one token is kept, for any rounding
            probability = probability.masked_fill(before >= self.top_p, 0.0)
            probability = probability / probability.sum(-1, keepdim=True)
        return probability, ids


GREEDY = Sampler(temperature=0.0)


def generate(
    logits: Float[Tensor, "B V"],
    step: Step,
    *,
    limit: int,
    stop: Sequence[int] = (),
    sampler: Sampler = GREEDY,
    prompt: Int[Tensor, "B N"] | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Int[Tensor, "B"]]:
    """Yield the next tokens (B), one at a time, until all samples have ended.

    A sample that has ended repeats its stop token, which the caller removes (`until`).

    Args:
        logits: logits of the first token.
        step: function from chosen tokens to the logits of the next ones.
        limit: largest number of tokens of a sample.
        stop: tokens that end a sample.
        sampler: rule by which tokens are chosen.
        prompt: tokens of the prompt, to which the repetition penalty also applies.
        generator: random generator on the CPU.
    """
    seen = None
    if sampler.repetition_penalty != 1:
        seen = torch.zeros_like(logits, dtype=torch.bool)
        if prompt is not None:
            seen.scatter_(1, prompt, True)
    ending = torch.tensor(stop, dtype=torch.long, device=logits.device)
    ended = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    token: Tensor | None = None
    for length in range(limit):
        chosen = sampler(logits, seen, generator)
        token = chosen if token is None else torch.where(ended, token, chosen)
        if seen is not None:
            seen.scatter_(1, token[:, None], True)
        yield token
        if len(ending):
            ended |= torch.isin(token, ending)
            if bool(ended.all()):
                return
        if length + 1 < limit:
            logits = step(token)


def greedy(
    logits: Float[Tensor, "B V"], step: Step, *, limits: Int[Tensor, "B"], stop: Sequence[int]
) -> list[list[int]]:
    """Decode greedily; return the tokens of each sample without the stop token, cut at `limits`."""
    columns = list(generate(logits, step, limit=int(limits.max()), stop=stop))
    rows = torch.stack(columns, 1).tolist() if columns else [[]] * len(logits)
    return [until(row[:limit], stop) for row, limit in zip(rows, limits.tolist(), strict=True)]


def until(tokens: Sequence[int], stop: Sequence[int]) -> list[int]:
    """Return the tokens before the first stop token."""
    end = next((place for place, token in enumerate(tokens) if token in stop), len(tokens))
    return list(tokens[:end])
