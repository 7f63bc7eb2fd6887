"""CLIP: an image tower and a text tower that meet in one space, where captions lie near their images.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", section 2 and appendix F.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import log
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Positive
from tfcli.models.protocols import Features
from tfcli.nn.attention import AttentionFactory
from tfcli.nn.blocks import Activation, Block, Mlp
from tfcli.nn.embeddings import ConvEmbed, PatchEmbed
from tfcli.nn.kernels import exact
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.shapes import Bool, Float, Int


class ImageTower(Protocol):
    """Images to features, features to the joint space."""

    embed_width: int
    layers: int

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features: ...

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]: ...

    def layer_of(self, name: str) -> int: ...


class TextTower(Protocol):
    """Tokens to the joint space."""

    embed_width: int
    layers: int
    context: int
    vocab_size: int

    def __call__(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]: ...

    def layer_of(self, name: str) -> int: ...


class CLIP(nn.Module):
    """Two encoders and a learned temperature; an image's score for a text is the scaled cosine of their embeddings.

    The loss lives in `tasks/contrastive.py`.

    Args:
        embed_width: E of the joint space.
        image: `VisionTransformer` or `ModifiedResNet`, projecting to E.
        text: `TextTransformer` or `TextBag`, projecting to E.
        logit_scale_start: the temperature's inverse at the start (1 / 0.07).
        logit_scale_max: the largest it may become; `clamp_scale` sees to it after each optimizer step.

    Raises:
        ValueError: a tower projects to another width than E.
    """

    def __init__(
        self,
        embed_width: int,
        *,
        image: nn.Module,
        text: nn.Module,
        logit_scale_start: float = 1 / 0.07,
        logit_scale_max: float = 100.0,
    ):
        super().__init__()
        for name, tower in (("image", image), ("text", text)):
            if tower.embed_width != embed_width:
                raise ValueError(
                    f"`model.{name}.embed_width` must equal `model.embed_width`, {embed_width}, "
                    f"but is {tower.embed_width}."
                )
        if not 0 < logit_scale_start <= logit_scale_max:
            raise ValueError(
                f"`model.logit_scale_start` must lie between 0 and `logit_scale_max`, {logit_scale_max:g}, "
                f"but is {logit_scale_start:g}."
            )
        self.embed_width, self.logit_scale_max = embed_width, logit_scale_max
        self.image: ImageTower = image  # type: ignore[assignment]  # a module as well
        self.text: TextTower = text  # type: ignore[assignment]
        self.logit_scale = nn.Parameter(torch.tensor(log(logit_scale_start)))

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Tokens of the last layer and the vector that is projected: what the paper's probes read (section 3.2)."""
        return self.image.features(image)

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """`features(image).pooled` in the joint space, not normalised."""
        return self.image.project(pooled)

    def encode_image(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B E"]:
        """Images in the joint space, not normalised."""
        return self.project(self.features(image).pooled)

    def encode_text(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        """Texts in the joint space, not normalised. `tokens` are as a `tfcli.text` tokenizer gives them."""
        return self.text(tokens)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Logit scale: the factor on the cosines, the inverse of the temperature."""
        return self.logit_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Hold the scale at `logit_scale_max` or below."""
        self.logit_scale.clamp_(max=log(self.logit_scale_max))

    def forward(self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "M N"]) -> Float[Tensor, "B M"]:
        """Scaled cosines of every image with every text."""
        image = nn.functional.normalize(self.encode_image(image), dim=-1)
        text = nn.functional.normalize(self.encode_text(tokens), dim=-1)
        return self.scale * image @ text.mT

    @property
    def layers(self) -> int:
        """Of the deeper tower."""
        return max(self.image.layers, self.text.layers)

    def layer_of(self, name: str) -> int:
        """0 for stems and positions, then the blocks, the towers level at their last; `layers` + 1 for what follows."""
        part, _, rest = name.partition(".")
        towers: dict[str, ImageTower | TextTower] = {"image": self.image, "text": self.text}
        tower = towers.get(part)
        layer = tower.layer_of(rest) if tower else 1 + self.layers
        return layer + self.layers - tower.layers if tower and layer else layer


class VisionTransformer(nn.Module):
    """The image tower as a ViT (Dosovitskiy et al. 2021) with a layer norm before the first block (section 2.4).

    Positions start as `pos` says (the release: deviation D^-1/2). The blocks start as the text tower's do; the release
    leaves the image tower's at PyTorch's defaults.

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels.
        embed_width: E of the joint space.
        attn: makes an attention (`conf/attn`).
        pos: makes a position (`conf/pos`).
        mlp_width: hidden width of the MLPs; 4 D by default.
        activation: quick_gelu for OpenAI's weights, gelu for most others; a wrong one costs accuracy without a word.
        norm_eps: epsilon of the layer norms.
        stem: patch (a linear map of each patch, the paper's) or conv (a pile of convolutions, which learns faster from
            few images).

    Raises:
        ValueError: there is no such stem or activation, or the sizes do not divide.
    """

    def __init__(
        self,
        width: int,
        *,
        depth: Count,
        heads: Count,
        image_size: int,
        patch_size: int,
        embed_width: int,
        attn: AttentionFactory,
        pos: Callable[..., Position],
        mlp_width: int | None = None,
        activation: Activation = "gelu",
        norm_eps: Positive = 1e-5,
        stem: Literal["patch", "conv"] = "patch",
    ):
        super().__init__()
        if stem not in ("patch", "conv"):
            raise ValueError(f"`model.image.stem` must be patch or conv, but is {stem!r}.")
        make = partial(PatchEmbed, bias=False) if stem == "patch" else ConvEmbed
        self.patch_embed = make(width, image_size=image_size, patch_size=patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.places = _grid(*self.patch_embed.grid, special=1)
        self.stack = Stack(
            width,
            depth=depth,
            heads=heads,
            attn=attn,
            pos=pos,
            extent=self.patch_embed.grid,
            special=1,
            mlp_width=mlp_width,
            activation=activation,
            norm_eps=norm_eps,
            stem_norm=True,
            final_norm=False,
        )
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.proj = nn.Linear(width, embed_width, bias=False)
        self.embed_width, self.layers = embed_width, depth
        nn.init.normal_(self.cls_token, std=width**-0.5)
        nn.init.normal_(self.proj.weight, std=width**-0.5)
        init_blocks(self.stack)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Tokens of the last block (class token first, not normalised) and the class token after the last norm."""
        x = self.patch_embed(image)
        x = torch.cat([self.cls_token.expand(len(x), 1, -1).to(x.dtype), x], 1)
        tokens = self.stack(x, self.places)
        return Features(tokens, self.norm(tokens[:, 0]))

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        return self.proj(pooled)

    def layer_of(self, name: str) -> int:
        if name.startswith("stack.blocks."):
            return int(name.split(".")[2]) + 1
        return 0 if name.startswith(("patch_embed", "cls_token", "stack.")) else self.layers + 1


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions as in ResNet; strides are average pools, before the last one and in the shortcut."""

    expansion = 4

    def __init__(self, width_in: int, width: int, *, stride: int):
        super().__init__()
        width_out = width * self.expansion
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, width_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width_out)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or width_in != width_out:
            pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
            conv = nn.Conv2d(width_in, width_out, 1, bias=False)
            self.downsample = nn.Sequential(pool, conv, nn.BatchNorm2d(width_out))
        nn.init.zeros_(self.bn3.weight)

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D y x"]:
        y = self.bn1(self.conv1(x)).relu()
        y = self.pool(self.bn2(self.conv2(y)).relu())
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class AttentionPool(nn.Module):
    """One step of multi-head attention that reads a map: its mean asks, its cells and their mean answer (section 2.4).

    Args:
        width: D of the map.
        heads: H.
        cells: number of cells of the map.
        embed_width: E of the joint space.
    """

    def __init__(self, width: int, *, heads: int, cells: int, embed_width: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"`model.image.heads` must divide the last map's width, {width}, but is {heads}.")
        self.heads = heads
        self.positions = nn.Parameter(torch.empty(cells + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, embed_width)
        for tensor in (self.positions, *(part.weight for part in (self.q_proj, self.k_proj, self.v_proj, self.out))):
            nn.init.normal_(tensor, std=width**-0.5)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B E"]:
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positions
        parts = (self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, H, 1 or M, E)
        return self.out(exact(q, k, v).flatten(1))


class ModifiedResNet(nn.Module):
    """The image tower as a ResNet with a stem of three convolutions, average pools for strides and an attention pool.

    Section 2.4, after He et al. 2019 ("Bag of Tricks", ResNet-D) and Zhang 2019 (blur before subsampling). Its norms
    take their statistics from a rank's own batch: train it on one device, with large batches, or with SyncBatchNorm.

    Args:
        blocks: number of blocks in each of the four stages.
        width: channels of the stem; the last map has 32 times as many.
        embed_width: E of the joint space.
        image_size: side of the image in pixels, a multiple of 32.
        heads: H of the attention pool; half the width in the release, 64 channels a head.

    Raises:
        ValueError: `blocks` are not four, `image_size` is no multiple of 32, or `heads` does not divide the width.
    """

    def __init__(
        self, blocks: Sequence[int] = (3, 4, 6, 3), *, width: int, embed_width: int, image_size: int, heads: int
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
        self.blocks, width_in = tuple(blocks), width
        for stage, number in enumerate(blocks):
            layers = nn.Sequential()
            for index in range(number):
                layers.append(Bottleneck(width_in, width * 2**stage, stride=2 if stage and not index else 1))
                width_in = width * 2**stage * Bottleneck.expansion
            setattr(self, f"layer{stage + 1}", layers)
        self.image_size, self.embed_width, self.layers = image_size, embed_width, sum(blocks)
        self.attention_pool = AttentionPool(
            width_in, heads=heads, cells=(image_size // 32) ** 2, embed_width=embed_width
        )

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """The cells of the last map, row by row, and the attention pool's reading of them, which is the embedding."""
        x = image
        for index in (1, 2, 3):
            x = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x)).relu()
        x = self.pool(x)
        for stage in range(len(self.blocks)):
            x = getattr(self, f"layer{stage + 1}")(x)
        tokens = x.flatten(2).mT
        return Features(tokens, self.attention_pool(tokens))

    def project(self, pooled: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        """Return `pooled` unchanged: the attention pool has already projected it."""
        return pooled

    def layer_of(self, name: str) -> int:
        if name.startswith("layer"):
            stage, index = name.removeprefix("layer").split(".")[:2]
            return sum(self.blocks[: int(stage) - 1]) + int(index) + 1
        return self.layers + 1 if name.startswith("attention_pool") else 0


class TextTransformer(nn.Module):
    """The text tower: a causal transformer, read at the end-of-text token (section 2.4).

    That token is the one with the largest id, so its place is the row's argmax; what follows it is padding, which the
    causal pattern hides. Positions start as `pos` says (the release: deviation 0.01).

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        context: N, the length that texts are padded to.
        vocab_size: V; the last id is the end of the text.
        embed_width: E of the joint space.
        attn: makes an attention with a causal pattern (`conf/attn/causal`).
        pos: makes a position (`conf/pos`).
        mlp_width: hidden width of the MLPs; 4 D by default.
        activation: see `VisionTransformer`.
        norm_eps: epsilon of the layer norms.

    Raises:
        ValueError: a token could see what follows it, or `vocab_size` is not known yet.
    """

    def __init__(
        self,
        width: int,
        *,
        depth: Count,
        heads: Count,
        context: Count,
        vocab_size: int | None,
        embed_width: int,
        attn: AttentionFactory,
        pos: Callable[..., Position],
        mlp_width: int | None = None,
        activation: Activation = "gelu",
        norm_eps: Positive = 1e-5,
    ):
        super().__init__()
        vocab_size = _check_vocabulary(vocab_size)
        self.embed = nn.Embedding(vocab_size, width)
        self.places = _grid(context)
        self.stack = Stack(
            width,
            depth=depth,
            heads=heads,
            attn=attn,
            pos=pos,
            extent=(context,),
            mlp_width=mlp_width,
            activation=activation,
            norm_eps=norm_eps,
        )
        pattern = self.stack.attentions[0].pattern
        if (mask := pattern.mask(self.places, self.places)) is None or bool(mask.triu(1).any()):
            raise ValueError(f"`model.text.attn` must be causal, since padding follows the text, but is {pattern}.")
        self.proj = nn.Linear(width, embed_width, bias=False)
        self.context, self.vocab_size, self.embed_width, self.layers = context, vocab_size, embed_width, depth
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.proj.weight, std=width**-0.5)
        init_blocks(self.stack)

    def forward(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        end = tokens.argmax(1)
        if not (self.training or torch.compiler.is_compiling()):  # padding changes nothing but the time
            tokens = tokens[:, : int(end.max()) + 1]
        x = self.stack(self.embed(tokens), self.places[: tokens.shape[1]])
        return self.proj(x[torch.arange(len(x), device=x.device), end])

    def layer_of(self, name: str) -> int:
        if name.startswith("stack.blocks."):
            return int(name.split(".")[2]) + 1
        return 0 if name.startswith(("embed", "stack.positions")) else self.layers + 1


class TextBag(nn.Module):
    """A text tower without order: the mean of the words' vectors, projected (section 2.3's bag of words).

    Args:
        width: D of the words.
        context: N, the length that texts are padded to.
        vocab_size: V; the last id is the end of the text.
        embed_width: E of the joint space.
    """

    layers = 1

    def __init__(self, width: int, *, context: int, vocab_size: int | None, embed_width: int):
        super().__init__()
        vocab_size = _check_vocabulary(vocab_size)
        self.embed = nn.Embedding(vocab_size, width)
        self.proj = nn.Linear(width, embed_width, bias=False)
        self.context, self.vocab_size, self.embed_width = context, vocab_size, embed_width
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.proj.weight, std=width**-0.5)

    def forward(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        words = self.words(tokens)[..., None]
        return self.proj((self.embed(tokens) * words).sum(1) / words.sum(1).clamp(min=1))

    def words(self, tokens: Int[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """True between the start and the end of the text."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        return (place > 0) & (place < tokens.argmax(1)[:, None])

    def layer_of(self, name: str) -> int:
        return 0 if name.startswith("embed") else self.layers + 1


def init_blocks(stack: Stack) -> None:
    """The release's table for the text tower, of width D and L blocks: normal, biases zero.

    Query, key, value: deviation D^-1/2. Attention's and MLP's output: D^-1/2 (2 L)^-1/2. MLP's first map: (2 D)^-1/2.
    """
    blocks = cast(list[Block], list(stack.blocks))
    for block, attention in zip(blocks, stack.attentions, strict=True):
        mlp = cast(Mlp, block.mlp)
        width = attention.qkv.in_features
        out = width**-0.5 * (2 * len(blocks)) ** -0.5
        deviations = {
            attention.qkv: width**-0.5,
            attention.out: out,
            mlp.fc1: (2 * width) ** -0.5,
            mlp.fc2: out,
        }
        for linear, std in deviations.items():
            nn.init.normal_(linear.weight, std=std)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)


def _grid(*extent: int, special: int = 0) -> Places:
    with torch.device("cpu"):  # they are numbers, also while the weights are only planned
        return Places.grid(*extent, special=special)


def _check_vocabulary(vocab_size: int | None) -> int:
    if not isinstance(vocab_size, int) or vocab_size < 3:
        raise ValueError(
            f"`model.text.vocab_size` must be a number of at least 3 (start, end and a word), but is {vocab_size}; "
            "null takes the tokenizer's."
        )
    return vocab_size
