"""One of two processes: its part of the loss, of the gradients and of the figures. `python ranks.py RANK FOLDER`"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist

from tfcli.metrics.glue import ScoreMetrics
from tfcli.metrics.retrieval import RetrievalMetrics
from tfcli.tasks.contrastive import gathered_contrastive_loss
from tfcli.tasks.gather import all_gather_with_grad
from tfcli.tasks.objective import Objective

WORLD, SHARES = 2, ((0, 3, 4, 6), (1, 2, 5))


def towers() -> torch.nn.ModuleDict:
    torch.manual_seed(0)
    net = torch.nn.ModuleDict({"image": torch.nn.Linear(5, 3), "text": torch.nn.Linear(4, 3)})
    net["scale"] = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(1.3))])
    return net


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(8, 5, generator=draw), torch.randn(8, 4, generator=draw)


def retrieved(rows: tuple[int, ...]) -> RetrievalMetrics:
    """Seven images with two texts each; of these the ones in `rows`."""
    draw = torch.Generator().manual_seed(2)
    image, text = torch.randn(7, 4, generator=draw), torch.randn(7, 2, 4, generator=draw)
    metric = RetrievalMetrics(group_size=4)
    if rows:
        index = torch.tensor(rows)
        metric.update(image[index], index, text[index].flatten(0, 1), index.repeat_interleave(2))
    return metric


def correlated(rows: tuple[int, ...]) -> ScoreMetrics:
    """Seven scores; of these the ones in `rows`."""
    guess, score = torch.randn(2, 7, generator=torch.Generator().manual_seed(3))
    metric = ScoreMetrics()
    if rows:
        metric.update(guess[list(rows)], score[list(rows)], torch.tensor(rows))
    return metric


class Ranks(SimpleNamespace):
    """Stands for a trainer."""

    global_step, world_size = 0, WORLD


def epoch_sums(rank: int, *, stop: bool) -> torch.Tensor:
    """Sums of an epoch of 20 batches, which stops and goes on in a new object after half of them, or does not."""
    losses = torch.rand(20, generator=torch.Generator().manual_seed(rank))
    task = objective(rank)
    for number, loss in enumerate(losses):
        if stop and number == 10:
            checkpoint: dict = {}
            task.on_save_checkpoint(checkpoint)
            task = objective(rank)
            task.on_load_checkpoint(checkpoint)
        task.add(loss * 3, 3)
    sums = task.epoch_sums()
    assert sums is not None
    return sums


def objective(rank: int) -> Objective:
    task = Objective(torch.nn.Identity(), optim=torch.optim.SGD, schedule=lambda step: 1.0)
    task._trainer = Ranks(global_rank=rank)
    return task


def main(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    found = {}
    image, text = (part.chunk(WORLD)[rank] for part in batch())
    for rows in ("own", "all"):
        net = towers()
        loss = gathered_contrastive_loss(net["image"](image), net["text"](text), net["scale"][0].exp(), rows=rows)
        loss.backward()
        values = {"loss": loss.detach(), **{name: p.grad for name, p in net.named_parameters()}}
        for value in values.values():  # the mean over the ranks, as data-parallel training takes it
            dist.all_reduce(value)
            value /= WORLD
        found[rows] = values
    found["gathered"] = all_gather_with_grad(torch.full((2, 1), float(rank)))[:, 0]
    found["uneven"] = retrieved(SHARES[rank]).compute(5.0)
    found["empty"] = retrieved(tuple(range(7)) if rank else ()).compute(5.0)
    found["scores"] = correlated(SHARES[rank]).with_intervals()
    found["empty scores"] = correlated(tuple(range(7)) if rank else ()).with_intervals()
    found["sums"] = [epoch_sums(rank, stop=stop) for stop in (False, True)]
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
