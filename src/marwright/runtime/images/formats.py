"""The formats of images that a person may send, told by their first bytes. Standard library only.

Pillow knows many more; each is code that a stranger's bytes could reach.
"""

from __future__ import annotations

MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
}
IMAGE_FORMATS = tuple(MEDIA_TYPES)

# Of the shortest header.
_SHORTEST = 26


def format_of(content: bytes) -> str:
    """Return a file's format, "" if it is none of `IMAGE_FORMATS`."""
    if len(content) < _SHORTEST:
        return ""
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG" if content[12:16] == b"IHDR" else ""
    if content[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:2] == b"BM":
        return "BMP"
    return "GIF" if content[:6] in (b"GIF87a", b"GIF89a") else ""
