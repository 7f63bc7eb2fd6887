"""Features of a data set's splits, projected and normalised as heads ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tfcli.engine.probe import encoder
from tfcli.models.protocols import ImageTextEncoder
from tfcli.probes.scores import Split


@dataclass
class Views:
    """Features of the splits as the heads ask for them; each is read or extracted when it is first wanted."""

    frozen: encoder.Frozen
    kept: dict[str, Split] = field(default_factory=dict)

    def split(self, name: str, *, projected: bool = False, unit: bool = False) -> Split | None:
        """Return features and labels of a split; None for a validation split that the set does not have."""
        if not self.frozen.data.counts[name]:
            return None
        if name not in self.kept:
            self.kept[name] = encoder.fetch_features(self.frozen, name)
        x, label = self.kept[name]
        if projected:
            x = self.projected(x)
        device = self.frozen.devices[0]
        place = device if device.type == "cuda" else torch.device("cpu")  # heads compute in float64 here and there
        return (normalize(x, dim=1) if unit else x).to(place), label.to(place)

    @torch.no_grad()
    def projected(self, x: Tensor) -> Tensor:
        net = cast(ImageTextEncoder, self.frozen.net)
        return torch.cat([net.project(part) for part in x.split(8192)])

    @property
    def has_projection(self) -> bool:
        net, settings = self.frozen.net, self.frozen.job.config.features
        if not isinstance(net, ImageTextEncoder) or settings.layer is not None or settings.pool != "head":
            return False
        one = cast(Split, self.split("test"))[0][:1].cpu()
        return self.projected(one).shape != one.shape or not torch.equal(self.projected(one), one)

    def all(self, **how: bool) -> tuple[Split, Split | None, Split]:
        return cast(Split, self.split("train", **how)), self.split("val", **how), cast(Split, self.split("test", **how))
