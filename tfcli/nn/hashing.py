"""Reformer attention: locality-sensitive hashing selects few keys for each query, in time n log n."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from tfcli.bounds import Count, Natural
from tfcli.nn.approximations import Approximation
from tfcli.nn.patterns import Causal
from tfcli.shapes import Bool, Float, Int

SELF = -1e5
"""Score of a token with itself: so low that it counts only where the token sees no other."""


class Reformer(Approximation):
    """Softmax over the keys in the query's hash bucket (Kitaev et al. 2020, section 2).

    Keys are the queries, scaled to length one. The bucket of a token is the nearest of a set of random directions.
    Tokens sorted by bucket are cut into chunks, and a query sees the keys of its bucket in its chunk and the chunk
    before. Several rounds of hashing are merged into one softmax, which counts each pair once. A token sees itself only
    where it sees no other token.

    Args:
        chunk: number of tokens in a chunk; twice the mean size of a bucket.
        rounds: number of hashing rounds, each with its own directions.
        seed: of the directions, which the checkpoint stores.
        sizes: as for `Approximation`.

    Raises:
        ValueError: `chunk` or `rounds` are less than 1.
    """

    name = "reformer"
    shared = True
    directions: Tensor

    def __init__(self, *, chunk: Count = 32, rounds: Count = 4, seed: Natural = 0, **sizes: Any):
        super().__init__(**sizes)
        if chunk < 1 or rounds < 1:
            raise ValueError(f"`attn.kernel.chunk` and `rounds` must be at least 1, but are {chunk} and {rounds}.")
        self.chunk, self.rounds = chunk, rounds
        half = max(1, (self.special + prod(self.extent)) // chunk)  # directions come in pairs: x and -x
        # Many buckets are pairs of two hashes: comparing each token with all directions would take quadratic time.
        self.factors = 1 if half <= 16 else 2
        side = half if self.factors == 1 else round((half / 2) ** 0.5)
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(self.factors, rounds, self.head_width, side, generator=generator, device="cpu")
        self.register_buffer("directions", directions.to(torch.get_default_device()))

    def buckets(self, x: Float[Tensor, "B H N E"]) -> Int[Tensor, "B H rounds N"]:
        """Return the bucket of each token in each round."""
        products = torch.einsum("bhne,frec->fbhrnc", x, self.directions.to(x))
        nearest = torch.cat([products, -products], -1).argmax(-1)
        return nearest[0] if self.factors == 1 else nearest[0] * products.shape[-1] * 2 + nearest[1]

    def _hash(self, x: Tensor, valid: Bool[Tensor, "B N"] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the order of the tokens, and bucket and chunk of each token, in each round: (B, H, rounds, N) each."""
        bucket = self.buckets(x)
        if valid is not None:
            bucket = bucket.masked_fill(~valid[:, None, None], x.shape[2] * 4)  # padding has its own bucket
        order = bucket.argsort(dim=-1, stable=True)
        rank = torch.arange(x.shape[2], device=x.device).expand_as(order)
        chunk = torch.empty_like(order).scatter_(-1, order, rank) // self.chunk
        return order, bucket, chunk

    def weights(self, q, k, view=None):
        _, bucket, chunk = self._hash(q.float(), view.valid if view is not None else None)
        mask = _pairs(bucket, bucket, chunk, chunk).any(2)
        if view is not None and view.mask is not None:
            mask = mask & view.mask
        scores = (q @ normalize(k, dim=-1).mT) * q.shape[-1] ** -0.5
        itself = torch.eye(q.shape[2], dtype=torch.bool, device=q.device)
        scores = scores.float().masked_fill(itself, SELF).masked_fill(~mask, -torch.inf)
        return scores.softmax(-1).to(q.dtype)

    def forward(self, q, k, v, view=None, drop=0.0):
        n = q.shape[2]
        order, bucket, chunk = self._hash(q.float(), view.valid if view is not None else None)
        line = None
        if view is not None and isinstance(view.pattern, Causal):
            line = view.query.coords[..., 0]
            line = (line if view.query.shared else line[:, None]).expand(len(q), q.shape[1], -1)
        scores, values, queries = [], [], []
        for r in range(self.rounds):
            query = _cut_order(order[:, :, r], self.chunk)  # (B, H, C, S) indices of tokens, -1 where there is none
            key = torch.cat([_previous_chunk(query), query], -1)  # (B, H, C, 2 S)
            q_here, k_here, v_here = _take(q, query), normalize(_take(k, key), dim=-1), _take(v, key)
            s = ((q_here @ k_here.mT) * q.shape[-1] ** -0.5).float()
            mask, times = self._shared_buckets(bucket, chunk, query, key, r)
            if line is not None:
                mask = mask & (_pick(line, key)[..., None, :] <= _pick(line, query)[..., None])
            s = s.masked_fill(query[..., None] == key[..., None, :], SELF) - times.log()
            scores.append(s.masked_fill(~mask, -torch.inf))
            values.append(v_here)
            queries.append(query)
        return self._merge(scores, values, queries, n).to(v.dtype)

    def _shared_buckets(
        self, bucket: Tensor, chunk: Tensor, query: Tensor, key: Tensor, r: int
    ) -> tuple[Bool[Tensor, "B H C S K"], Float[Tensor, "B H C S K"]]:
        """Return which pairs of round `r` share a bucket, and in how many rounds each pair does."""
        rounds = [[_pick(t[:, :, i], at) for t in (bucket, chunk) for at in (query, key)] for i in range(self.rounds)]
        pairs = [_pairs(*parts) for parts in rounds]
        times = pairs[0].float()
        for other in pairs[1:]:
            times = times + other
        return pairs[r] & (query[..., :, None] >= 0) & (key[..., None, :] >= 0), times.clamp(min=1)

    def _merge(self, scores: list[Tensor], values: list[Tensor], queries: list[Tensor], n: int) -> Tensor:
        """Merge the rounds into one softmax: their means, weighted by their sums of exponentials."""
        outs, logs = [], []
        for s, v, query in zip(scores, values, queries, strict=True):
            total = s.logsumexp(-1, keepdim=True)
            mean = (s - total.nan_to_num(neginf=0.0)).exp() @ v.float()
            index = query.flatten(2).masked_fill(query.flatten(2) < 0, n)  # padding goes to a row that is cut off
            outs.append(_scatter(mean.flatten(2, 3), index, n))
            logs.append(_scatter(total.flatten(2, 3), index, n))
        share = torch.stack(logs).softmax(0)
        return (share * torch.stack(outs)).sum(0)


