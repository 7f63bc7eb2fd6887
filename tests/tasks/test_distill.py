"""Losses of distillation against their formulas, and what a teacher sees and leaves alone."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tfcli.models.deit import DeiT
from tfcli.models.vit import ViT
from tfcli.nn.attention import Attention
from tfcli.nn.positions import Learned
from tfcli.tasks import schedule
from tfcli.tasks.distill import Distill, Teacher, distillation_loss
from tfcli.tasks.optim import sgd

NEUTRAL = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SIZES = {"depth": 2, "heads": 2, "image_size": 8, "patch_size": 4, "num_classes": 5, "attn": Attention, "pos": Learned}


class Reader(nn.Module):
    """A classifier that remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5)
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        return self.norm(self.map(image.mean((2, 3))))


def task(net: nn.Module, teacher, **changes) -> Distill:
    made = Distill(
        net,
        teacher=teacher,
        num_classes=5,
        optim=partial(sgd, lr=1, weight_decay=0),
        schedule=schedule.constant,
        **changes,
    )
    return made.train()


def batch(size: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(size, 3, 8, 8, generator=generator)
    target = torch.rand(size, 5, generator=generator).softmax(1)
    return {"image": image, "label": target.argmax(1), "target": target}


def student(kind: type = DeiT) -> nn.Module:
    torch.manual_seed(3)
    net = kind(16, **SIZES)
    for head in (net.head, getattr(net, "head_dist", net.head)):
        nn.init.normal_(head.weight)
    return net


@given(tau=st.floats(0.5, 8), classes=st.integers(2, 7), size=st.integers(1, 5), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_the_losses_are_their_formulas(tau, classes, size, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, teacher = (torch.randn(size, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    p, q = (teacher / tau).softmax(1), (logits / tau).softmax(1)
    divergence = tau**2 * (p * (p / q).log()).sum()
    loss = partial(distillation_loss, logits, teacher, kind="soft", tau=tau)
    assert float(loss()) == pytest.approx(float(divergence / size), rel=1e-3, abs=1e-5)
    assert float(loss(kl_reduction="elements")) == pytest.approx(float(divergence / size / classes), rel=1e-3, abs=1e-5)
    hard = -logits.log_softmax(1)[torch.arange(size), teacher.argmax(1)].mean()
    assert float(distillation_loss(logits, teacher, kind="hard")) == pytest.approx(float(hard), rel=1e-4)


def test_a_student_that_agrees_has_nothing_to_learn_from_soft_labels():
    logits = torch.randn(4, 5, requires_grad=True)
    distillation_loss(logits, logits.detach(), kind="soft", tau=3.0).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("net", [DeiT, ViT])
def test_each_head_hears_its_own_half(net, kind):
    net, given, reader = student(net), batch(), Reader()
    step = task(
        net, Teacher(reader, name="reader", teacher_norm=NEUTRAL, student_norm=NEUTRAL), kind=kind, alpha=0.3, tau=2.0
    )
    found = step.training_step(given, 0)
    own, taught = net(given["image"], separate=True) if isinstance(net, DeiT) else (net(given["image"]),) * 2
    labels = -(given["target"] * own.log_softmax(1)).sum(1).mean()
    expected = 0.7 * labels + 0.3 * distillation_loss(taught, reader(given["image"]), kind=kind, tau=2.0)
    torch.testing.assert_close(found, expected)


def test_without_a_teacher_both_heads_hear_the_labels():
    net, given = student(), batch()
    found = task(net, None, kind="none").training_step(given, 0)
    losses = [-(given["target"] * logits.log_softmax(1)).sum(1).mean() for logits in net(given["image"], separate=True)]
    torch.testing.assert_close(found, sum(losses) / 2)


def test_a_teacher_learns_nothing_and_is_not_kept():
    reader = Reader()
    teacher = Teacher(reader, name="reader", teacher_norm=NEUTRAL, student_norm=NEUTRAL)
    before = copy.deepcopy(reader.state_dict())
    made = task(student(), teacher)
    made.training_step(batch(), 0).backward()
    for name, tensor in reader.state_dict().items():
        assert torch.equal(tensor, before[name]), name  # batch norm's statistics among them
    assert all(parameter.grad is None for parameter in reader.parameters())
    assert not any("map" in name for name in made.state_dict())
    assert {name.split(".")[0] for name, _ in made.named_parameters()} == {"net"}
    assert copy.deepcopy(made).teacher is teacher
    assert not reader.training
    assert made.train().net.training
    assert not reader.training


def test_a_teacher_sees_the_image_normalised_and_sized_as_its_own():
    reader = Reader()
    seen, given = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    pixels = torch.rand(2, 3, 8, 8)

    def normalised(mean, std) -> Tensor:
        return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    Teacher(reader, name="reader", teacher_norm=seen, student_norm=given)(normalised(*given))
    torch.testing.assert_close(reader.seen[-1], normalised(*seen))
    Teacher(reader, name="reader", teacher_norm=NEUTRAL, student_norm=NEUTRAL, image_size=12)(
        torch.full((1, 3, 8, 8), 0.7)
    )
    torch.testing.assert_close(reader.seen[-1], torch.full((1, 3, 12, 12), 0.7))


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"tau": 0.0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"task.{next(iter(wrong))}"):
        task(student(), None, **wrong)
