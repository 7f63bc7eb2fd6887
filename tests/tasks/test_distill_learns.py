"""What a teacher is worth: 300 digits, with and without one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.data.digits import Digits
from tfcli.data.images import ImageData
from tfcli.data.transforms import normalise
from tfcli.models.deit import DeiT
from tfcli.nn.attention import Attention
from tfcli.nn.positions import Learned
from tfcli.tasks import schedule
from tfcli.tasks.distill import Distill, Teacher
from tfcli.tasks.optim import adamw

STATISTICS = ((0.305,) * 3, (0.376,) * 3)
EPOCHS = 60


def digits(**changes) -> ImageData:
    mean, std = STATISTICS
    data = ImageData(Digits(), name="digits", image_size=8, mean=mean, std=std, eval_crop=1.0, workers=0, **changes)
    data.prepare()
    return data


def accuracy(net: nn.Module, data: ImageData) -> float:
    pixels, labels = data.arrays("test")
    with torch.no_grad():
        guessed = net.eval()(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), *STATISTICS)).argmax(1)
    return float((guessed == torch.from_numpy(labels)).float().mean())


def cnn() -> nn.Module:
    """A teacher, from all 1,293 training images."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
    data, optimizer = digits(augment={"crop": "padded", "flip": 0.0}), torch.optim.AdamW(net.parameters(), 0.003)
    loader = data.train_dataloader()
    for _ in range(12):
        for batch in loader:
            optimizer.zero_grad()
            cross_entropy(net(normalise(batch["image"], *STATISTICS)), batch["label"]).backward()
            optimizer.step()
    return net


def student(teacher: Teacher | None, data: ImageData, *, seed: int, kind: str) -> float:
    torch.manual_seed(seed)
    sizes = {"depth": 3, "heads": 4, "image_size": 8, "patch_size": 2, "num_classes": 10}
    net = DeiT(48, **sizes, attn=Attention, pos=Learned)
    optim = partial(adamw, lr=0.003, weight_decay=0.05)
    task = Distill(net, teacher=teacher, kind=kind, num_classes=10, optim=optim, schedule=schedule.cosine)
    optimizer, loader = optim(net), data.train_dataloader()
    steps = EPOCHS * len(loader)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(schedule.cosine, total=steps, epoch=len(loader)))
    for _ in range(EPOCHS):
        for batch in loader:
            ready: dict[str, Tensor] = data.on_after_batch_transfer(batch, 0)
            optimizer.zero_grad()
            task.train().training_step(ready, 0).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            rate.step()
    return accuracy(net, data)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_student_of_few_images_learns_more_from_a_teacher():
    teacher = cnn()
    assert accuracy(teacher, digits()) > 0.97
    frozen = Teacher(teacher, name="cnn", seen=STATISTICS, given=STATISTICS)
    mixing = {"crop": "padded", "flip": 0.0, "mixup": 0.8, "cutmix": 1.0}
    alone, taught = [], []
    for seed in range(3):
        data = digits(seed=seed, limit_train=300, batch_size=32, augment=mixing)
        alone.append(student(None, data, seed=seed, kind="none"))
        taught.append(student(frozen, data, seed=seed, kind="hard"))
    print(f"without a teacher {alone}, with one {taught}")
    assert sum(taught) / 3 > sum(alone) / 3 + 0.03
