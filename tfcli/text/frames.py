"""Frames around labelled texts: the special tokens between their parts. Imports no torch.

start   <start> text <extract>, <start> text <delimiter> pair <extract>  (Radford et al. 2018, section 3.3)
cls     [CLS] text [SEP], [CLS] text [SEP] pair [SEP]                    (Devlin et al. 2019, section 3)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfcli.errors import ConfigError, nearest

if TYPE_CHECKING:
    from tfcli.text.tokenizer import Tokenizer

LAYOUTS = ("start", "cls")
START, DELIMITER, EXTRACT = -1, -2, -3
MARKS = (START, DELIMITER, EXTRACT)
"""Ids of the marks of the layout `start`, which no vocabulary has: they are learned with the head."""


@dataclass
class Framed:
    """A sequence with its marks.

    Attributes:
        ids: tokens and marks.
        segments: 0 for the first text and its marks, 1 for the second's.
        first, second: where the texts stand, [begin, stop); the second is empty where there is none.
    """

    ids: list[int]
    segments: list[int]
    first: tuple[int, int]
    second: tuple[int, int]


class Frame:
    """Puts the marks of a layout around texts, cut to fit.

    Args:
        tokenizer: of the model; the layout `cls` needs its [CLS] and [SEP].
        layout: cls or start.
        length: most tokens with the marks; of a pair, the longer text loses its end first. None: no limit.

    Attributes:
        cut: sequences that had to be cut.

    Raises:
        ConfigError: there is no such layout, or the vocabulary lacks its marks.
    """

    def __init__(self, tokenizer: Tokenizer, layout: str, length: int | None = None):
        self.length, self.cut, self.segmented, self.pad = length, 0, layout == "cls", tokenizer.pad_id or 0
        if layout == "start":
            self.begin, self.between, self.end = START, [DELIMITER], [EXTRACT]
        elif layout == "cls":
            if tokenizer.cls_id is None or tokenizer.sep_id is None:
                raise ConfigError(
                    f"texts are framed by [CLS] and [SEP], which a tokenizer of kind {tokenizer.kind} does not have. "
                    "Take model.tokenizer.kind=wordpiece."
                )
            self.begin, self.between, self.end = tokenizer.cls_id, [tokenizer.sep_id], [tokenizer.sep_id]
        else:
            raise ConfigError(f"`model.layout` must be cls or start, but is `{layout}`.{nearest(layout, LAYOUTS)}")

    def pair(self, text: list[int], second: list[int] | None) -> Framed:
        """Frame a text, or a text and a second one."""
        marks = 1 + len(self.end) + (len(self.between) if second is not None else 0)
        if self.length is not None and len(text) + len(second or []) > self.length - marks:
            self.cut += 1
            text, second = _shortened(text, second, max(0, self.length - marks))
        ids = [self.begin, *text]
        first = (1, len(ids))
        ids += self.between if second is not None else self.end
        head = len(ids)
        if second is None:
            return Framed(ids, [0] * head, first, (head, head))
        ids += second
        where = (head, len(ids))
        ids += self.end
        return Framed(ids, [0] * head + [1] * (len(ids) - head), first, where)


def _shortened(text: list[int], second: list[int] | None, room: int) -> tuple[list[int], list[int] | None]:
    if second is None:
        return text[:room], None
    keep = min(len(second), max(room - len(text), room // 2))
    return text[: room - keep], second[:keep]
