"""Knowledge distillation of image classifiers: cross-entropy with the labels and with a teacher's predictions.

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
        logits: the student's logits.
        teacher: the teacher's logits, which get no gradient.
        kind: hard: cross-entropy with the teacher's prediction (equation 3, second half). soft: tau^2 times the
            Kullback-Leibler divergence of the student's probabilities from the teacher's, both at temperature tau
            (equation 2).
        tau: temperature.
        kl_reduction: batch: the mean over images, as in the paper. elements: also divided by the number of classes, as
            in the released code, which reduces the teacher's share of the loss by this factor.
    """
    logits, teacher = logits.float(), teacher.detach().float()
    if kind == "hard":
        return cross_entropy(logits, teacher.argmax(1))
    student, target = (logits / tau).log_softmax(1), (teacher / tau).log_softmax(1)
    total = tau**2 * kl_div(student, target, reduction="sum", log_target=True)
    return total / (logits.numel() if kl_reduction == "elements" else len(logits))


class Teacher:
    """A frozen classifier, which renormalises and resizes a student's images to its own training images.

    It is not a submodule of the task, so that checkpoints, weight averages and gradients do not include it, and copies
    of the task share it.

    Args:
        net: model that maps images to logits.
        name: name of the teacher in messages.
        teacher_norm: mean and standard deviation of each channel with which the teacher's images were normalised.
        student_norm: those of the student's images.
        image_size: side of the teacher's images in pixels; None: any.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        teacher_norm: tuple[Sequence[float], Sequence[float]],
        student_norm: tuple[Sequence[float], Sequence[float]],
        image_size: int | None = None,
    ):
        self.net, self.name, self.image_size = net.eval().requires_grad_(False), name, image_size
        mean, std = torch.tensor(student_norm)[..., None, None]
        own_mean, own_std = torch.tensor(teacher_norm)[..., None, None]
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
    """Image classification with labels and a teacher, evaluated as in `Classify`.

    The loss is (1 - alpha) times the cross-entropy with the labels (with label smoothing and mixing) plus alpha times
    `distillation_loss`. If the student has a distillation token (`head_dist`), its head learns from the teacher and the
    class token's head from the labels; the logits of other students learn from both. The teacher sees the same
    augmented images. Without a teacher both parts of the loss use the labels.

    Args:
        net: model that maps images to logits; with `head_dist` it returns the logits of both heads for `separate=True`.
        teacher: function from images to the teacher's logits; None: labels alone.
        kind, tau, kl_reduction: as in `distillation_loss`; kind=none: no teacher.
        alpha: the teacher's share of the loss.
        **classify: as in `Classify`.

    Raises:
        ValueError: `alpha`, `tau`, `kind` or `kl_reduction` has an invalid value.
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
            raise ValueError(f"`task.alpha` must lie in 0..1 and `task.tau` above 0, but they are {alpha} and {tau}.")
        self.teacher, self.kind, self.alpha, self.tau, self.kl_reduction = teacher, kind, alpha, tau, kl_reduction

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        image, label, target = batch["image"], batch["label"], batch.get("target")
        logits, distilled = self.net(image, separate=True) if hasattr(self.net, "head_dist") else (self.net(image),) * 2
        loss = classification_loss(logits, label, target, smoothing=self.label_smoothing)
        if self.teacher is None:
            second = classification_loss(distilled, label, target, smoothing=self.label_smoothing)
        else:
            second = distillation_loss(
                distilled, self.teacher(image), kind=self.kind, tau=self.tau, kl_reduction=self.kl_reduction
            )
        loss = (1 - self.alpha) * loss + self.alpha * second
        self.count(loss, (logits + distilled) / 2, label, target)
        return loss
