"""Attention among the tokens that a random hash puts together: a softmax over few keys, in time n log n."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from tfcli.bounds import Count, Natural
from tfcli.nn.approximations import Approximation
from tfcli.nn.patterns import Causal
from tfcli.shapes import Bool, Float, Int

SELF = -1e5
"""The score of a token with itself, in place of its own: any other token wins."""


class Reformer(Approximation):
    """Softmax over the keys that fall into the query's bucket (Kitaev et al. 2020, section 2).

    Queries are the keys, scaled to length one. A bucket is the nearest of a set of random directions; tokens sorted by
    bucket are cut into chunks, and a query sees what shares its bucket in its chunk and the one before. Several rounds
    of hashing are merged into one softmax, in which a pair that meets in several rounds counts once. A token sees
    itself only where it sees nothing else.

    Args:
        chunk: tokens in a chunk; twice the mean size of a bucket.
        rounds: of hashing, each with directions of its own.
        seed: of the directions, which are kept in the checkpoint.

    Raises:
        ValueError: `chunk` or `rounds` are less than 1.
    """

    name = "reformer"
    shared = True
    directions: Tensor

    def __init__(
        self,
        *,
        heads: int,
        head_width: int,
        extent: tuple[int, ...],
        special: int,
        chunk: Count = 32,
        rounds: Count = 4,
        seed: Natural = 0,
    ):
        super().__init__(heads=heads, head_width=head_width, extent=extent, special=special)
        if chunk < 1 or rounds < 1:
            raise ValueError(f"`attn.kernel.chunk` and `rounds` must be at least 1, but are {chunk} and {rounds}.")
        self.chunk, self.rounds = chunk, rounds
        half = max(1, (special + prod(extent)) // chunk)  # directions come in pairs: x and -x
        # Many buckets are pairs of fewer: comparing each token with all would grow with the square of the length.
        self.factors = 1 if half <= 16 else 2
        side = half if self.factors == 1 else round((half / 2) ** 0.5)
        draw = torch.Generator().manual_seed(seed)
        directions = torch.randn(self.factors, rounds, head_width, side, generator=draw, device="cpu")
        self.register_buffer("directions", directions.to(torch.get_default_device()))

    def buckets(self, x: Float[Tensor, "B H N E"]) -> Int[Tensor, "B H rounds N"]:
        """The bucket of each token in each round."""
        turned = torch.einsum("bhne,frec->fbhrnc", x, self.directions.to(x))
        nearest = torch.cat([turned, -turned], -1).argmax(-1)
        return nearest[0] if self.factors == 1 else nearest[0] * turned.shape[-1] * 2 + nearest[1]

    def _sorted(self, x: Tensor, valid: Bool[Tensor, "B N"] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Order of the tokens, and bucket and chunk of each token, in each round: (B, H, rounds, N) each."""
        bucket = self.buckets(x)
        if valid is not None:
            bucket = bucket.masked_fill(~valid[:, None, None], x.shape[2] * 4)  # padding by itself
        order = bucket.argsort(dim=-1, stable=True)
        spot = torch.arange(x.shape[2], device=x.device).expand_as(order)
        chunk = torch.empty_like(order).scatter_(-1, order, spot) // self.chunk
        return order, bucket, chunk

    def weights(self, q, k, view=None):
        _, bucket, chunk = self._sorted(q.float(), view.valid if view is not None else None)
        back = chunk[..., :, None] - chunk[..., None, :]
        meets = ((bucket[..., :, None] == bucket[..., None, :]) & (back >= 0) & (back <= 1)).any(2)
        if view is not None and (mask := view.mask) is not None:
            meets = meets & mask
        scores = (q @ normalize(k, dim=-1).mT) * q.shape[-1] ** -0.5
        itself = torch.eye(q.shape[2], dtype=torch.bool, device=q.device)
        scores = scores.float().masked_fill(itself, SELF).masked_fill(~meets, -torch.inf)
        return scores.softmax(-1).to(q.dtype)

    def forward(self, q, k, v, view=None, drop=0.0):
        n = q.shape[2]
        order, bucket, chunk = self._sorted(q.float(), view.valid if view is not None else None)
        after = None
        if view is not None and isinstance(view.pattern, Causal):
            line = view.query.coords[..., 0]
            after = (line if view.query.shared else line[:, None]).expand(len(q), q.shape[1], -1)
        scores, values, rows = [], [], []
        for r in range(self.rounds):
            at = _cut_order(order[:, :, r], self.chunk)  # (B, H, C, S), -1 where filled up
            seen = torch.cat([_before(at), at], -1)  # (B, H, C, 2 S)
            q_here, k_here, v_here = _take(q, at), normalize(_take(k, seen), dim=-1), _take(v, seen)
            s = ((q_here @ k_here.mT) * q.shape[-1] ** -0.5).float()
            fits, times = self._meetings(bucket, chunk, at, seen, r)
            if after is not None:
                fits = fits & (_pick(after, seen)[..., None, :] <= _pick(after, at)[..., None])
            s = s.masked_fill(at[..., None] == seen[..., None, :], SELF) - times.log()
            scores.append(s.masked_fill(~fits, -torch.inf))
            values.append(v_here)
            rows.append(at)
        return self._merge(scores, values, rows, n).to(v.dtype)

    def _meetings(
        self, bucket: Tensor, chunk: Tensor, at: Tensor, seen: Tensor, r: int
    ) -> tuple[Bool[Tensor, "B H C S K"], Float[Tensor, "B H C S K"]]:
        """Return which pairs of a round share a bucket, and in how many rounds each pair does."""
        times = None
        fits = None
        for other in range(self.rounds):
            b, c = bucket[:, :, other], chunk[:, :, other]
            back = _pick(c, at)[..., :, None] - _pick(c, seen)[..., None, :]
            met = (_pick(b, at)[..., :, None] == _pick(b, seen)[..., None, :]) & (back >= 0) & (back <= 1)
            times = met.float() if times is None else times + met
            fits = met if other == r else fits
        assert fits is not None
        assert times is not None
        return fits & (at[..., :, None] >= 0) & (seen[..., None, :] >= 0), times.clamp(min=1)

    def _merge(self, scores: list[Tensor], values: list[Tensor], rows: list[Tensor], n: int) -> Tensor:
        """One softmax over the keys of all rounds: each round's mean, weighted by its share of the exponentials."""
        outs, logs = [], []
        for s, v, at in zip(scores, values, rows, strict=True):
            total = s.logsumexp(-1, keepdim=True)
            mean = (s - total.nan_to_num(neginf=0.0)).exp() @ v.float()
            back = at.flatten(2).masked_fill(at.flatten(2) < 0, n)  # filled-up rows go to a row that is cut off
            outs.append(_put(mean.flatten(2, 3), back, n))
            logs.append(_put(total.flatten(2, 3), back, n))
        share = torch.stack(logs).softmax(0)
        return (share * torch.stack(outs)).sum(0)


