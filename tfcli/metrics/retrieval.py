"""Retrieval between images and texts in both directions: exact for any distribution of samples over batches and ranks.

torchmetrics needs one score and one target per query. Here embeddings are collected and compared in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import comb, sqrt

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, pad

from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.metrics.intervals import Z, wilson
from tfcli.shapes import Float, Int

CUTS = (1, 5, 10)
DIRECTIONS = ("image_to_text", "text_to_image")
EQUAL = 1e-6
"""Difference below which cosines count as equal, since encoders round differently in other batches."""
_BLOCK = 2**24
"""Number of cosines computed at a time."""

Figures = dict[str, tuple[float, tuple[float, float]]]


class RetrievalMetrics:
    """R@1, R@5, R@10 and the median rank of images for texts and texts for images, and the contrastive loss.

    An image is a hit at k if any of its texts is among the k nearest; a text, if its image is. Among equal cosines the
    lower index comes first, as in a stable sort, so that a constant model is at chance. Ranks may have any number of
    samples; all compute the same figures, which are exactly those of one process.

    Args:
        group_size: number of pairs over which the loss is computed, since a contrastive loss depends on it; a group has
            consecutive images with their first texts.
    """

    def __init__(self, *, group_size: int = 256):
        self.group_size = group_size
        self.reset()

    def reset(self) -> None:
        """Delete all embeddings."""
        self._parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure."""
        words = {way: way.replace("_", " ") for way in DIRECTIONS}
        hits = {f"{way}_r{k}": FigureInfo(f"{words[way]}, R@{k}") for way in DIRECTIONS for k in CUTS}
        ranks = {f"{w}_median_rank": FigureInfo(f"{words[w]} median rank", lower_is_better=True) for w in DIRECTIONS}
        return {**hits, "loss": LOSS, **ranks}

    def update(
        self,
        image: Float[Tensor, "B E"],
        index: Int[Tensor, "B"],
        text: Float[Tensor, "T E"],
        owner: Int[Tensor, "T"],
    ) -> None:
        """Add a batch.

        Args:
            image, text: embeddings of any norm.
            index: indices of the images.
            owner: index of the image that each text belongs to.
        """
        image, text = normalize(image.detach().float(), dim=-1), normalize(text.detach().float(), dim=-1)
        self._parts.append((image, index, text, owner))

    def compute(self, scale: float) -> dict[str, float]:
        """Return the figures by name; `scale` multiplies the cosines in the loss."""
        return {name: value for name, (value, _) in self.with_intervals(scale).items()}

    def with_intervals(self, scale: float) -> Figures:
        """Return each figure with its 95 % interval: Wilson's for shares of queries, order statistics for the median.

        The intervals treat queries as independent, which several texts of one image are only approximately.

        Raises:
            ValueError: there are no samples, or a text belongs to no image.
        """
        image, text, owner = self._gathered()
        figures: Figures = {}
        for way, ranks in zip(DIRECTIONS, (_text_ranks, _image_ranks), strict=True):
            rank = _shared(ranks(image, text, owner)).sort().values
            for k in CUTS:
                hits = int((rank <= k).sum())
                figures[f"{way}_r{k}"] = (hits / len(rank), wilson(hits, len(rank)))
            figures[f"{way}_median_rank"] = _median(rank)
        first = torch.searchsorted(owner, torch.arange(len(image), device=owner.device))
        figures["loss"] = _loss(image, text[first], scale, self.group_size)
        return figures

    def chance(self) -> dict[str, float]:
        """Return the expected shares of hits of a random order, by name."""
        image, text, owner = self._gathered()
        counts = torch.bincount(owner, minlength=len(image)).tolist()
        total = len(text)
        figures = {}
        for k in CUTS:
            missed = {c: comb(total - c, min(k, total)) / comb(total, min(k, total)) for c in set(counts)}
            figures[f"image_to_text_r{k}"] = 1 - sum(missed[c] for c in counts) / len(image)
            figures[f"text_to_image_r{k}"] = min(1.0, k / len(image))
        return figures

    def _gathered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return images and texts of all ranks in order of index, and for each text the position of its image."""
        image, index, text, owner = (gather_rows(torch.cat(column)) for column in self._columns())
        if not len(image):
            raise ValueError("there is nothing to measure: no pair was seen.")
        index, order = index.sort(stable=True)
        image = image[order]
        owner, order = owner.sort(stable=True)
        place = torch.searchsorted(index, owner)
        if not torch.equal(index[place.clamp(max=len(index) - 1)], owner):
            raise ValueError("`owner` must name images that were seen.")
        return image, text[order], place

    def _columns(self) -> list[list[Tensor]]:
        if self._parts:
            return [list(column) for column in zip(*self._parts, strict=True)]
        device = torch.device("cuda", torch.cuda.current_device()) if _backend() == "nccl" else torch.device("cpu")
        whole = torch.zeros(0, dtype=torch.int64, device=device)
        return [[whole.float()[:, None]], [whole], [whole.float()[:, None]], [whole]]


def gather_rows(x: Tensor) -> Tensor:
    """Return the rows of all ranks in order of rank; numbers of rows may differ, and the width of an empty rank."""
    if not _backend():
        return x
    world = dist.get_world_size()
    sizes = [torch.zeros(2, dtype=torch.int64, device=x.device) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([len(x), x.shape[1] if x.ndim > 1 else 1], device=x.device))
    rows, width = [int(size[0]) for size in sizes], max(int(size[1]) for size in sizes)
    short = max(rows) - len(x)
    full = pad(x, (0, width - x.shape[1], 0, short)) if x.ndim > 1 else pad(x, (0, short))
    parts = [torch.empty_like(full) for _ in range(world)]
    dist.all_gather(parts, full.contiguous())
    return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])


def _backend() -> str:
    return dist.get_backend() if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 else ""


def _blocks(query: Tensor, key: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield blocks of positions of this rank's queries, with their cosines to all keys."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if _backend() else (0, 1)
    mine = torch.arange(rank, len(query), world, device=query.device)
    for rows in mine.split(max(1, _BLOCK // len(key))):
        yield rows, (query[rows] @ key.mT).nan_to_num(nan=-2.0)


def _text_ranks(image: Tensor, text: Tensor, owner: Tensor) -> Tensor:
    """Return for each image the rank of its nearest own text, from 1; 0 for images of other processes."""
    result = torch.zeros(len(image), dtype=torch.int64, device=image.device)
    place = torch.arange(len(text), device=image.device)
    for rows, cosine in _blocks(image, text):
        own = owner == rows[:, None]
        best = cosine.masked_fill(~own, -3.0).amax(1, keepdim=True)
        first = (own & (cosine >= best - EQUAL)).int().argmax(1, keepdim=True)
        before = (cosine > best + EQUAL) | ((cosine >= best - EQUAL) & (place < first))
        result[rows] = 1 + (before & ~own).sum(1)
    return result


def _image_ranks(image: Tensor, text: Tensor, owner: Tensor) -> Tensor:
    """Return for each text the rank of its image, from 1; 0 for texts of other processes."""
    result = torch.zeros(len(text), dtype=torch.int64, device=text.device)
    place = torch.arange(len(image), device=image.device)
    for rows, cosine in _blocks(text, image):
        target = owner[rows, None]
        best = cosine.gather(1, target)
        before = (cosine > best + EQUAL) | ((cosine >= best - EQUAL) & (place < target))
        result[rows] = 1 + before.sum(1)
    return result


def _shared(ranks: Tensor) -> Tensor:
    """Merge the ranks that the processes computed."""
    if _backend():
        dist.all_reduce(ranks)
    return ranks


def _median(rank: Tensor) -> tuple[float, tuple[float, float]]:
    count = len(rank)
    half = Z * sqrt(count) / 2
    low, high = (int(min(count - 1, max(0, place))) for place in (count / 2 - half, count / 2 + half))
    middle = (rank[(count - 1) // 2] + rank[count // 2]) / 2
    return float(middle), (min(float(rank[low]), float(middle)), max(float(rank[high]), float(middle)))


def _loss(image: Tensor, text: Tensor, scale: float, group_size: int) -> tuple[float, tuple[float, float]]:
    """Return the mean contrastive loss over groups of consecutive pairs, with the normal interval."""
    losses = []
    for own, other in zip(image.split(group_size), text.split(group_size), strict=True):
        logits, label = scale * own @ other.mT, torch.arange(len(own), device=own.device)
        both = cross_entropy(logits, label, reduction="none") + cross_entropy(logits.mT, label, reduction="none")
        losses.append(both / 2)
    loss = torch.cat(losses).double()
    spread = Z * sqrt(float(loss.var(unbiased=False)) / len(loss))
    return float(loss.mean()), (max(0.0, float(loss.mean()) - spread), float(loss.mean()) + spread)
