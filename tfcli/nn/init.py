"""First values of weights that several families share."""

from __future__ import annotations

from torch import nn

from tfcli.nn.embeddings import PatchEmbed


def init_as_vit(net: nn.Module) -> None:
    """Xavier-uniform linear maps and patches, zero biases but N(0, 1e-6) in the MLPs (the official JAX code of ViT)."""
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
    """Normal linear maps and embeddings, zero biases (GPT and BERT).

    Args:
        std: deviation.
        truncated: redraw what lies further than two deviations from zero (BERT).
        residual_branches: how many there are on the way up; the maps that end them start smaller by the square root of
            that, so that their sum does not grow with depth (Radford et al. 2019, section 2.3). 0: they do not.
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
    """Xavier-uniform linear maps, zero biases (Transformer, as in tensor2tensor)."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
