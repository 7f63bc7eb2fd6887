"""Weight initialisations that several families share."""

from __future__ import annotations

from typing import cast

from torch import nn

from tfcli.nn.blocks import Block, Mlp
from tfcli.nn.embeddings import PatchEmbed
from tfcli.nn.stack import Stack


def init_as_vit(net: nn.Module) -> None:
    """Initialise as ViT's official JAX code: Xavier-uniform maps and patches; biases 0, in the MLPs N(0, 1e-6)."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=1e-6) if ".mlp." in name else nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, PatchEmbed):
            nn.init.xavier_uniform_(module.proj.weight.flatten(1))
            if module.proj.bias is not None:
                nn.init.zeros_(module.proj.bias)


def init_normal(net: nn.Module, *, std: float = 0.02, truncated: bool = False, residual_branches: int = 0) -> None:
    """Initialise linear maps and embeddings as N(0, std^2) and biases as 0 (GPT and BERT).

    Args:
        std: standard deviation.
        truncated: redraw values further than two deviations from zero (BERT).
        residual_branches: number of residual branches; the last map of each is scaled by the inverse square root of it,
            so that their sum does not grow with depth (Radford et al. 2019, section 2.3). 0: they are not scaled.
    """
    for name, module in net.named_modules():
        if not isinstance(module, nn.Linear | nn.Embedding):
            continue
        ends = residual_branches and name.endswith(("attention.out", "mlp.fc2"))
        own = std / residual_branches**0.5 if ends else std
        if truncated:
            nn.init.trunc_normal_(module.weight, std=own, a=-2 * own, b=2 * own)
        else:
            nn.init.normal_(module.weight, std=own)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def init_xavier(net: nn.Module) -> None:
    """Initialise linear maps as Xavier-uniform and biases as 0 (Transformer, as in tensor2tensor)."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_by_width(stack: Stack) -> None:
    """Initialise the maps of a stack of width D and depth L as normal, biases as 0 (the text tower of CLIP's release).

    Standard deviations: D^-1/2 for query, key and value; D^-1/2 (2 L)^-1/2 for the outputs of attention and MLP;
    (2 D)^-1/2 for the first map of the MLP.
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