def _pairs(q_bucket: Tensor, k_bucket: Tensor, q_chunk: Tensor, k_chunk: Tensor) -> Bool[Tensor, "*b N M"]:
    """Return whether query and key share a bucket, the key being in the query's chunk or in the one before."""
    back = q_chunk[..., :, None] - k_chunk[..., None, :]
    return (q_bucket[..., :, None] == k_bucket[..., None, :]) & (back >= 0) & (back <= 1)


def _cut_order(order: Int[Tensor, "B H N"], size: int) -> Int[Tensor, "B H C S"]:
    return pad(order, (0, -order.shape[-1] % size), value=-1).unflatten(-1, (-1, size))


def _previous_chunk(index: Int[Tensor, "B H C S"]) -> Int[Tensor, "B H C S"]:
    """Return the chunk before each chunk; -1 before the first."""
    return torch.cat([torch.full_like(index[:, :, :1], -1), index[:, :, :-1]], 2)


def _pick(x: Int[Tensor, "B H N"], index: Int[Tensor, "B H C K"]) -> Int[Tensor, "B H C K"]:
    return x.gather(-1, index.clamp(min=0).flatten(2)).view_as(index)


def _take(x: Float[Tensor, "B H N E"], index: Int[Tensor, "B H C K"]) -> Float[Tensor, "B H C K E"]:
    flat = index.clamp(min=0).flatten(2)[..., None].expand(-1, -1, -1, x.shape[-1])
    return x.gather(2, flat).unflatten(2, index.shape[2:])


def _scatter(x: Float[Tensor, "B H K E"], index: Int[Tensor, "B H K"], n: int) -> Float[Tensor, "B H N E"]:
    """Move rows back to their tokens."""
    out = x.new_zeros(*x.shape[:2], n + 1, x.shape[-1])
    return out.scatter(2, index[..., None].expand_as(x), x)[:, :, :n]
