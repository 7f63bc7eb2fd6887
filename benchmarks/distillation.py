"""What a teacher is worth: a small DeiT of 300 digits without one, and with hard and with soft labels of one.

    python benchmarks/distillation.py [EPOCHS] [--seeds 20 21 22 23 24]

`benchmarks/README.md` has the figures. Soft labels helped with every seed. Hard labels showed nothing: of images that
such a teacher knows its first choice is the label. With 60 epochs and stronger mixing, which leaves students at one
half, no difference was the same on other seeds.

Accuracy is measured, not speed. Left out: the program around the task (`tfcli train task=distill` adds validation,
checkpoints and the choice of the best epoch); data, model, loss and optimizer are those of the program, in a bare loop.
The students are tested after their last epoch.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.data.images.transforms import normalise
from tfcli.data.module import DataModule
from tfcli.data.sources.digits import Digits
from tfcli.models.deit import DeiT
from tfcli.nn.attention import Attention
from tfcli.nn.positions import Learned
from tfcli.tasks import schedule
from tfcli.tasks.distill import Distill, Teacher
from tfcli.tasks.optim import adamw

STATISTICS = ((0.305,) * 3, (0.376,) * 3)
EPOCHS = 200
SEEDS = range(20, 25)
MIXING = {"crop": "padded", "flip": 0.0, "mixup": 0.2}


def digits(**changes) -> DataModule:
    mean, std = STATISTICS
    data = DataModule(Digits(), name="digits", image_size=8, mean=mean, std=std, eval_crop=1.0, workers=0, **changes)
    data.prepare()
    return data


def accuracy(net: nn.Module, data: DataModule) -> float:
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


def student(teacher: Teacher | None, data: DataModule, *, seed: int, kind: str, epochs: int) -> float:
    torch.manual_seed(seed)
    sizes = {"depth": 3, "heads": 4, "image_size": 8, "patch_size": 2, "num_classes": 10}
    net = DeiT(48, **sizes, attn=Attention, pos=Learned)
    optim = partial(adamw, lr=0.003, weight_decay=0.05)
    task = Distill(net, teacher=teacher, kind=kind, tau=3.0, num_classes=10, optim=optim, schedule=schedule.cosine)
    optimizer, loader = optim(net), data.train_dataloader()
    steps = epochs * len(loader)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(schedule.cosine, total=steps, epoch=len(loader)))
    for _ in range(epochs):
        for batch in loader:
            ready: dict[str, Tensor] = data.on_after_batch_transfer(batch, 0)
            optimizer.zero_grad()
            task.train().training_step(ready, 0).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            rate.step()
    return accuracy(net, data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("epochs", nargs="?", type=int, default=EPOCHS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="two at least")
    given = parser.parse_args()
    if len(given.seeds) < 2:
        parser.error("--seeds needs two at least: the difference has an error")
    torch.set_num_threads(1)
    net = cnn()
    teacher = Teacher(net, name="cnn", teacher_norm=STATISTICS, student_norm=STATISTICS)
    print(f"teacher {accuracy(net, digits()):.3f}")
    found: dict[str, list[float]] = {"none": [], "hard": [], "soft": []}
    for seed in given.seeds:
        for kind, figures in found.items():
            data = digits(seed=seed, limit_train=300, batch_size=32, augment=MIXING)
            figures.append(
                student(None if kind == "none" else teacher, data, seed=seed, kind=kind, epochs=given.epochs)
            )
        print(f"seed {seed}  " + "  ".join(f"{kind} {figures[-1]:.3f}" for kind, figures in found.items()), flush=True)
    for kind in ("hard", "soft"):
        gains = [a - b for a, b in zip(found[kind], found["none"], strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        print(f"{kind} - none  {statistics.mean(gains):+.3f}, standard error {error:.3f}")
    print(f"{given.epochs} epochs in a bare loop, tested after the last; left out: validation, the choice of an epoch")


if __name__ == "__main__":
    main()
