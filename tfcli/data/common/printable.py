"""Paths as messages show them."""

from __future__ import annotations

import os


def printable(path: str | os.PathLike) -> str:
    """A path for a message: undecodable bytes and line breaks escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text.replace("\n", "\\n").replace("\r", "\\r")
