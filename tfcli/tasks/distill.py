"""One label an image and a teacher's opinion of it: cross-entropy with hard or soft distillation.

Touvron et al. 2021, section 4; soft distillation is Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, kl_div

from tfcli.bounds import Fraction, Positive
from tfcli.shapes import Float
from tfcli.tasks.classify import Classify, classification_loss


def distillation_loss(
    logits: Float[Tensor, "B K"],
    teacher: Float[Tensor, "B K"],
    *,
    kind: str = "hard",
    tau: float = 1.0,
    kl_reduction: str = "batch",
) -> Float[Tensor, ""]:
    """Return the distillation loss between a student and its teacher.

    Args:
        logits: the student's.
        teacher: its teacher's logits, which get no gradient.
        kind: hard: cross-entropy with the teacher's first choice (equation 3, second half). soft: tau^2 times the
            Kullback-Leibler divergence of the student's probabilities from the teacher's, both at temperature tau
            (equation 2).
        tau: temperature.
        kl_reduction: batch: the mean over images, the paper's. elements: divided by the classes as well, as the
            released code does, which makes the teacher's share of the loss that much smaller.
    """
    logits, teacher = logits.float(), teacher.detach().float()
    if kind == "hard":
        return cross_entropy(logits, teacher.argmax(1))
    student, goal = (logits / tau).log_softmax(1), (teacher / tau).log_softmax(1)
    total = tau**2 * kl_div(student, goal, reduction="sum", log_target=True)
    return total / (logits.numel() if kl_reduction == "elements" else len(logits))


class Teacher:
    """A frozen classifier that sees a student's images as it was trained to see its own.

    It is no part of the student: not a module of its task, so in none of its checkpoints, averages and gradients, and
    a copy of the task shares it.

    Args:
        net: images to logits.
        name: in words.
        seen: mean and deviation of each channel that its images were normalised with.
        given: those of the student's images.
        image_size: side that its images must have, in pixels; None: any.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        seen: tuple[Sequence[float], Sequence[float]],
        given: tuple[Sequence[float], Sequence[float]],
        image_size: int | None = None,
    ):
        self.net, self.name, self.image_size = net.eval().requires_grad_(False), name, image_size
        (mean, std), (own_mean, own_std) = torch.tensor(given)[..., None, None], torch.tensor(seen)[..., None, None]
        self.scale, self.shift = std / own_std, (mean - own_mean) / own_std

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    @torch.no_grad()
    def __call__(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        if self.scale.device != image.device:
            self.net.to(image.device)
            self.scale, self.shift = self.scale.to(image.device), self.shift.to(image.device)
        side = self.image_size
        if side and image.shape[-1] != side:
            image = interpolate(image, size=(side, side), mode="bilinear", antialias=True)
        return self.net((image * self.scale + self.shift).to(image.dtype))


class Distill(Classify):
    """Trains a classifier with labels and a teacher; measures it as `Classify` does.

    The loss is (1 - alpha) times the cross-entropy with the labels, smoothed and mixed as they may be, plus alpha times
    `distillation_loss`. Where the student has a distillation token (`head_dist`), its head hears the teacher and the
    class token's head the labels; the logits of any other student hear both. The teacher sees the same augmented
    images; without one both halves hear the labels.

    Args:
        net: images to logits; one with `head_dist` gives those of its two heads when asked with `separate=True`.
        teacher: what is listened to; None: labels alone.
        kind, tau, kl_reduction: as in `distillation_loss`; kind none: no teacher.
        alpha: the teacher's share of the loss.
        **classify: as in `Classify`.

    Raises:
        ValueError: `alpha`, `tau`, `kind` or `kl_reduction` is none that there is.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        teacher: Callable[[Tensor], Tensor] | None = None,
        kind: Literal["hard", "soft", "none"] = "hard",
        alpha: Fraction = 0.5,
        tau: Positive = 1.0,
        kl_reduction: Literal["batch", "elements"] = "batch",
        **classify: Any,
    ):
        super().__init__(net, **classify)
        for key, value, choices in (
            ("kind", kind, ("hard", "soft", "none")),
            ("kl_reduction", kl_reduction, ("batch", "elements")),
        ):
            if value not in choices:
                raise ValueError(f"`task.{key}` must be one of {', '.join(choices)}, but is {value!r}.")
        if not 0 <= alpha <= 1 or tau <= 0:
            raise ValueError(f"`task.alpha` lies in 0..1 and `task.tau` above 0, but they are {alpha} and {tau}.")
        self.teacher, self.kind, self.alpha, self.tau, self.kl_reduction = teacher, kind, alpha, tau, kl_reduction

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        image, label, target = batch["image"], batch["label"], batch.get("target")
        own, taught = self.net(image, separate=True) if hasattr(self.net, "head_dist") else (self.net(image),) * 2
        loss = classification_loss(own, label, target, smoothing=self.label_smoothing)
        if self.teacher is None:
            second = classification_loss(taught, label, target, smoothing=self.label_smoothing)
        else:
            second = distillation_loss(
                taught, self.teacher(image), kind=self.kind, tau=self.tau, kl_reduction=self.kl_reduction
            )
        loss = (1 - self.alpha) * loss + self.alpha * second
        self.count(loss, (own + taught) / 2, label, target)
        return loss
