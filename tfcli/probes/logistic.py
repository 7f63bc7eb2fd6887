"""Multinomial logistic regression with an L2 penalty: scikit-learn's solution in a fraction of the steps.

The objective is scikit-learn's: `|W|^2 / 2 + C sum_i CE(W x_i + b, y_i)`, where the intercept b is not penalised; with
two classes scikit-learn's binary form, `|w|^2 / 2 + C sum_i log(1 + exp(-z_i))`, which equals it with half the C.

Neither a rotation of the features nor their mean, which the intercept absorbs, changes the objective. So the features
are centred and rotated to their principal axes once. There the Hessian's block of a class k,
`I + C sum_i p_ik (1 - p_ik) x_i x_i^T`, is nearly diagonal while all samples count alike. With a large C few samples
count: those with the largest p (1 - p) are taken as they are, the others by their diagonal (`Curvature`). L-BFGS (Liu
and Nocedal 1989) with this as its first matrix needs about ten steps in place of hundreds. Logits are linear along a
direction, so that a line search needs no matrix product, and a step needs two.

The quality of a fit can be proven: the objective is 1-strongly convex in W, so that it is at most `|gradient|^2 / 2`
above its minimum. With large C this bound is often too loose, so a fit also ends when its last steps gain too little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tfcli.errors import ConfigError, DataError
from tfcli.probes.precision import full_float32, has_bfloat16, matmul
from tfcli.shapes import Float, Int

SLICE = 2**17
"""Number of logits processed at a time, which fit into a core's cache."""
ROWS = 64
"""Number of samples of each class that the approximate Hessian takes as they are."""
ROUGH = 3
"""Multiple of the tolerance down to which both matrix products are in bfloat16."""


@dataclass(frozen=True)
class Fit:
    """A fitted classifier: `logits = x @ weight.T + bias`.

    Args:
        C: inverse strength of the penalty.
        weight, bias: classes without a training sample have zero weights and a bias of minus infinity.
        objective: `|W|^2 / 2 + C sum CE` at the solution.
        gap: upper bound on the distance of the objective to its minimum, as a share of the objective.
        iterations: number of steps of L-BFGS.
    """

    C: float
    weight: Float[Tensor, "K D"]
    bias: Float[Tensor, "K"]
    objective: float
    gap: float
    iterations: int


@dataclass(frozen=True)
class Space:
    """Centred features in their principal axes, with a last column of ones; computed once, used for every C.

    Args:
        x: coordinates. Axes without variance are left out, since their weights are zero.
        rough: x in bfloat16, where that makes products faster.
        axes: orthonormal; `x[:, :-1] = (features - mean) @ axes`.
        mean: mean of the features.
        spread: sum of squares of each column.
    """

    x: Float[Tensor, "N R"]
    rough: Tensor | None
    axes: Float[Tensor, "D R-1"]
    mean: Float[Tensor, "D"]
    spread: Float[Tensor, "R"]

    @classmethod
    def of(cls, features: Float[Tensor, "N D"]) -> Space:
        """Compute the principal axes of features."""
        with full_float32():
            return cls._rotated(features)

    @classmethod
    def _rotated(cls, features: Tensor) -> Space:
        count, width = features.shape
        parts = features.split(4096)  # no second copy of all rows is made
        mean = (sum(part.sum(0, dtype=torch.float64) for part in parts) / count).float()
        axes = torch.linalg.qr((features - mean).T).Q if width > count else None  # the weights lie in the samples' span
        x = features.new_ones(count, min(count, width) + 1)
        gram = x.new_zeros(min(count, width), min(count, width))
        for part in parts:
            some = part - mean if axes is None else (part - mean) @ axes
            gram.addmm_(some.T, some)
        rotation = torch.linalg.eigh(gram).eigenvectors.flip(1)
        axes = rotation if axes is None else axes @ rotation
        spread = x.new_zeros(x.shape[1])
        for part, out in zip(parts, x.split(4096), strict=True):
            out[:, :-1] = matmul(part - mean, axes)
            spread += out.square().sum(0)
        kept = spread[:-1] > 1e-12 * spread[:-1].max()
        if not kept.all():
            columns = torch.cat([kept, kept.new_ones(1)])
            x, axes, spread = x[:, columns], axes[:, kept], spread[columns]
        rough = x.bfloat16() if has_bfloat16(x.device) and x.numel() > 2**19 else None
        return cls(x, rough, axes, mean, spread)


