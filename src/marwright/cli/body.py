"""What a person gives as INPUT: a file, standard input, or JSON itself."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from marwright.recipe.errors import UsageError
from marwright.recipe.regular import read_regular

TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".json": "application/json",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What is sent, and its media type."""

    content: bytes
    content_type: str


def read_body(input: str) -> Body:
    """Read what is to be sent. Raises `UsageError` when there is no such file."""
    if input.lstrip()[:1] in ("[", "{"):
        return Body(content=os.fsencode(input), content_type="application/json")
    if input == "-":
        content = sys.stdin.buffer.read()
        return Body(content=content, content_type=_sniffed(content))
    path = Path(input)
    try:
        content = read_regular(path)
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such file; INPUT is a file, - for standard input, or JSON itself"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return Body(content=content, content_type=TYPES.get(path.suffix.lower()) or _sniffed(content))


def _sniffed(content: bytes) -> str:
    """The media type of a body whose name does not say it."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.lstrip()[:1] in (b"[", b"{"):
        return "application/json"
    return "application/octet-stream"
