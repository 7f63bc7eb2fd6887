"""Write text with a trained language model, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from tfcli.decoding.sampling import GREEDY, Sampler, generate
from tfcli.engine.runs.folder import say
from tfcli.engine.use.language_model import LoadedLanguageModel
from tfcli.nn.cache import Cache


class Reader:
    """A language model as a step: it reads a prompt, then one token after another.

    Where its context is full it goes on from the last half of it, read anew.

    Args:
        net: `net(tokens, cache)` gives logits (B, N, V).
        context: the most tokens that it takes; None: any number.
        cached: keep keys and values; False reads everything again for each token.
    """

    def __init__(self, net: nn.Module, *, context: int | None, cached: bool = True):
        self.net, self.context, self.cached = net, context or 10**9, cached
        self.cache: Cache | None = None
        self.tokens = torch.empty(0)

    @torch.inference_mode()
    def begin(self, tokens: Tensor) -> Tensor:
        """Read a prompt (B, N), of at most the context; logits (B, V) of what follows it."""
        self.tokens, self.cache = tokens, Cache() if self.cached else None
        return self.net(tokens, self.cache)[:, -1]

    @torch.inference_mode()
    def step(self, token: Tensor) -> Tensor:
        """Read one token (B) more; logits (B, V) of the next."""
        tokens = torch.cat([self.tokens, token[:, None]], 1)
        if tokens.shape[1] > self.context:
            return self.begin(tokens[:, -max(1, self.context // 2) :])
        if not self.cached:
            return self.begin(tokens)
        self.tokens = tokens
        return self.net(token[:, None], self.cache)[:, -1]


def start_mark(loaded: LoadedLanguageModel) -> int | None:
    """Return the token that texts begin with in the training of our own models; None where the vocabulary has none."""
    tokenizer = loaded.tokenizer
    return tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id


def prompt_ids(loaded: LoadedLanguageModel, text: str, *, start: bool = False) -> list[int]:
    """Encode a text as it is written, without any mark unless it is empty.

    Args:
        start: put the mark that texts begin with before it.
    """
    ids, mark = loaded.tokenizer.encode([text])[0], start_mark(loaded)
    if mark is not None and (start or not ids):
        return [mark, *ids]
    return ids or [0]  # a vocabulary without marks and an empty prompt: from its first token on


def continuations(
    loaded: LoadedLanguageModel,
    prompt: str,
    sampler: Sampler,
    *,
    length: int,
    cache: bool = True,
    seed: int = 0,
    start: bool = False,
) -> Iterator[str]:
    """Yield the text that a model writes after a prompt, until it ends the text or has written `length` tokens.

    A prompt that is longer than the context is read from its end, which is said.

    Args:
        start: put the mark that texts begin with before the prompt.
    """
    ids = prompt_ids(loaded, prompt, start=start)
    if loaded.context and len(ids) > loaded.context:
        say(f"the prompt has {len(ids)} tokens; its last {loaded.context} are read (model.context)")
        ids = ids[-loaded.context :]
    reader = Reader(loaded.net, context=loaded.context, cached=cache)
    tokens = torch.tensor([ids], device=loaded.device)
    end = loaded.tokenizer.eos_id
    draws = torch.Generator().manual_seed(seed)
    chosen = generate(
        reader.begin(tokens), reader.step, limit=length, stop=[] if end is None else [end], sampler=sampler,
        prompt=tokens, generator=draws,
    )  # fmt: skip
    yield from _spelled(loaded, (int(token) for token in chosen), end)


def greedy(loaded: LoadedLanguageModel, ids: Sequence[int], *, until: str, length: int) -> str:
    """Return the likeliest continuation of a prompt, up to the text `until`."""
    reader = Reader(loaded.net, context=loaded.context)
    tokens, end = torch.tensor([list(ids)], device=loaded.device), loaded.tokenizer.eos_id
    stop = [] if end is None else [end]
    written = ""
    chosen = generate(reader.begin(tokens), reader.step, limit=length, stop=stop, sampler=GREEDY)
    for piece in _spelled(loaded, (int(token) for token in chosen), end):
        written += piece
        if until and until in written:
            return written.partition(until)[0]
    return written


def _spelled(loaded: LoadedLanguageModel, tokens: Iterator[int], end: int | None) -> Iterator[str]:
    """Yield tokens as text, each piece as soon as its last character is whole; the rest at the end as it is."""
    ids: list[int] = []
    written = text = ""
    for token in tokens:
        if token == end:
            break
        ids.append(token)
        text = loaded.tokenizer.decode(ids)
        if not text.endswith("\N{REPLACEMENT CHARACTER}") and len(text) > len(written):
            yield text[len(written) :]
            written = text
    if len(text) > len(written):
        yield text[len(written) :]
