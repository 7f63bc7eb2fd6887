"""Figures that could not be measured, and why: a finished run is worth more than one of its figures."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch.distributed as dist

from tfcli.errors import UserError

FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError, UserError)
"""Errors that a measure may raise on numbers or texts that its author, or a library's, did not expect.

Not among them: what stops a run on purpose (signals, `PolicyStop`), and OSError, since a disk that takes no figure
takes no record either.
"""


@dataclass
class LeftOut:
    """Figures that were left out of a run's results.

    Attributes:
        reasons: by the name of the figure.
        traces: their tracebacks, for the log.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    traces: list[str] = field(default_factory=list)

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Leave `what` out, with its reason, where measuring it fails.

        torch says in a RuntimeError that numbers do not fit; among several ranks it may also mean that another rank has
        died, which must not be passed over.
        """
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        faults = FAULTS if ranks > 1 else (*FAULTS, RuntimeError)
        try:
            yield
        except faults as error:
            text = next(iter(str(error).splitlines()), "")
            self.reasons[what] = f"{type(error).__name__}: {text}" if text else type(error).__name__
            self.traces.append(traceback.format_exc())
