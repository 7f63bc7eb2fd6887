"""Efficient attention kernels: they approximate or replace the softmax, in (almost) linear time and memory.

Each can also return its attention weights, at quadratic cost: `capture` shows them, and the tests compare with them.
"""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, pad

from tfcli.bounds import Count, Natural
from tfcli.errors import IncompatibleError
from tfcli.nn.patterns import Causal, Full, Pattern
from tfcli.nn.view import View
from tfcli.shapes import Float, Int

CHUNK = 128
"""Number of tokens that a causal pass processes at once."""


class Approximation(nn.Module):
    """Base class of kernels that replace softmax attention; an `Attention` builds it with its own sizes.

    Args:
        heads: H, the number of heads.
        head_width: E, the width of a head.
        extent: size of each axis of the coordinates.
        special: number of special tokens.

    Attributes:
        name: the name in error messages.
        causal: whether it supports a causal pattern.
        shared: whether the queries are also the keys.
        across: whether it accepts any number of tokens at any places, and so supports cross-attention.
        refuses: parts on which a position must not act (see `Position.applies_to`).

    Raises:
        IncompatibleError: it needs to know the places, which are not known for a memory.
    """

    name = ""
    causal = True
    shared = False
    across = False
    refuses: tuple[str, ...] = ("scores",)

    def __init__(self, *, heads: int, head_width: int, extent: tuple[int, ...], special: int):
        super().__init__()
        self.head_width, self.extent, self.special = head_width, extent, special
        if not extent and not self.across:
            raise IncompatibleError(
                f"{self.name} attention is built for a known number of tokens (`extent`), so it cannot look at a "
                "memory."
            )

    def check(self, pattern: Pattern, extent: tuple[int, ...], special: int) -> None:
        """Refuse a pattern that this kernel does not support.

        Raises:
            IncompatibleError: the pattern is not supported.
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
        """Return the attention weights: the output is their product with `v`."""
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
    """Linear attention: the softmax is replaced by products of elu + 1 (Katharopoulos et al. 2020, equations 4 to 7).

    The weights are phi(q) . phi(k). Their sums over keys are computed once for all queries; in the causal form they are
    cumulative sums.
    """

    name = "linear"
    across = True
    refuses: tuple[str, ...] = ("scores", "queries")  # turned features would no longer be positive

    def features(
        self, q: Float[Tensor, "B H N E"], k: Float[Tensor, "B H M E"]
    ) -> tuple[Float[Tensor, "B H N F"], Float[Tensor, "B H M F"]]:
        """Return phi(q) and phi(k), which are not negative."""
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
                sums = self._causal_sums(q_features, k_features, v32, view)
            return (sums[..., :-1] / sums[..., -1:].clamp(min=1e-12)).to(v.dtype)

    def _causal_sums(self, q: Tensor, k: Tensor, v: Tensor, view: View) -> Tensor:
        """Return the sums over the keys that are not later than each query, whatever the order of the tokens."""
        if not view.key.in_line:
            order_q, order_k = (places.coords[..., 0].argsort(-1) for places in (view.query, view.key))
            q, k, v = _reordered(q, order_q), _reordered(k, order_k), _reordered(v, order_k)
            return _reordered(_prefix_sums(q, k, v), order_q.argsort(-1))
        return _prefix_sums(q, k, v)


def _reordered(t: Float[Tensor, "B H N E"], order: Int[Tensor, "*b N"]) -> Float[Tensor, "B H N E"]:
    return t.take_along_dim(order.expand(len(t), -1)[:, None, :, None], 2)


def _prefix_sums(
    q: Float[Tensor, "B H N F"], k: Float[Tensor, "B H M F"], v: Float[Tensor, "B H M E"]
) -> Float[Tensor, "B H N E"]:
    """Return for each query the sum of (q . k) v over the keys up to it; the queries are the last N of the M tokens."""
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
    """An unbiased estimate of the softmax by positive random features (Choromanski et al. 2021, FAVOR+, section 2.3).

    phi(x) = m^-1/2 exp(w x' - |x'|^2 / 2) with x' = x E^-1/4 and w normal: the expected product of two features is
    exp(q . k E^-1/2). The w are orthogonal in blocks of E, which lowers the variance. The largest exponent is
    subtracted first for numerical stability; it cancels.

    Args:
        num_features: m. The error of the weights falls like m^-1/2.
        orthogonal: whether the w are orthogonal.
        redraw_steps: number of training steps after which new w are drawn; 0: never.
        seed: of the first w, which the checkpoint stores.
        sizes: as for `Approximation`.

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
        num_features: Count = 128,
        orthogonal: bool = True,
        redraw_steps: Natural = 0,
        seed: Natural = 0,
        **sizes: Any,
    ):
        super().__init__(**sizes)
        if num_features < 1:
            raise ValueError(f"`attn.kernel.num_features` must be at least 1, but is {num_features}.")
        self.num_features, self.orthogonal, self.redraw_steps = num_features, orthogonal, redraw_steps
        generator = torch.Generator().manual_seed(seed)
        first = random_projection(num_features, self.head_width, orthogonal=orthogonal, generator=generator)
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
    """Draw normal vectors; `orthogonal` makes them so in blocks of `width`, with the lengths of normal vectors."""
    normal = torch.randn(rows, width, generator=generator, device="cpu")
    if not orthogonal:
        return normal
    blocks = -(-rows // width)
    q, r = torch.linalg.qr(torch.randn(blocks, width, width, generator=generator, device="cpu"))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]  # LAPACK's signs would favour some directions
    return q.mT.reshape(-1, width)[:rows] * normal.norm(dim=1, keepdim=True)