def fit(
    features: Float[Tensor, "N D"] | Space,
    label: Int[Tensor, "N"],
    *,
    num_classes: int,
    C: float,
    start: Fit | None = None,
    max_iter: int = 1000,
    tol: float = 1e-4,
) -> Fit:
    """Return the classifier that minimises the objective.

    Args:
        features: float32, or their `Space`.
        label: classes of the rows.
        num_classes: K, the number of classes.
        C: inverse strength of the penalty, greater than 0.
        start: a fit to start from, for instance that of the next smaller C.
        max_iter: largest number of steps of L-BFGS.
        tol: stop when the objective is proven to be within this share of its minimum, or is estimated to be within a
            twentieth of this share.

    Raises:
        ConfigError: C is not a positive number.
        DataError: the labels have fewer than two classes.
    """
    if not (C > 0 and math.isfinite(C)):
        raise ConfigError(f"C must be a positive number, but is {C}.")
    space = features if isinstance(features, Space) else Space.of(features)
    if len(label) != len(space.x):
        raise DataError(f"{len(space.x)} rows of features, but {len(label)} labels.")
    present = torch.bincount(label, minlength=num_classes).nonzero().flatten()
    if len(present) < 2:
        raise DataError(f"a linear probe needs at least two classes, but the training labels have {len(present)}.")
    place = label.new_full((num_classes,), -1)
    place[present] = torch.arange(len(present), device=label.device)
    scale = 2.0 if len(present) == 2 else 1.0  # the binary form: half the C, twice the objective
    first = None
    if start is not None:
        weight, bias = start.weight[present], start.bias[present]
        if bias.isfinite().all():
            first = torch.cat([weight @ space.axes, (bias + weight @ space.mean)[:, None]], 1)
    with full_float32():
        theta, objective, gap, iterations = _minimise(
            space, place[label], len(present), C / scale, first, max_iter=max_iter, tol=tol
        )
    weight = space.mean.new_zeros(num_classes, len(space.mean))
    weight[present] = theta[:, :-1] @ space.axes.T
    bias = space.mean.new_full((num_classes,), -math.inf)
    bias[present] = theta[:, -1] - weight[present] @ space.mean
    return Fit(C, weight, bias, scale * objective, gap, iterations)


def predict(fitted: Fit, features: Float[Tensor, "N D"]) -> Float[Tensor, "N K"]:
    """Return the logits of features."""
    with full_float32():
        return torch.addmm(fitted.bias, features, fitted.weight.T)


def _minimise(
    space: Space, label: Tensor, num_classes: int, C: float, theta: Tensor | None, *, max_iter: int, tol: float
) -> tuple[Tensor, float, float, int]:
    """Run L-BFGS over `theta` (K, R), whose last column has the intercepts; return (theta, objective, gap, steps).

    The gap is a share of the objective. Where bfloat16 is faster there are three stages: both products in bfloat16,
    then only that of the gradient, then none. A stage ends when the gap is small enough; the last one is in float32.
    """
    x = space.x
    forward = backward = x if space.rough is None else space.rough
    if theta is None:
        theta = x.new_zeros(num_classes, x.shape[1])
        theta[:, -1] = (torch.bincount(label, minlength=num_classes) / len(label)).log()
    logits = matmul(x, theta.T)
    if theta[:, :-1].any():
        factor = _rescaled(theta, logits, label, C)
        theta, logits = theta * factor, logits * factor
    objective, error = _objective(theta, logits, label, C)
    gradient = _gradient(theta, error, x, C)
    history, past = History(10), [objective]
    stuck = False
    for step in range(max_iter + 1):
        if step % 4 == 0:
            curvature = Curvature(error, space, C)
        gap = _gap(gradient, curvature) / objective
        over = stuck or step == max_iter
        left = min(gap, _estimated_gap(past))
        if forward is not x and (left <= ROUGH * tol or over):
            forward, logits, stuck = x, matmul(x, theta.T), False
            objective, error = _objective(theta, logits, label, C)
            gradient = _gradient(theta, error, backward, C)
        if backward is not x and (left <= tol or over):
            backward, stuck = x, False
            gradient = _gradient(theta, error, x, C)
            gap = _gap(gradient, curvature) / objective
        if stuck or step == max_iter:
            break
        direction = history.direction(gradient, curvature)
        slope = float((gradient * direction).sum(dtype=torch.float64))
        if slope >= 0:
            history.clear()
            direction = -curvature.solve(gradient)
            slope = float((gradient * direction).sum(dtype=torch.float64))
        settled = -slope / 2 <= tol / 10 * objective  # the gain that the approximate Hessian promises
        if backward is x and settled and min(gap / 20, _estimated_gap(past)) <= tol / 20:
            break
        along = _product(forward, direction.T)
        size, value, error = _search(theta, direction, logits, along, label, C, objective, slope)
        if size == 0:  # in this precision no point on this line is better
            stuck = not history.clear()
            continue
        logits.add_(along, alpha=size)
        theta = theta + size * direction
        new = _gradient(theta, error, backward, C)
        history.add(size * direction, new - gradient)
        objective, gradient = value, new
        past.append(objective)
    return theta, objective, gap, step


