"""Kernels that approximate the softmax or replace it, so that time and memory grow (almost) linearly with the length.

Each can also write its weights out, at quadratic cost: what `capture` shows and what the tests compare with.
"""

from __future__ import annotations

from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, pad

from tfcli.bounds import Count, Natural
from tfcli.errors import IncompatibleError
from tfcli.nn.patterns import Causal, Full, Pattern
from tfcli.nn.view import View
from tfcli.shapes import Float, Int

CHUNK = 128
"""Tokens that a causal pass takes at once."""


class Approximation(nn.Module):
    """Base class of what replaces softmax attention; an `Attention` builds it with its own sizes.

    Args:
        heads: H.
        head_width: E.
        extent: size of each axis of the coordinates.
        special: number of special tokens.

    Attributes:
        name: in messages.
        causal: whether it can hide the future.
        shared: whether queries are the keys as well.
        across: whether it takes any number of tokens at any places, and so can look at a memory.
        refuses: what a position must not act on (see `Position.applies_to`).

    Raises:
        IncompatibleError: it needs to know the places, as it does not of a memory.
    """

    name = ""
    causal = True
    shared = False
    across = False
    refuses: tuple[str, ...] = ("scores",)

    def __init__(self, *, heads: int, head_width: int, extent: tuple[int, ...], special: int):
        super().__init__()
        if not extent and not self.across:
            raise IncompatibleError(
                f"{self.name} attention is built for a known number of tokens (`extent`), so it cannot look at a "
                "memory."
            )

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
    across = True
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
            order_q, order_k = (places.coords[..., 0].argsort(-1) for places in (view.query, view.key))
            q, k, v = _sorted(q, order_q), _sorted(k, order_k), _sorted(v, order_k)
            return _sorted(_prefix_sums(q, k, v), order_q.argsort(-1))
        return _prefix_sums(q, k, v)


def _sorted(t: Float[Tensor, "B H N E"], order: Int[Tensor, "*b N"]) -> Float[Tensor, "B H N E"]:
    return t.take_along_dim(order.expand(len(t), -1)[:, None, :, None], 2)


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
        num_features: Count = 128,
        orthogonal: bool = True,
        redraw_steps: Natural = 0,
        seed: Natural = 0,
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
        ValueError: there is no such sharing, or the rank exceeds the number of places.
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
        rank: Count = 64,
        share: Literal["none", "heads", "values"] = "heads",
    ):
        super().__init__(heads=heads, head_width=head_width, extent=extent, special=special)
        if share not in ("none", "heads", "values"):
            raise ValueError(f"`attn.kernel.share` must be none, heads or values, but is {share!r}.")
        places = special + prod(extent)
        if not 1 <= rank <= places:
            raise ValueError(
                f"`attn.kernel.rank` must lie between 1 and the number of tokens, {places}, but is {rank}."
            )
        self.extent, self.special = extent, special
        owner = torch.arange(places) * rank // places  # stretches as even as they can be
        means = (owner == torch.arange(rank)[:, None]).float()
        means = means / means.sum(1, keepdim=True)
        own = heads if share == "none" else 1
        self.mix_k = nn.Parameter(means.expand(own, -1, -1).clone())
        self.mix_v = nn.Parameter(means.expand(own, -1, -1).clone()) if share != "values" else None

    def _mixed(self, x: Float[Tensor, "B H M E"], mix: Float[Tensor, "h R P"], view: View | None) -> Tensor:
        if view is not None:
            if len(self.extent) > 1 and view.key.extent != self.extent:
                raise IncompatibleError(
                    f"linformer attention is built for a grid of {self.extent} tokens, but was given one of "
                    f"{view.key.extent}: its maps of places cannot be resampled."
                )
            mix = mix[:, :, view.key.rows(self.special)]  # (h, R, M), or (h, R, B, M) of each sample's own places
            mix = mix if mix.ndim == 3 else mix.movedim(2, 0)
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
