"""One token after another: the likeliest each time, or drawn from a distribution that may be cut and sharpened.

A model is met as `step`, which takes the tokens just chosen (B) and gives the logits of the next (B, V); what it
remembers is its own affair. The logits of the first token come from the prompt.
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
    """How the next token is chosen. The options act in this order.

    Args:
        repetition_penalty: logits of tokens that occurred are divided by it where positive, multiplied where negative
            (Keskar et al. 2019, CTRL, section 4.1); 1: they are not touched.
        temperature: logits are divided by it; 0: the likeliest token is taken.
        top_k: only the `top_k` likeliest tokens are kept (Fan et al. 2018); None: all.
        top_p: only the likeliest tokens that make up this probability are kept, the one that crosses it included
            (Holtzman et al. 2020, nucleus sampling); 1: all.

    Raises:
        ValueError: a number out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"`temperature` must be at least 0 (0: the likeliest token), but is {self.temperature}.")
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
        """The next token of each sample.

        Args:
            seen: True for the tokens that occurred; None: none did.
            generator: of the draws, on the CPU, so that they are the same on every device.
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
        if seen is None or self.repetition_penalty == 1:
            return logits
        lowered = torch.where(logits > 0, logits / self.repetition_penalty, logits * self.repetition_penalty)
        return torch.where(seen, lowered, logits)

    def kept(self, logits: Float[Tensor, "B V"]) -> tuple[Float[Tensor, "B R"], Int[Tensor, "B R"] | None]:
        """Probabilities of the tokens that are left, likeliest first, and which they are; None: all, as they stand.

        Those that `top_p` leaves out are 0.
        """
        logits, ids = logits / self.temperature, None
        if self.top_k is not None:
            logits, ids = logits.topk(min(self.top_k, logits.shape[-1]))
        elif self.top_p < 1:
            logits, ids = logits.sort(descending=True)
        probability = logits.softmax(-1)
        if self.top_p < 1:
            before = probability.cumsum(-1) - probability
            before[:, 0] = 0  # at least one is left, whatever the rounding
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
    """The tokens (B) that follow, as they are chosen, until all samples have ended.

    A sample that has ended goes on with its stop token, which whoever listens cuts off (`until`).

    Args:
        logits: of the first token.
        limit: most tokens of a sample.
        stop: tokens that end a sample.
        prompt: what stands before; counts as seen for the repetition penalty.
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
    """The likeliest token each time. The samples' tokens without the stop, cut at `limits`."""
    columns = list(generate(logits, step, limit=int(limits.max()), stop=stop))
    rows = torch.stack(columns, 1).tolist() if columns else [[]] * len(logits)
    return [until(row[:limit], stop) for row, limit in zip(rows, limits.tolist(), strict=True)]


def until(tokens: Sequence[int], stop: Sequence[int]) -> list[int]:
    """The tokens before the first stop."""
    end = next((place for place, token in enumerate(tokens) if token in stop), len(tokens))
    return list(tokens[:end])
