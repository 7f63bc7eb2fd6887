"""Fetching a file once: to a temporary name, checked, then renamed. Without a network it gives up within seconds."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from tfcli.errors import WeightsError

CONNECT_TIMEOUT_S = 4.0
HASHED = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


class Unreachable(Exception):
    """The other end did not answer; the text is the reason."""


def offline() -> bool:
    """Tell whether TFCLI_OFFLINE (or the hub's own HF_HUB_OFFLINE) forbids the network."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in ("TFCLI_OFFLINE", "HF_HUB_OFFLINE")
    )


def within(
    action: Callable[[], Any], *, timeout_s: float = CONNECT_TIMEOUT_S, errors: tuple[type[Exception], ...] = ()
) -> Any:
    """Return the result of `action`, or raise Unreachable after `timeout_s` (a host's look-up has no timeout itself).

    Args:
        errors: what `action` may raise, besides OSError, when the network fails.
    """
    results: list[Any] = []
    failures: list[Exception] = []
    expected: tuple[type[Exception], ...] = (OSError, http.client.HTTPException, *errors)

    def work() -> None:
        try:
            results.append(action())
        except expected as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it is an answer as well, with a connection
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if results:
        return results[0]
    if failures:
        raise Unreachable(_reason(failures[0])) from failures[0]
    raise Unreachable(f"no answer within {timeout_s:g} s")


def _reason(error: Exception) -> str:
    code = getattr(error, "code", None)
    if code is not None:
        return f"HTTP {code}"
    text = str(getattr(error, "reason", error)) or type(error).__name__
    return text.splitlines()[0][:200]


def download(url: str, target: Path, *, sha256: str = "", about: str = "") -> Path:
    """Fetch `url` to `target`, with its size on stderr first; `target` appears whole or not at all.

    Args:
        sha256: the digest or its first digits; by default those in the file's name (`resnet34-b627a593.pth`), if any.
        about: added to the line on stderr, for instance the licence.

    Raises:
        Unreachable: the host does not answer.
        WeightsError: it answered with a web page, the transfer broke off, or the digest differs.
    """
    hashed = HASHED.search(target.name)
    sha256 = sha256 or (hashed.group(1) if hashed else "")
    request = urllib.request.Request(url, headers={"User-Agent": "tfcli"})
    answer = within(lambda: urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S))
    host = urlparse(url).hostname
    with answer:
        if "text/html" in answer.headers.get("Content-Type", ""):
            raise WeightsError(
                f"{url} answered with a web page, not a file. A proxy or a login page may stand between."
            )
        size = int(answer.headers.get("Content-Length") or 0)
        shown = f"{size / 2**20:.1f} MiB" if size else "size unknown"
        print(
            f"fetching {target.name} ({', '.join(filter(None, [shown, about]))}) from {host} to {target.parent}",
            file=sys.stderr,
        )
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            digest, length = _write(answer, temporary, size)
            if size and length != size:
                raise WeightsError(f"{url} broke off after {length:,} of {size:,} bytes; nothing was kept. Try again.")
            if not digest.startswith(sha256):
                raise WeightsError(
                    f"{url} has the SHA-256 {digest[:16]}..., but {sha256} was promised; nothing was kept."
                )
            os.replace(temporary, target)
        except (OSError, http.client.HTTPException) as error:
            raise WeightsError(
                f"{url} could not be fetched to `{target}`: {_reason(error)}. Nothing was kept."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
    return target


def _write(answer: Any, file: Path, size: int) -> tuple[str, int]:
    digest, length = hashlib.sha256(), 0
    with file.open("wb") as stream:
        while block := answer.read(2**20):
            stream.write(block)
            digest.update(block)
            length += len(block)
            if size and sys.stderr.isatty():
                print(f"\r{length / size:4.0%}", end="\r" if length < size else "\r\x1b[K", file=sys.stderr, flush=True)
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest(), length
