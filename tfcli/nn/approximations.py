"""Kernels that approximate the softmax or replace it, so that time and memory grow (almost) linearly with the length.

Each can also write its weights out, at quadratic cost: what `capture` shows and what the tests compare with.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, normalize, pad

from tfcli.errors import IncompatibleError
from tfcli.nn.patterns import Causal, Full, Pattern
from tfcli.nn.view import View
from tfcli.shapes import Bool, Float, Int

CHUNK = 128
"""Tokens that a causal pass takes at once."""


class Approximation(nn.Module):
    """What stands in for a softmax; built by an attention with its sizes.

    Args:
        heads: H.
        head_width: E.
        extent: size of each axis of the coordinates.
        special: number of special tokens.

    Attributes:
        name: in messages.
        causal: whether it can hide the future.
        shared: whether queries are the keys as well.
        refuses: what a position must not act on (see `Position.acts`).
    """

    name = ""
    causal = True
    shared = False
    refuses: tuple[str, ...] = ("scores",)

    def __init__(self, *, heads: int, head_width: int, extent: tuple[int, ...], special: int):
        super().__init__()

    def check(self, pattern: Pattern, extent: tuple[int, ...], special: int) -> None:
        """Refuse patterns that it cannot honour.

        Raises:
            IncompatibleError: with both names.
        """
        kinds = "full or causal" if self.causal else "full"
        if not isinstance(pattern, Full | Causal) or (isinstance(pattern, Causal) and not self.causal):
            raise IncompatibleError(f"{self.name} attention takes a {kinds} pattern, but was given {pattern}.")
        if isinstance(pattern, Causal) and (len(extent) > 1 or special):
            raise IncompatibleError(
                f"causal {self.name} attention runs along one axis without special tokens, "
                f"but these stand on {len(extent)} with {special}."
            )

    def weights(
        self, q: Float[Tensor, "B H N E"], k: Float[Tensor, "B H M E"], view: View | None = None
    ) -> Float[Tensor, "B H N M"]:
        """By how much each value counts: the output is these times `v`."""
        raise NotImplementedError

    def forward(
        self,
        q: Float[Tensor, "B H N E"],
        k: Float[Tensor, "B H M E"],
        v: Float[Tensor, "B H M E"],
        view: View | None = None,
        drop: float = 0.0,
    ) -> Float[Tensor, "B H N E"]:
        raise NotImplementedError


class Linear(Approximation):
    """elu + 1 of queries and keys in place of the softmax (Katharopoulos et al. 2020, equations 4 to 7).

    The mean of the values is taken with the weights phi(q) . phi(k), whose sums over keys are worked out once for all
    queries; in the causal form they grow from token to token.
    """

    name = "linear"
    refuses: tuple[str, ...] = ("scores", "queries")  # turned features would no longer be positive

    def features(
        self, q: Float[Tensor, "B H N E"], k: Float[Tensor, "B H M E"]
    ) -> tuple[Float[Tensor, "B H N F"], Float[Tensor, "B H M F"]]:
        """phi(q) and phi(k), not negative."""
        return elu(q) + 1, elu(k) + 1

    def weights(self, q, k, view=None):
        q_features, k_features = self.features(q.float(), k.float())
        scores = q_features @ k_features.mT
        if view is not None and (mask := view.mask) is not None:
            scores = scores * mask
        return (scores / scores.sum(-1, keepdim=True)).to(q.dtype)

    def forward(self, q, k, v, view=None, drop=0.0):
        with torch.autocast(q.device.type, enabled=False):  # sums over many tokens want float32
            q_features, k_features = self.features(q.float(), k.float())
            v32 = pad(v.float(), (0, 1), value=1.0)  # the last channel sums the weights
            if view is not None and view.valid is not None:
                k_features = k_features * view.valid[:, None, :, None]
            if view is None or isinstance(view.pattern, Full):
                sums = q_features @ (k_features.mT @ v32)
            else:
                sums = self._along(q_features, k_features, v32, view)
            return (sums[..., :-1] / sums[..., -1:].clamp(min=1e-12)).to(v.dtype)

    def _along(self, q: Tensor, k: Tensor, v: Tensor, view: View) -> Tensor:
        """Sums over what is not later than each query: of whole chunks before it, and within its own."""
        if not view.key.in_line:  # the tokens came in another order than they stand in
            order_q, order_k = view.query.coords[:, 0].argsort(), view.key.coords[:, 0].argsort()
            q, k, v = q[:, :, order_q], k[:, :, order_k], v[:, :, order_k]
            return _prefix_sums(q, k, v)[:, :, order_q.argsort()]
        return _prefix_sums(q, k, v)


def _prefix_sums(
    q: Float[Tensor, "B H N F"], k: Float[Tensor, "B H M F"], v: Float[Tensor, "B H M E"]
) -> Float[Tensor, "B H N E"]:
    """For each query, the sum of (q . k) v over the keys up to it; the queries are the last N of the M tokens."""
    past = k.shape[2] - q.shape[2]
    state = k[:, :, :past].mT @ v[:, :, :past]
    out = []
    for start in range(0, q.shape[2], CHUNK):
        q_here = q[:, :, start : start + CHUNK]
        k_here, v_here = (t[:, :, past + start : past + start + CHUNK] for t in (k, v))
        out.append(q_here @ state + (q_here @ k_here.mT).tril() @ v_here)
        state = state + k_here.mT @ v_here
    return torch.cat(out, 2)


class Performer(Linear):
    """The softmax itself, without bias, by positive random features (Choromanski et al. 2021, FAVOR+, section 2.3).

    phi(x) = m^-1/2 exp(w x' - |x'|^2 / 2) with x' = x E^-1/4 and w normal: in the mean, the products of features are
    exp(q . k E^-1/2). The w are orthogonal in blocks of E, which lowers the variance. The largest exponent is taken off
    first; it cancels.

    Args:
        num_features: m. The error of the weights falls like m^-1/2.
        orthogonal: whether the w are.
        redraw_steps: draw new w after so many training steps; 0: never.
        seed: of the first w, which are kept in the checkpoint.

    Raises:
        ValueError: there are no features.
    """

    name = "performer"
    refuses = ("scores",)
    projection: Tensor
    steps: Tensor

    def __init__(
        self,
        *,
        heads: int,
        head_width: int,
        extent: tuple[int, ...],
        special: int,
        num_features: int = 128,
        orthogonal: bool = True,
        redraw_steps: int = 0,
        seed: int = 0,
    ):
        super().__init__(heads=heads, head_width=head_width, extent=extent, special=special)
        if num_features < 1:
            raise ValueError(f"`attn.kernel.num_features` must be at least 1, but is {num_features}.")
        self.num_features, self.head_width = num_features, head_width
        self.orthogonal, self.redraw_steps = orthogonal, redraw_steps
        draw = torch.Generator().manual_seed(seed)
        first = random_projection(num_features, head_width, orthogonal=orthogonal, generator=draw)
        self.register_buffer("projection", first.to(torch.get_default_device()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def features(self, q, k):
        scale = self.head_width**-0.25
        return self._positive(q * scale, (-1,)), self._positive(k * scale, (-2, -1))

    def _positive(self, x: Float[Tensor, "B H N E"], over: tuple[int, ...]) -> Float[Tensor, "B H N F"]:
        exponent = x @ self.projection.to(x).T - x.square().sum(-1, keepdim=True) / 2
        return (exponent - exponent.amax(over, keepdim=True).detach()).exp() * self.num_features**-0.5

    def forward(self, q, k, v, view=None, drop=0.0):
        if self.training and self.redraw_steps:
            self.steps += 1
            if int(self.steps) % self.redraw_steps == 0:
                new = random_projection(self.num_features, self.head_width, orthogonal=self.orthogonal)
                self.projection.copy_(new)
        return super().forward(q, k, v, view, drop)


def random_projection(
    rows: int, width: int, *, orthogonal: bool = True, generator: torch.Generator | None = None
) -> Float[Tensor, "F E"]:
    """Normal vectors; orthogonal ones are so in blocks of `width`, each as long as a normal vector would be."""
    normal = torch.randn(rows, width, generator=generator, device="cpu")
    if not orthogonal:
        return normal
    blocks = -(-rows // width)
    turned, upper = torch.linalg.qr(torch.randn(blocks, width, width, generator=generator, device="cpu"))
    turned = turned * upper.diagonal(dim1=1, dim2=2).sign()[:, None]  # else LAPACK's choice of signs prefers directions
    return turned.mT.reshape(-1, width)[:rows] * normal.norm(dim=1, keepdim=True)


class Linformer(Approximation):
    """Keys and values of all places mixed down to `rank` of them (Wang et al. 2020, equation 7).

    The mixing matrices are learned; they start as means over neighbouring places (section 4, "general projections"), so
    that a rank as large as the length is exact attention. They have a column for each place, which fixes the length.

    Args:
        rank: the paper's k.
        share: none (matrices for keys and for values, each head its own), heads (the heads share them) or values (keys
            and values share as well). Sharing among layers is left out.

    Raises:
        ValueError: there is no such sharing, the places are not known, or the rank exceeds their number.
    """

    name = "linformer"
    causal = False

    def __init__(
        self,
        *,
        heads: int,
        head_width: int,
        extent: tuple[int, ...],
        special: int,
        rank: int = 64,
        share: str = "heads",
    ):
        super().__init__(heads=heads, head_width=head_width, extent=extent, special=special)
        if share not in ("none", "heads", "values"):
            raise ValueError(f"`attn.kernel.share` must be none, heads or values, but is {share!r}.")
        places = special + prod(extent) if extent else 0
        if not 1 <= rank <= places:
            raise ValueError(
                f"`attn.kernel.rank` must lie between 1 and the number of tokens, {places}, but is {rank}."
            )
        self.special = special
        owner = torch.arange(places) * rank // places  # stretches as even as they can be
        means = (owner == torch.arange(rank)[:, None]).float()
        means = means / means.sum(1, keepdim=True)
        own = heads if share == "none" else 1
        self.mix_k = nn.Parameter(means.expand(own, -1, -1).clone())
        self.mix_v = nn.Parameter(means.expand(own, -1, -1).clone()) if share != "values" else None

    def _mixed(self, x: Float[Tensor, "B H M E"], mix: Float[Tensor, "h R P"], view: View | None) -> Tensor:
        if view is not None:
            mix = mix[:, :, view.key.rows(self.special)]
            if view.valid is not None:
                x = x * view.valid[:, None, :, None]
        elif mix.shape[2] != x.shape[2]:
            raise IncompatibleError(
                f"linformer attention is built for {mix.shape[2]} tokens, but was given {x.shape[2]}."
            )
        return mix.to(x) @ x

    def _scores(self, q: Tensor, k: Tensor, view: View | None) -> Float[Tensor, "B H N R"]:
        return ((q * q.shape[-1] ** -0.5) @ self._mixed(k, self.mix_k, view).mT).softmax(-1)

    def weights(self, q, k, view=None):
        mix = self.mix_k if self.mix_v is None else self.mix_v
        one = torch.eye(k.shape[2], device=k.device).expand(len(k), 1, -1, -1)
        return (self._scores(q, k, view) @ self._mixed(one, mix, view)).to(q.dtype)

    def forward(self, q, k, v, view=None, drop=0.0):
        mix = self.mix_k if self.mix_v is None else self.mix_v
        return self._scores(q, k, view).to(v.dtype) @ self._mixed(v, mix, view)


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
        ValueError: `chunk` or `rounds` are less than 1, or the places are not known.
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
        chunk: int = 32,
        rounds: int = 4,
        seed: int = 0,
    ):
        super().__init__(heads=heads, head_width=head_width, extent=extent, special=special)
        if chunk < 1 or rounds < 1:
            raise ValueError(f"`attn.kernel.chunk` and `rounds` must be at least 1, but are {chunk} and {rounds}.")
        if not extent:
            raise ValueError("a hashing attention must be told how many tokens there are (`extent`).")
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
        causal = view is not None and isinstance(view.pattern, Causal)
        place = view.query.coords[:, 0] if causal else torch.arange(n, device=q.device)  # type: ignore[union-attr]
        scores, values, rows = [], [], []
        for r in range(self.rounds):
            at = _cut_order(order[:, :, r], self.chunk)  # (B, H, C, S), -1 where filled up
            seen = torch.cat([_before(at), at], -1)  # (B, H, C, 2 S)
            q_here, k_here, v_here = _take(q, at), normalize(_take(k, seen), dim=-1), _take(v, seen)
            s = ((q_here @ k_here.mT) * q.shape[-1] ** -0.5).float()
            fits, times = self._meetings(bucket, chunk, at, seen, r)
            if causal:
                fits = fits & (place[seen.clamp(min=0)][..., None, :] <= place[at.clamp(min=0)][..., None])
            s = s.masked_fill(at[..., None] == seen[..., None, :], SELF) - times.log()
            scores.append(s.masked_fill(~fits, -torch.inf))
            values.append(v_here)
            rows.append(at)
        return self._merge(scores, values, rows, n).to(v.dtype)

    def _meetings(
        self, bucket: Tensor, chunk: Tensor, at: Tensor, seen: Tensor, r: int
    ) -> tuple[Bool[Tensor, "B H C S K"], Float[Tensor, "B H C S K"]]:
        """Which pairs of a round meet in it, and in how many rounds they do in all."""
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


SELF = -1e5
"""The score of a token with itself, in place of its own: any other token wins."""


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
