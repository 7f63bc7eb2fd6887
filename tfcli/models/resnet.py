"""Residual networks: for photographs and for CIFAR (He et al. 2016), and the image towers of CLIP.

He et al. 2016, "Deep Residual Learning for Image Recognition"; Radford et al. 2021 (CLIP), section 2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from tfcli.bounds import Bounds, Count
from tfcli.errors import DataError
from tfcli.models.protocols import Features
from tfcli.nn.pooling import MeanQueryPool
from tfcli.shapes import Float

Shortcut = Callable[[int, int, int], nn.Module]

SIZES = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""Depth -> kind of block and number of blocks in each stage (table 1)."""


def projection(width_in: int, width_out: int, stride: int) -> nn.Module:
    """Build shortcut option B of section 3.3: a strided 1x1 convolution."""
    return nn.Sequential(nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out))


def pooled_projection(width_in: int, width_out: int, stride: int) -> nn.Module:
    """Build ResNet-D's shortcut: average pooling for the stride, then a 1x1 convolution (He et al. 2019, 4.2)."""
    pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, nn.Conv2d(width_in, width_out, 1, bias=False), nn.BatchNorm2d(width_out))


class Padding(nn.Module):
    """Shortcut option A of section 3.3, without weights: every second pixel, with zeros for the new channels.

    Half of the zeros come before the old channels, as in the published CIFAR weights; the paper does not specify this.
    """

    def __init__(self, width_in: int, width_out: int, stride: int):
        super().__init__()
        self.stride, self.extra = stride, (width_out - width_in) // 2

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D y x"]:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))


class BasicBlock(nn.Module):
    """A residual block of two 3x3 convolutions (figure 5, left); the first one has the stride."""

    expansion = 1

    def __init__(self, width_in: int, width: int, *, stride: int, shortcut: Shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(width_in, width, stride) if stride > 1 or width_in != width else nn.Identity()

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D y x"]:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.downsample(x)).relu()


class Bottleneck(nn.Module):
    """A residual block of 1x1, 3x3 and 1x1 convolutions (figure 5, right); as in torchvision the 3x3 has the stride."""

    expansion = 4
    pools = False

    def __init__(self, width_in: int, width: int, *, stride: int, shortcut: Shortcut):
        super().__init__()
        width_out = width * self.expansion
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1 if self.pools else stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride) if self.pools and stride > 1 else None
        self.conv3 = nn.Conv2d(width, width_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width_out)
        self.downsample = (
            shortcut(width_in, width_out, stride) if stride > 1 or width_in != width_out else nn.Identity()
        )

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D y x"]:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = y if self.pool is None else self.pool(y)
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class PooledBottleneck(Bottleneck):
    """A bottleneck block whose stride is an average pool after the 3x3 convolution (anti-aliasing)."""

    pools = True