def _estimated_gap(past: list[float]) -> float:
    """Estimate the possible gain, as a share of the objective, by Aitken's extrapolation of the last 16 steps."""
    if len(past) < 17:
        return math.inf
    before, last = past[-17] - past[-9], past[-9] - past[-1]
    if last >= before:
        return math.inf
    return max(last, 0.0) ** 2 / (before - last) / past[-1]


class Curvature:
    """The Hessian's block of each class: some samples as they are, the other samples and the penalty by their diagonal.

    With a diagonal D and the scaled samples as rows of U, a block is `D + U^T U`. Its inverse needs only that of
    `1 + U D^-1 U^T`, which is small (Woodbury's identity).

    Args:
        error: probabilities minus one-hot labels.
        space: the features.
        C: inverse strength of the penalty.
    """

    def __init__(self, error: Float[Tensor, "N K"], space: Space, C: float):
        count, classes = error.shape
        width = space.x.shape[1]
        weight = torch.cat([(some.abs() * (1 - some.abs())).T for some in error.split(4096)], 1)  # (K, N): p (1 - p)
        total = weight.sum(1)
        self.intercept = (C * total).clamp(min=1e-12)
        felt = 4 * C * float(space.spread[:-1].sum()) > count  # a sample's curvature can exceed the penalty's
        rows = min(ROWS, count // 4, 2**24 // (classes * width)) if felt else 0
        top = weight.topk(rows, 1)
        rest = (total - top.values.sum(1)).clamp(min=0) / count
        diagonal = C * rest[:, None] * space.spread + 1
        diagonal[:, -1] = torch.maximum(
            diagonal[:, -1] - 1, self.intercept / 100
        )  # a smaller one loses float32's digits
        self.scale = diagonal.rsqrt_()
        self.rows = space.x[top.indices]  # (K, rows, R)
        self.rows.mul_((C * top.values).sqrt_()[:, :, None]).mul_(self.scale[:, None])
        gram = self.rows @ self.rows.mT
        gram.diagonal(dim1=1, dim2=2).add_(1)
        self.factor = torch.linalg.cholesky(gram)

    def solve(self, gradient: Float[Tensor, "K R"]) -> Float[Tensor, "K R"]:
        """Return the inverse of the approximate Hessian times a gradient."""
        q = gradient * self.scale
        inner = torch.cholesky_solve((q[:, None] @ self.rows.mT).mT, self.factor)
        return q.sub_((inner.mT @ self.rows)[:, 0]).mul_(self.scale)


class History:
    """The last steps and changes of the gradient, from which L-BFGS approximates the Hessian."""

    def __init__(self, length: int):
        self.length = length
        self.pairs: list[tuple[Tensor, Tensor, float]] = []

    def clear(self) -> bool:
        """Delete all pairs; return whether there were any."""
        had = bool(self.pairs)
        self.pairs = []
        return had

    def add(self, step: Tensor, change: Tensor) -> None:
        """Add a step and the change of the gradient, unless the curvature is not positive."""
        product = float((step * change).sum(dtype=torch.float64))
        if product > 1e-10 * float(step.norm() * change.norm()):
            self.pairs = [*self.pairs[1 - self.length :], (step, change, product)]

    def direction(self, gradient: Tensor, curvature: Curvature) -> Tensor:
        """Return minus the approximate inverse Hessian times the gradient (the two-loop recursion)."""
        q = gradient.clone()
        factors = []
        for step, change, product in reversed(self.pairs):
            factors.append(float((step * q).sum()) / product)
            q.sub_(change, alpha=factors[-1])
        q = curvature.solve(q)
        for (step, change, product), factor in zip(self.pairs, reversed(factors), strict=True):
            q.add_(step, alpha=factor - float((change * q).sum()) / product)
        return q.neg_()


def _search(
    theta: Tensor,
    direction: Tensor,
    logits: Tensor,
    along: Tensor,
    label: Tensor,
    C: float,
    objective: float,
    slope: float,
) -> tuple[float, float, Tensor]:
    """Find a step size that meets the strong Wolfe conditions: (size, objective, errors); size 0 if there is none."""
    square, mixed, penalty = _penalty(direction, direction), _penalty(theta, direction), _penalty(theta, theta)
    low, high, size = 0.0, math.inf, 1.0
    for _ in range(40):
        loss, error = _errors(torch.add(logits, along, alpha=size), label)
        value = (penalty + 2 * size * mixed + size * size * square) / 2 + C * loss
        tilt = mixed + size * square + C * float((error * along).sum(dtype=torch.float64))
        enough = value <= objective + 1e-4 * size * slope + 1e-7 * abs(objective)
        if enough and abs(tilt) <= 0.5 * abs(slope):
            return size, value, error
        if tilt > 0 or not enough:
            high = size
        else:
            low = size
        guess = size * slope / (slope - tilt) if tilt > slope else math.inf  # where the secant of the slope is 0
        if math.isinf(high):
            size = min(max(guess, 1.5 * size), 10 * size)
        elif low + 0.05 * (high - low) < guess < high - 0.05 * (high - low):
            size = guess
        else:
            size = low + (high - low) * (0.5 if low else 0.1)
    return 0.0, objective, error


def _rescaled(theta: Tensor, logits: Tensor, label: Tensor, C: float) -> float:
    """Return the best factor on the start's weights for this C, since weights mostly grow with C in one direction."""
    penalty, factor = _penalty(theta, theta), 1.0
    best = math.inf, 1.0
    for factor in (1.0, 1.5, 2.0, 3.0):
        value = factor**2 * penalty / 2 + C * _errors(factor * logits, label)[0]
        if value >= best[0]:
            break
        best = value, factor
    return best[1]


def _errors(logits: Tensor, label: Tensor) -> tuple[float, Tensor]:
    """Return the summed cross-entropy, and its derivative by the logits: probabilities minus the one-hot label.

    Both are computed from the other classes' logits minus the label's, so that very small losses and errors keep their
    precision: with a large C they decide the solution.
    """
    error = torch.empty_like(logits)
    total = 0.0
    some = max(1, SLICE // logits.shape[1])
    for z, out, y in zip(logits.split(some), error.split(some), label[:, None].split(some), strict=True):
        torch.sub(z, z.gather(1, y), out=out)
        out.scatter_(1, y, -math.inf)
        top = out.amax(1, keepdim=True).clamp_(min=0)
        out.sub_(top).exp_()
        others = out.sum(1, keepdim=True)
        whole = others + (-top).exp()
        total += float((top + torch.where(top > 0, whole.log(), others.log1p())).sum(dtype=torch.float64))
        out.div_(whole).scatter_(1, y, -others / whole)
    return total, error


def _objective(theta: Tensor, logits: Tensor, label: Tensor, C: float) -> tuple[float, Tensor]:
    loss, error = _errors(logits, label)
    return _penalty(theta, theta) / 2 + C * loss, error


def _gradient(theta: Tensor, error: Tensor, x: Tensor, C: float) -> Tensor:
    gradient = _product(x.T, error).T.mul(C)
    gradient[:, :-1] += theta[:, :-1]
    return gradient


def _gap(gradient: Tensor, curvature: Curvature) -> float:
    """Return a bound on the objective's distance to its minimum; the intercepts' part is estimated by the curvature."""
    return _penalty(gradient, gradient) / 2 + float((gradient[:, -1].square() / curvature.intercept).sum()) / 2


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product in the precision of `a`."""
    return matmul(a, b.to(a.dtype)).float()


def _penalty(a: Tensor, b: Tensor) -> float:
    """Return the inner product of the weights, without the intercepts."""
    return float((a[:, :-1] * b[:, :-1]).sum(dtype=torch.float64))
