from __future__ import annotations

import math
import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning import LightningModule

from tfcli.models.classifier import TorchvisionClassifier
from tfcli.models.vit import ViT
from tfcli.nn.attention import Attention
from tfcli.nn.positions import Learned
from tfcli.tasks import schedule
from tfcli.tasks.classify import Classify, classification_loss, folded
from tfcli.tasks.optim import adamw, clip_gradients, param_groups, sgd


def vit(depth: int = 3) -> ViT:
    return ViT(16, depth=depth, heads=2, image_size=8, patch_size=4, num_classes=3, attn=Attention, pos=Learned)


def rates(net, **changes) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter, by name."""
    groups = param_groups(net, **{"lr": 1.0, "weight_decay": 0.1, "layer_decay": 1.0, "head_scale": 1.0, **changes})
    names = {id(p): name for name, p in net.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def test_norms_biases_tokens_and_positions_do_not_decay():
    found = rates(vit())
    assert set(found) == {name for name, _ in vit().named_parameters()}
    still = {name for name, (_, decay) in found.items() if decay == 0}
    assert still == {n for n in found if n.endswith("bias") or "norm" in n or "token" in n or "positions" in n}


def test_a_part_of_ones_own_says_what_does_not_decay():
    class Query(torch.nn.Module):
        undecayed = ("start",)

        def __init__(self):
            super().__init__()
            self.start, self.token = (torch.nn.Parameter(torch.zeros(1, 4)) for _ in range(2))

    found = rates(torch.nn.Sequential(torch.nn.Linear(4, 4), Query()))
    assert {name for name, (_, decay) in found.items() if decay == 0} == {"0.bias", "1.start"}


def test_torchvisions_class_token_does_not_decay():
    with torch.device("meta"):
        net = TorchvisionClassifier("vit_b_32", image_size=64, num_classes=2)
    still = {name for name, (_, decay) in rates(net).items() if decay == 0}
    assert "body.class_token" in still
    assert all(p.ndim < 2 for name, p in net.named_parameters() if name in still - {"body.class_token"})


def test_layer_decay_falls_from_the_head_to_the_stem():
    found = rates(vit(), layer_decay=0.5)
    assert found["head.weight"][0] == 1
    assert found["stack.blocks.2.mlp.fc1.weight"][0] == 0.5
    assert found["stack.blocks.0.mlp.fc1.weight"][0] == 0.125
    assert found["patch_embed.proj.weight"][0] == 0.0625
    assert found["stack.positions.0.table"][0] == 0.0625


def test_the_head_can_learn_faster():
    found = rates(vit(), head_scale=10.0)
    assert found["head.bias"][0] == 10
    assert found["stack.blocks.0.norm1.weight"][0] == 1


def test_unequal_rates_need_numbered_layers():
    with pytest.raises(ValueError, match="Linear does not"):
        rates(torch.nn.Linear(2, 2), layer_decay=0.9)


def test_frozen_parameters_are_left_out():
    net = vit()
    net.patch_embed.requires_grad_(False)
    assert not any(name.startswith("patch_embed") for name in rates(net))


@pytest.mark.parametrize("make", [partial(adamw, lr=0.05, weight_decay=0.0), partial(sgd, lr=0.2, weight_decay=0.0)])
def test_optimizers_fit_a_line(make):
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    x = torch.randn(64, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    optimizer = make(net)
    first = None
    for _ in range(120):
        loss = (net(x) - y).square().mean()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01 * first


KINDS = [schedule.cosine, schedule.linear, schedule.step, schedule.constant]


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.2, 1.0, 1e6, math.inf, math.nan])
def test_clipping_is_that_of_torch(scale):
    own, torchs = vit(), vit()
    for i, (a, b) in enumerate(zip(own.parameters(), torchs.parameters(), strict=True)):
        a.grad = scale * torch.randn(a.shape, generator=torch.Generator().manual_seed(i)) if i else None
        b.grad = a.grad.clone() if i else None
    task = LightningModule()
    task._trainer = SimpleNamespace(model=torch.nn.Identity())
    clip_gradients(task, list(own.parameters()), 10.0)
    torch.nn.utils.clip_grad_norm_(torchs.parameters(), 10.0)
    for a, b in zip(own.parameters(), torchs.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad.nan_to_num(7.0), b.grad.nan_to_num(7.0))


@given(kind=st.sampled_from(KINDS), total=st.integers(2, 300), warmup=st.integers(0, 20), step=st.integers(0, 400))
def test_factors_stay_between_0_and_1_and_warm_up_linearly(kind, total, warmup, step):
    factor = kind(step, total=total, epoch=7, warmup_steps=warmup)
    assert 0 <= factor <= 1
    if step < warmup:
        assert factor == pytest.approx((step + 1) / warmup)


def test_known_values():
    assert schedule.cosine(50, total=100, epoch=10, warmup_steps=0) == pytest.approx(0.5)
    assert schedule.cosine(100, total=100, epoch=10, warmup_steps=0, final_fraction=0.1) == pytest.approx(0.1)
    assert schedule.linear(75, total=100, epoch=10, warmup_steps=0) == pytest.approx(0.25)
    assert [schedule.step(s, total=100, epoch=10, every_epochs=2) for s in (19, 20, 40)] == pytest.approx(
        [1, 0.1, 0.01]
    )
    assert schedule.cosine(5, total=100, epoch=10, warmup_fraction=0.1) == pytest.approx(0.6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_up_in_epochs_begins_where_it_is_told_to(kind):
    def factor(step: int, **changes) -> float:
        return kind(step, total=400, epoch=20, warmup_epochs=2.5, start_fraction=0.2, **changes)

    assert factor(0) == pytest.approx(0.2 + 0.8 / 50)
    assert factor(24) == pytest.approx(0.6)
    assert factor(49) == pytest.approx(1)
    assert factor(0, warmup_steps=4) == pytest.approx(0.4)
    assert factor(0, warmup_steps=0) == pytest.approx(1)


def test_deits_rates_in_full():
    def rate(step: int) -> float:  # `experiment=deit_imagenet`: 1,251 steps an epoch
        recipe = {"warmup_epochs": 5, "start_fraction": 0.001, "final_fraction": 0.01}
        return 0.001 * schedule.cosine(step, total=300 * 1251, epoch=1251, **recipe)

    assert rate(0) == pytest.approx(1e-6, rel=0.2)
    assert rate(5 * 1251) == pytest.approx(1e-3)
    assert rate(300 * 1251) == pytest.approx(1e-5)


def test_loss_against_hard_and_soft_labels():
    torch.manual_seed(0)
    logits, label = torch.randn(6, 4), torch.randint(4, (6,))
    hard = classification_loss(logits, label)
    soft = classification_loss(logits, label, torch.nn.functional.one_hot(label, 4).float())
    torch.testing.assert_close(hard, soft)
    eps = 0.1
    log = logits.log_softmax(1)
    want = -((1 - eps) * log.gather(1, label[:, None]).squeeze(1) + eps * log.mean(1)).mean()
    torch.testing.assert_close(classification_loss(logits, label, smoothing=eps), want)
    assert math.isfinite(hard.item())


def test_labels_of_a_mixture_are_smoothed_once():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixup = pytest.importorskip("timm.data.mixup")
    torch.manual_seed(0)
    logits, label = torch.randn(6, 4), torch.randint(4, (6,))
    theirs = mixup.mixup_target(label, 4, lam=0.7, smoothing=0.1)  # smoothed inside; timm's loss smooths no more
    target = 0.7 * torch.nn.functional.one_hot(label, 4) + 0.3 * torch.nn.functional.one_hot(label.flip(0), 4)
    want = -(theirs * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(classification_loss(logits, label, target, smoothing=0.1), want)


def test_folded_batch_norms_keep_their_statistics_and_fresh_ones_do_not():
    def net() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.LazyLinear(3)
        )

    def task(batch_norm: str, bias: float) -> Classify:
        made = Classify(
            net(),
            num_classes=3,
            optim=partial(sgd, lr=1, weight_decay=0),
            schedule=schedule.constant,
            batch_norm=batch_norm,
        )
        torch.nn.init.constant_(made.net[1].bias, bias)
        return made.train()

    assert not folded(task("auto", 0.0).net)
    assert task("auto", 0.0).net[1].training
    assert not task("auto", 0.5).net[1].training
    assert not task("frozen", 0.0).net[1].training
    assert task("train", 0.5).net[1].training
