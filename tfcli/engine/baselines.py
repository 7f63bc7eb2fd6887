"""What simple models of the same texts come to, printed beside a run's result."""

from __future__ import annotations

from tfcli.data.texts import TextData


def of_texts(task: str, data: TextData) -> dict[str, float]:
    """Figures by `what/metric`, for instance `interpolated trigram/bits_per_char`; empty for a task without any."""
    return {}