class Stages(nn.Module):
    """Base class of residual networks: stages of blocks; each but the first halves the map and doubles the width."""

    blocks: Sequence[int] = ()

    def add_stages(
        self,
        width: int,
        blocks: Sequence[int],
        *,
        block: type[BasicBlock] | type[Bottleneck],
        shortcut: Shortcut,
    ) -> int:
        """Add the stages `layer1`, `layer2` ... after a stem of `width` channels; return the last map's channels."""
        self.blocks, width_in = tuple(blocks), width
        for stage, number in enumerate(blocks):
            layers = nn.Sequential()
            for index in range(number):
                stride = 2 if stage and not index else 1
                layers.append(block(width_in, width * 2**stage, stride=stride, shortcut=shortcut))
                width_in = width * 2**stage * block.expansion
            setattr(self, f"layer{stage + 1}", layers)
        return width_in

    def through_stages(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D y x"]:
        """Return the last map."""
        for stage in range(len(self.blocks)):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x

    @property
    def layers(self) -> int:
        return sum(self.blocks)

    def layer_of(self, name: str) -> int:
        """Return 0 for the stem, 1 to `layers` for the residual blocks, `layers` + 1 for the head or attention pool."""
        if name.startswith("layer"):
            stage, index = name.removeprefix("layer").split(".")[:2]
            return sum(self.blocks[: int(stage) - 1]) + int(index) + 1
        return self.layers + 1 if name.startswith(("head", "attention_pool")) else 0


class Residual(Stages):
    """Base class of the paper's classifiers: stem, stages, mean pooling, linear head.

    Args:
        stem: number of channels after the first convolution.
        large: 7x7 stem with stride 2 and max-pooling; otherwise 3x3 with stride 1.
        block: kind of block.
        blocks: number of blocks in each stage.
        shortcut: factory of the shortcut where the shape changes.
        num_classes: K, the number of classes.
    """

    torchvision_name: str | None = None

    def __init__(
        self,
        stem: int,
        *,
        large: bool,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, ...],
        shortcut: Shortcut,
        num_classes: int,
    ):
        super().__init__()
        self.conv1 = (
            nn.Conv2d(3, stem, 7, 2, padding=3, bias=False) if large else nn.Conv2d(3, stem, 3, padding=1, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(stem)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity()
        self.head = nn.Linear(self.add_stages(stem, blocks, block=block, shortcut=shortcut), num_classes)
        for module in self.modules():  # He et al. 2015, by fan-out as in torchvision; norms start as the identity
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Return the cells of the last map, row by row, and their mean."""
        x = self.through_stages(self.pool(self.bn1(self.conv1(image)).relu()))
        return Features(x.flatten(2).mT, torch.mean(x, (2, 3)))

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        return self.head(self.features(image).pooled)


class ResNet(Residual):
    """ResNet for ImageNet (section 4.1), with torchvision's parameter names except for the head (`fc` there).

    Args:
        depth: number of layers with weights: 18, 34, 50, 101 or 152.
        num_classes: K, the number of classes.
        stem: `imagenet` (7x7, stride 2, max-pooling) or `cifar` (3x3, stride 1) for images of about 32 px.

    Raises:
        ValueError: there is no such depth or stem.
    """

    def __init__(
        self,
        depth: Literal[18, 34, 50, 101, 152],
        *,
        num_classes: Count,
        stem: Literal["imagenet", "cifar"] = "imagenet",
    ):
        if depth not in SIZES:
            raise ValueError(f"`model.depth` must be one of {', '.join(map(str, SIZES))} for a ResNet, but is {depth}.")
        if stem not in ("imagenet", "cifar"):
            raise ValueError(f"`model.stem` must be imagenet or cifar, but is {stem!r}.")
        kind, blocks = SIZES[depth]
        block = BasicBlock if kind == "basic" else Bottleneck
        super().__init__(
            64, large=stem == "imagenet", block=block, blocks=blocks, shortcut=projection, num_classes=num_classes
        )
        self.torchvision_name = f"resnet{depth}"


class CifarResNet(Residual):
    """ResNet for CIFAR (section 4.2): a 3x3 stem, three stages of widths 16, 32, 64, shortcuts without weights.

    Args:
        depth: 6 n + 2 for n blocks in each stage: 20, 32, 44, 56, 110 in the paper.
        num_classes: K, the number of classes.

    Raises:
        ValueError: `depth` is not 6 n + 2.
    """

    def __init__(self, depth: Annotated[int, Bounds(low=8, step=6)], *, num_classes: Count):
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"`model.depth` must be 6 n + 2 (20, 32, 44, 56, 110) for a CIFAR ResNet, but is {depth}.")
        blocks = ((depth - 2) // 6,) * 3
        super().__init__(16, large=False, block=BasicBlock, blocks=blocks, shortcut=Padding, num_classes=num_classes)


class ModifiedResNet(Stages):
    """CLIP's image tower as a ResNet: a stem of three convolutions, average pools for strides, an attention pool.

    Radford et al. 2021, section 2.4, after He et al. 2019 ("Bag of Tricks", ResNet-D) and Zhang 2019 (blur before
    subsampling). Its batch norms use the statistics of one rank's batch: train it on one device, with large batches, or
    with SyncBatchNorm.

    Args:
        blocks: number of blocks in each of the four stages.
        width: number of channels of the stem; the last map has 32 times as many.
        embed_width: E of the joint space.
        image_size: side of the image in pixels, a multiple of 32.
        heads: H of the attention pool; half the width in the release, which gives 64 channels for each head.

    Raises:
        ValueError: `blocks` are not four, `image_size` is no multiple of 32, or `heads` does not divide the width.
    """

    def __init__(
        self,
        blocks: Sequence[Count] = (3, 4, 6, 3),
        *,
        width: Count,
        embed_width: Count,
        image_size: Count,
        heads: Count,
    ):
        super().__init__()
        if len(blocks) != 4:
            raise ValueError(f"`model.image.blocks` must name four stages, but is {list(blocks)}.")
        if image_size % 32:
            raise ValueError(f"`image_size` must be a multiple of 32 for CLIP's ResNets, but is {image_size}.")
        widths = [3, width // 2, width // 2, width]
        for index in range(3):
            setattr(
                self,
                f"conv{index + 1}",
                nn.Conv2d(widths[index], widths[index + 1], 3, 2 if index == 0 else 1, padding=1, bias=False),
            )
            setattr(self, f"bn{index + 1}", nn.BatchNorm2d(widths[index + 1]))
        self.pool = nn.AvgPool2d(2)
        width_last = self.add_stages(width, blocks, block=PooledBottleneck, shortcut=pooled_projection)
        for block in self.modules():
            if isinstance(block, PooledBottleneck):  # initially the block equals its shortcut
                nn.init.zeros_(block.bn3.weight)
        self.image_size, self.embed_width = image_size, embed_width
        cells = (image_size // 32) ** 2
        self.attention_pool = MeanQueryPool(width_last, heads=heads, cells=cells, out_width=embed_width)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Return the cells of the last map, row by row, and the output of the attention pool, which is the embedding.

        Raises:
            DataError: the images are of another size than the network was built for.
        """
        if image.shape[-2:] != (self.image_size, self.image_size):
            raise DataError(
                f"the attention pool of this network has positions for images of {self.image_size} px only, but the "
                f"images have {image.shape[-2]} x {image.shape[-1]}: `data.image_size` must be {self.image_size}."
            )
        x = image
        for index in (1, 2, 3):
            x = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x)).relu()
        x = self.through_stages(self.pool(x))
        tokens = x.flatten(2).mT
        return Features(tokens, self.attention_pool(tokens))

    def project(self, pooled: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        """Return `pooled` unchanged: the attention pool has already projected it."""
        return pooled
