"""Report of a load: what was taken from a checkpoint, and what is new."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tfcli.errors import WeightsError

HEADS = ("head", "head_dist")
"""Attributes of a net that give its logits, and are replaced when the classes differ."""


@dataclass
class LoadReport:
    """Report of a load.

    Attributes:
        source: the name or path that was asked for.
        path: the file that was read.
        notes: lines for the log, such as `head 1000 -> 37 classes: new`.
        new: parts that are not the checkpoint's, but as they were made: nothing they say counts before training.
        settings: arguments of the model that the checkpoint implies (`norm_eps`). They are already set on the net; keep
            them in the run's config, or the net will be built otherwise the next time.
    """

    source: str
    path: str
    notes: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    outputs: int | None = None

    @property
    def new_head(self) -> bool:
        """Whether the head is not the checkpoint's."""
        return any(part in HEADS for part in self.new)

    def refuse_untrained(self, remedy: str, *, unused: Collection[str] = ()) -> None:
        """Refuse to measure or show what parts say that nobody has trained: the one check of every verb that does so.

        Args:
            remedy: how to train them, a sentence.
            unused: parts that are not asked.

        Raises:
            WeightsError: a part that is asked is new.
        """
        untrained = [part for part in self.new if part not in unused]
        if untrained:
            named = " and ".join(f"`{part}`" for part in untrained)
            why = "; ".join(note for note in self.notes if any(note.startswith(part) for part in untrained))
            raise WeightsError(
                f"`{self.source}` has no trained {named} for this model ({why}), and what an untrained part says is no "
                f"result. {remedy}"
            )