def _cut_order(order: Int[Tensor, "B H N"], size: int) -> Int[Tensor, "B H C S"]:
    return pad(order, (0, -order.shape[-1] % size), value=-1).unflatten(-1, (-1, size))


def _before(at: Int[Tensor, "B H C S"]) -> Int[Tensor, "B H C S"]:
    """The chunk before each chunk; before the first there is none."""
    return torch.cat([torch.full_like(at[:, :, :1], -1), at[:, :, :-1]], 2)


def _pick(x: Int[Tensor, "B H N"], at: Int[Tensor, "B H C K"]) -> Int[Tensor, "B H C K"]:
    return x.gather(-1, at.clamp(min=0).flatten(2)).view_as(at)


def _take(x: Float[Tensor, "B H N E"], at: Int[Tensor, "B H C K"]) -> Float[Tensor, "B H C K E"]:
    index = at.clamp(min=0).flatten(2)[..., None].expand(-1, -1, -1, x.shape[-1])
    return x.gather(2, index).unflatten(2, at.shape[2:])


def _put(x: Float[Tensor, "B H K E"], at: Int[Tensor, "B H K"], n: int) -> Float[Tensor, "B H N E"]:
    """Rows back to the tokens they belong to."""
    out = x.new_zeros(*x.shape[:2], n + 1, x.shape[-1])
    return out.scatter(2, at[..., None].expand_as(x), x)[:, :, :n]
