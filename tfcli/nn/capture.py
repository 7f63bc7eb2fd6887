"""Capture of intermediate outputs and attention weights by module name, without a flag in any model.

with capture(net) as trace:
    net(image)
trace.attention["stack.blocks.0.attention"]  # (B, H, N, M)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn

from tfcli.nn import kernels
from tfcli.nn.attention import MultiHead
from tfcli.shapes import Float


class HookPoint(nn.Module):
    """The identity, at which `capture` records the weights of an attention that is not a `MultiHead` (RNNs)."""

    def forward(self, weights: Float[Tensor, "B H N M"]) -> Float[Tensor, "B H N M"]:
        return weights


@dataclass
class Trace:
    """Captured values by module name: `outputs` of modules that return a tensor, and weights of each `attention`."""

    outputs: dict[str, Tensor] = field(default_factory=dict)
    attention: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def capture(net: nn.Module) -> Iterator[Trace]:
    """Record the forward passes of `net` inside the context, in which attention weights are computed explicitly."""
    trace = Trace()
    handles, kept = [], {}

    def watch(name: str, module: nn.Module) -> None:
        def hook(_module, _inputs, output):
            if isinstance(output, Tensor):
                trace.outputs[name] = output
                if isinstance(module, HookPoint):
                    trace.attention[name] = output

        handles.append(module.register_forward_hook(hook))

    def explicit(name: str, weights: Callable[..., Tensor]):
        def kernel(q, k, v, view=None, drop=0.0):
            seen = weights(q, k, view)
            trace.attention[name] = seen[..., : q.shape[2]] if view is not None and view.is_self else seen
            return nn.functional.dropout(seen, drop) @ v

        return kernel

    for name, module in net.named_modules():
        watch(name, module)
        if isinstance(module, MultiHead):
            kept[module] = module.kernel
            approximation = module.approximation
            module.kernel = explicit(name, approximation.weights if approximation is not None else kernels.weights)
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()
        for module, kernel in kept.items():
            module.kernel = kernel
