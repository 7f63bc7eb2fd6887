"""Paths in messages."""

from __future__ import annotations

import os


def printable(path: str | os.PathLike) -> str:
    """Return a path for a message, with undecodable bytes and line breaks escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text.replace("\n", "\\n").replace("\r", "\\r")
