"""What decoding an image may cost: counted from its headers, before anything is decoded.

Work is counted in nanoseconds of one core of a server of 2021, as measured on the worst files
that we could make; `python -m bench decoding` measures them again.
"""

from __future__ import annotations

from marwright.runtime.request import BadRequest

# Far above any photograph that is worth classifying, far below what exhausts a worker: an image of
# so many takes up to 250 MiB as RGB, and 500 MiB where something is transparent.
MAX_PIXELS = 32_000_000
# What JPEG and GIF can say. Longer sides of fewer pixels would be all overhead.
MAX_SIDE = 65_535
# Of a request. Others wait for a worker meanwhile, and those of its batch with it.
MAX_WORK = 750_000_000
# Chunks, segments or blocks that are walked through in Python.
MAX_PARTS = 50_000

# A pixel becomes grey or RGB, is turned upright and resized.
_PER_PIXEL = 6.0
# … and laid over white, where it may be transparent.
PER_TRANSPARENT_PIXEL = 10.0


def damaged(problem: str) -> BadRequest:
    """Return what is said of a file that is no valid image."""
    return BadRequest(f"the image cannot be decoded: {problem}")


def require_size(width: int, height: int) -> None:
    """Raise `BadRequest` for an image without pixels, or with more than are accepted."""
    if width < 1 or height < 1:
        raise damaged(f"it has {width}×{height} pixels")
    if width * height > MAX_PIXELS:
        raise BadRequest(
            f"the image has {width}×{height} pixels; at most {MAX_PIXELS} are accepted", 413
        )
    if max(width, height) > MAX_SIDE:
        raise BadRequest(
            f"the image has {width}×{height} pixels; a side of at most {MAX_SIDE} is accepted", 413
        )


def require_work(pixels: int, work: float, kind: str) -> None:
    """Raise `BadRequest` where decoding costs too much.

    `work` is the decoder's alone; what every image of so many pixels costs is added to it. `kind`
    names what it is that costs.
    """
    total = work + pixels * _PER_PIXEL
    if total > MAX_WORK:
        raise BadRequest(
            f"the image takes too long to decode: {kind} costs {total / MAX_WORK:.2f} times what "
            "is accepted; send a smaller one, or a plain one of another format",
            413,
        )


def require_parts(parts: int, what: str) -> None:
    """Raise `BadRequest` for a file that is cut into too many parts."""
    if parts > MAX_PARTS:
        raise BadRequest(f"the image has more than {MAX_PARTS} {what}: save it anew", 413)
