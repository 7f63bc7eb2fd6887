"""Quote values as users type them for Hydra's grammar, which knows only ASCII letters. Imports no torch."""

from __future__ import annotations

import os
import re

_WORDS = re.compile(r"[A-Za-z0-9_ /+.%*@?|:-]*")
_MEANS_MORE = re.compile(r"""[,\[\]{}'"$\\]|^\w+\(""")
"""Lists, mappings, quotes, interpolations, escapes and functions, which the grammar reads."""


def literal(text: str) -> str:
    """Return an override with its value in quotes where that is plain text and yet no word of the grammar.

    So a folder may be called `/home/学生/Fotos (1)`, a file `epoch=3.ckpt`; and `~/photos`, which a shell leaves as it
    is behind `key=`, is the user's own.
    """
    key, equals, value = text.partition("=")
    if not equals or _MEANS_MORE.search(value):
        return text
    if value == "~" or value.startswith("~/"):
        value = os.path.expanduser(value)
    return f"{key}={value}" if _WORDS.fullmatch(value) else f"{key}='{value}'"