class Linformer(Approximation):
    """Low-rank attention: learned projections reduce the keys and values to `rank` (Wang et al. 2020, equation 7).

    The projections start as means over neighbouring places (section 4, "general projections"), so that a rank equal to
    the length is exact attention. They have a column for each place, which fixes the length.

    Args:
        rank: the paper's k.
        share: none (each head has its own projections of keys and of values), heads (all heads share them) or values
            (keys and values share them, too). Sharing among layers is left out.
        heads: H, the number of heads.
        sizes: as for `Approximation`.

    Raises:
        ValueError: there is no such sharing, or the rank exceeds the number of places.
    """

    name = "linformer"
    causal = False

    def __init__(
        self,
        *,
        heads: int,
        rank: Count = 64,
        share: Literal["none", "heads", "values"] = "heads",
        **sizes: Any,
    ):
        super().__init__(heads=heads, **sizes)
        if share not in ("none", "heads", "values"):
            raise ValueError(f"`attn.kernel.share` must be none, heads or values, but is {share!r}.")
        places = self.special + prod(self.extent)
        if not 1 <= rank <= places:
            raise ValueError(
                f"`attn.kernel.rank` must lie between 1 and the number of tokens, {places}, but is {rank}."
            )
        group = torch.arange(places) * rank // places  # groups of neighbouring places, as even as possible
        means = (group == torch.arange(rank)[:, None]).float()
        means = means / means.sum(1, keepdim=True)
        matrices = heads if share == "none" else 1
        self.mix_k = nn.Parameter(means.expand(matrices, -1, -1).clone())
        self.mix_v = nn.Parameter(means.expand(matrices, -1, -1).clone()) if share != "values" else None

    def _mixed(self, x: Float[Tensor, "B H M E"], mix: Float[Tensor, "h R P"], view: View | None) -> Tensor:
        if view is not None:
            if len(self.extent) > 1 and view.key.extent != self.extent:
                raise IncompatibleError(
                    f"linformer attention is built for a grid of {self.extent} tokens, but was given one of "
                    f"{view.key.extent}: its projections cannot be resampled."
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
