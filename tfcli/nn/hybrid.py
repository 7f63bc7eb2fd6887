"""The stem of the hybrid ViT: a small ResNet whose feature map is cut into tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import gcd

from torch import Tensor, nn
from torch.nn.functional import conv2d, layer_norm, max_pool2d, pad

from tfcli.bounds import Count
from tfcli.nn.embeddings import Stem, grid_of
from tfcli.shapes import Float


class HybridEmbed(Stem):
    """Tokens from the cells of a ResNet's feature map, or from patches of cells (Dosovitskiy et al. 2021, section 3.1).

    The ResNet is BiT's (Kolesnikov et al. 2020), but post-activation: a root of stride 4, then stages of bottleneck
    blocks, with group norm and standardised weights. All stages but the first halve the map and double its channels.
    In the paper's sizes R50 is (3, 4, 9), where the last stage's blocks are moved to the third, or (3, 4, 6, 3) for
    tokens of 32 px; R26 is (2, 2, 2, 2) and R the root alone. Epsilons are timm's, to fit its checkpoints.

    Args:
        width: D of the tokens.
        image_size: side of the image in pixels.
        patch_size: side of a token in pixels of the image; where it equals the map's stride, each cell is a token.
        channels: C, the number of channels of the image.
        blocks: number of blocks in each stage; empty: the root alone.
        stem_width: channels after the root; the first stage has four times as many.

    Raises:
        ValueError: `patch_size` does not divide `image_size`, or the map's stride does not divide `patch_size`; or a
            stage has no block, or the root no channel.
    """

    def __init__(
        self,
        width: int,
        *,
        image_size: int,
        patch_size: int,
        channels: int = 3,
        blocks: Sequence[Count] = (3, 4, 9),
        stem_width: Count = 64,
    ):
        super().__init__()
        if stem_width < 1 or min(blocks, default=1) < 1:
            raise ValueError(
                f"`stem.stem_width` and each of `stem.blocks` must be at least 1, "
                f"but are {stem_width} and {list(blocks)}."
            )
        stride = 4 * 2 ** max(len(blocks) - 1, 0)
        if patch_size % stride:
            raise ValueError(
                f"`patch_size` must be a multiple of {stride}, the stride of a hybrid stem with stages of "
                f"{list(blocks)} blocks, but is {patch_size}."
            )
        self.grid, self.patch_size = grid_of(image_size, patch_size), patch_size
        self.root = Root(channels, stem_width)
        self.stages = nn.Sequential()
        before = stem_width
        for stage, number in enumerate(blocks):
            after = 4 * stem_width * 2**stage
            first = Bottleneck(before, after, stride=2 if stage else 1)
            self.stages.append(nn.Sequential(first, *(Bottleneck(after, after) for _ in range(number - 1))))
            before = after
        self.proj = nn.Conv2d(before, width, patch_size // stride, patch_size // stride)
        nn.init.xavier_uniform_(self.proj.weight.flatten(1))
        assert self.proj.bias is not None
        nn.init.zeros_(self.proj.bias)

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N D"]:
        return self.proj(self.stages(self.root(image))).flatten(2).mT


class Root(nn.Module):
    """The root of the ResNet: a 7x7 convolution and 3x3 max-pooling, each of stride 2."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv = StdConv(channels, width, 7, 2)
        self.norm = group_norm(width)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D y x"]:
        return max_pool2d(pad_same(self.norm(self.conv(x)).relu(), 3, 2), 3, 2)  # after ReLU zero padding is neutral


class Bottleneck(nn.Module):
    """A residual block of 1x1, 3x3 (strided, four times narrower) and 1x1 convolutions; initially its shortcut."""

    def __init__(self, width_in: int, width_out: int, *, stride: int = 1):
        super().__init__()
        width = width_out // 4
        self.conv1, self.norm1 = StdConv(width_in, width, 1), group_norm(width)
        self.conv2, self.norm2 = StdConv(width, width, 3, stride), group_norm(width)
        self.conv3, self.norm3 = StdConv(width, width_out, 1), group_norm(width_out)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or width_in != width_out:
            projection = {"conv": StdConv(width_in, width_out, 1, stride), "norm": group_norm(width_out)}
            self.downsample = nn.Sequential(OrderedDict(projection))
        nn.init.zeros_(self.norm3.weight)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D y x"]:
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y)).relu()
        return (self.norm3(self.conv3(y)) + self.downsample(x)).relu()


class StdConv(nn.Conv2d):
    """A convolution without bias that standardises the weights of each output channel (Qiao et al. 2019).

    The scale of the weights affects only how fast they learn; they start LeCun-normal, as in the official JAX code.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int = 1):
        super().__init__(width_in, width_out, kernel, stride, bias=False)
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D y x"]:
        weight = layer_norm(self.weight, self.weight.shape[1:], eps=1e-8)
        return conv2d(pad_same(x, self.kernel_size[0], self.stride[0]), weight, stride=self.stride)


def pad_same(x: Float[Tensor, "B C Y X"], kernel: int, stride: int) -> Float[Tensor, "B C y x"]:
    """Pad a map with zeros as TensorFlow's "same" does: a convolution then returns 1 / `stride` of each side.

    `stride` must divide the sides. Where the padding is odd, there is one more zero after the map than before it.
    """
    missing = max(kernel - stride, 0)
    return pad(x, (missing // 2, missing - missing // 2) * 2) if missing else x


def group_norm(width: int) -> nn.GroupNorm:
    """Build a group norm of 32 groups, or of pairs of channels where the map is narrow."""
    return nn.GroupNorm(max(gcd(32, width) // (1 if width >= 64 else 2), 1), width)
