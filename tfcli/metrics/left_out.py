"""Figures that could not be computed, with reasons, so that one failing figure does not fail a finished run."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch.distributed as dist

from tfcli.errors import UserError

FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError, UserError)
"""Errors that a computation may raise on unexpected numbers or texts.

Errors that stop a run on purpose (signals, `PolicyStop`) are not among them, nor is OSError, since the run's record
could not be written either.
"""


@dataclass
class LeftOut:
    """Figures that are missing from a run's results.

    Attributes:
        reasons: reasons by the figure's name.
        traces: tracebacks, for the log.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    traces: list[str] = field(default_factory=list)

    @contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Record that the figure `name` is left out, with the reason, if its computation fails inside the context.

        A RuntimeError of torch may mean that shapes do not fit; with several ranks it may also mean that another rank
        has died, so that it is not caught.
        """
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        faults = FAULTS if ranks > 1 else (*FAULTS, RuntimeError)
        try:
            yield
        except faults as error:
            text = next(iter(str(error).splitlines()), "")
            self.reasons[name] = f"{type(error).__name__}: {text}" if text else type(error).__name__
            self.traces.append(traceback.format_exc())
