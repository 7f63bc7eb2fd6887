"""Classifiers of torchvision by name, with the interface of our own models."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

import torchvision
from torch import Tensor, nn

from tfcli.bounds import Count
from tfcli.models.protocols import Features
from tfcli.shapes import Float


class TorchvisionClassifier(nn.Module):
    """A network from `torchvision.models.get_model`, without its auxiliary heads.

    The auxiliary classifiers of googlenet and inception_v3 are left out, so that training has one loss. Their own
    rescaling of the input, which equals normalising images with mean 0.5 and deviation 0.5, is left out, too.

    Args:
        name: torchvision's name, for instance mobilenet_v2.
        num_classes: K, the number of classes.
        image_size: side of the image in pixels; vit_* and maxvit_t are built for one size, the others accept any.

    Raises:
        ValueError: torchvision has no such classifier, or `image_size` does not suit it.
    """

    def __init__(self, name: str, *, num_classes: Count, image_size: Count = 224):
        super().__init__()
        names = torchvision.models.list_models(module=torchvision.models)
        if name not in names:
            close = get_close_matches(str(name), names, n=1, cutoff=0.5)
            hint = f" Did you mean `{close[0]}`?" if close else " `tfcli ls models --all` lists them."
            raise ValueError(f"`model.name` must be a classifier of torchvision, but is {name!r}.{hint}")
        options: dict[str, Any] = {"num_classes": num_classes}
        if name.startswith("vit_"):
            patch_size = int(name.rpartition("_")[2])
            if image_size % patch_size:
                raise ValueError(f"`image_size` must be a multiple of {patch_size} for {name}, but is {image_size}.")
            options["image_size"] = image_size
        if name == "maxvit_t":
            options["input_size"] = (image_size, image_size)
        if name in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "transform_input": False, "init_weights": True}
        self.body = torchvision.models.get_model(name, weights=None, **options)
        self.torchvision_name = name
        self.head_name = self._find_head()
        self.undecayed = ("body.class_token",) if hasattr(self.body, "class_token") else ()
        names = [key for key, _ in self.body.named_parameters() if not self._in_head(key)]
        # ResNets and Inceptions have a child module for each stage.
        self._by_child = len({key.partition(".")[0] for key in names}) > 4
        self._groups = {group: index for index, group in enumerate(dict.fromkeys(map(self._group, names)))}

    def _find_head(self) -> str:
        """Return the name of the map to classes: a linear layer, but a 1x1 convolution in squeezenet."""
        kind = nn.Conv2d if self.torchvision_name.startswith("squeezenet") else nn.Linear
        return [name for name, module in self.body.named_modules() if isinstance(module, kind)][-1]

    def _in_head(self, key: str) -> bool:
        return key.startswith(self.head_name + ".")

    @property
    def head(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.body.get_submodule(self.head_name)

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        return self.body(image)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Return the head's input as one vector, and the last map or the last tokens before pooling."""
        seen: dict[str, Tensor] = {}
        last, before = _last_map(self.body)
        handles = [self.head.register_forward_pre_hook(lambda _module, inputs: seen.update(pooled=inputs[0]))]
        if before:
            handles.append(last.register_forward_pre_hook(lambda _module, inputs: seen.update(tokens=inputs[0])))
        else:
            handles.append(last.register_forward_hook(lambda _module, _inputs, output: seen.update(tokens=output)))
        try:
            self.body(image)
        finally:
            for handle in handles:
                handle.remove()
        tokens, pooled = seen["tokens"], seen["pooled"]
        if tokens.ndim == 4:
            tokens = tokens.flatten(2).mT
        return Features(tokens, pooled.mean((2, 3)) if pooled.ndim == 4 else pooled)

    @property
    def layers(self) -> int:
        return len(self._groups) - 1

    def _group(self, name: str) -> str:
        """Return the part that a parameter belongs to: its name up to the first number (`features.3`)."""
        if self._by_child:
            return name.partition(".")[0]
        numbered = re.match(r".*?\d+(?=\.|$)", name)
        return numbered.group() if numbered else name.rpartition(".")[0]

    def layer_of(self, name: str) -> int:
        """Return the index of the parameter's part in torchvision's order, from 0; the head comes last."""
        name = name.removeprefix("body.")
        return self.layers + 1 if self._in_head(name) else self._groups[self._group(name)]


def _last_map(body: Any) -> tuple[nn.Module, bool]:
    """Return the module whose input (True) or output (False) is the last feature map before pooling."""
    if hasattr(body, "avgpool"):
        return body.avgpool, True
    # ViT, ShuffleNet, DenseNet and others, MNASNet, MaxViT
    for name in ("encoder", "conv5", "features", "layers", "blocks"):
        if hasattr(body, name):
            part = getattr(body, name)
            return (part[-1] if isinstance(part, nn.ModuleList) else part), False
    raise ValueError(f"{type(body).__name__} has no known layer that gives its last feature map.")
