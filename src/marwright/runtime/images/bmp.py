"""BMP (Windows and OS/2): read here, as Pillow takes some depths, masks and palettes for others."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from marwright.runtime.images.budget import damaged, require_size, require_work
from marwright.runtime.images.flat import over_white
from marwright.runtime.request import BadRequest

_CORE, _HEADERS = 12, (40, 52, 56, 64, 108, 124)
_PLAIN, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_PER_VALUE = 12.0
# A command of a run-length code, each of two bytes or more.
_PER_COMMAND = 800.0


@dataclass(slots=True)
class _File:
    """What a header says; `top_down` when the first row comes first."""

    width: int
    height: int
    top_down: bool
    depth: int
    method: int
    masks: tuple[int, ...]
    palette: NDArray[np.uint8]
    data: bytes


def decode(content: bytes) -> Image.Image:
    """Return a BMP as RGB; what its alpha mask makes transparent is laid over white.

    Raises `BadRequest`.
    """
    try:
        file = _parsed(content)
    except struct.error:
        raise damaged("it ends in its header") from None
    if file.depth <= 8:
        indices = _runs(file) if file.method else _indices(file)
        pixels = file.palette[indices]
    else:
        pixels = _colours(file)
    if not file.top_down:
        pixels = pixels[::-1]
    return over_white(Image.fromarray(np.ascontiguousarray(pixels)))


def _parsed(content: bytes) -> _File:
    (start, header) = struct.unpack_from("<II", content, 10)
    if header == _CORE:
        width, height, depth = struct.unpack_from("<HH2xH", content, 18)
        method, colours, entry = _PLAIN, 0, 3
    elif header in _HEADERS:
        width, height, depth, method = struct.unpack_from("<ii2xHI", content, 18)
        (colours,) = struct.unpack_from("<I", content, 46)
        entry = 4
    else:
        raise damaged(f"a BMP header of {header} bytes is unknown")
    top_down, height = height < 0, abs(height)
    require_size(width, height)
    if (depth, method) not in _KNOWN:
        raise damaged(f"a BMP of {depth} bits a pixel by method {method} is unknown")
    require_work(
        width * height,
        # Of run lengths every command is walked through.
        len(content) / 2 * _PER_COMMAND if method in (_RLE4, _RLE8)
        else width * height * _PER_VALUE * (1 if depth <= 8 else 3),
        f"a BMP of {width}×{height} pixels in {len(content)} bytes",
    )  # fmt: skip
    masks: tuple[int, ...] = ()
    at = 14 + header
    if depth in _DEFAULT_MASKS:
        masks = _DEFAULT_MASKS[depth]
        if method in (_BITFIELDS, _ALPHA_BITFIELDS):
            alpha = method == _ALPHA_BITFIELDS or header >= 56
            count = 4 if alpha else 3
            masks = (*struct.unpack_from(f"<{count}I", content, 54), 0)[:4]
    palette = np.zeros((1 << min(depth, 8), 3), dtype=np.uint8)
    if depth <= 8:
        count = min(colours or 1 << depth, 1 << depth)
        room = max(start - at, 0) // entry if start > at else count
        table = content[at : at + entry * min(count, room)]
        known = np.frombuffer(table[: len(table) // entry * entry], np.uint8).reshape(-1, entry)
        palette[: len(known)] = known[:, 2::-1]
    return _File(width, height, top_down, depth, method, masks, palette, content[start:])


_KNOWN = {
    *((depth, _PLAIN) for depth in (1, 4, 8, 16, 24, 32)),
    *((depth, method) for depth in (16, 32) for method in (_BITFIELDS, _ALPHA_BITFIELDS)),
    (8, _RLE8),
    (4, _RLE4),
}


def _rows(file: _File) -> NDArray[np.uint8]:
    """Return the rows uint8 `(height, bytes)`, without what fills them up to four bytes."""
    used = (file.width * file.depth + 7) // 8
    stride = (used + 3) // 4 * 4
    # The last row may do without its filling.
    if len(file.data) < stride * (file.height - 1) + used:
        raise damaged("the file is truncated")
    data = file.data[: stride * file.height].ljust(stride * file.height, b"\0")
    return np.frombuffer(data, np.uint8).reshape(file.height, stride)[:, :used]


def _indices(file: _File) -> NDArray[np.uint8]:
    rows = _rows(file)
    if file.depth == 8:
        return rows
    if file.depth == 1:
        return np.unpackbits(rows, axis=1)[:, : file.width]
    return np.stack([rows >> 4, rows & 15], axis=2).reshape(file.height, -1)[:, : file.width]


def _colours(file: _File) -> NDArray[np.uint8]:
    rows = _rows(file)
    if file.depth == 24:
        return rows.reshape(file.height, file.width, 3)[..., ::-1]
    kind = np.dtype(np.uint16 if file.depth == 16 else np.uint32).newbyteorder("<")
    values = np.ascontiguousarray(rows).view(kind)
    # A file of all masks zero, or of an alpha mask of zero, has no alpha.
    channels = [_channel(values, mask) for mask in file.masks[: 4 if file.masks[3] else 3]]
    return np.stack(channels, axis=2)


def _channel(values: NDArray[np.generic], mask: int) -> NDArray[np.uint8]:
    """Return the bits under a mask, scaled to eight and rounded down."""
    if not mask:
        return np.zeros(values.shape, dtype=np.uint8)
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    if most & (most + 1):
        raise BadRequest(f"the BMP has the mask {mask:#x}, whose bits are apart")
    part = (values.astype(np.uint32) & mask) >> shift
    if most > 255:
        return (part >> (most.bit_length() - 8)).astype(np.uint8)
    return (part * 255 // most).astype(np.uint8)


def _runs(file: _File) -> NDArray[np.uint8]:
    """Return the indices of a run-length code; what it jumps over has index 0."""
    width, height, data = file.width, file.height, file.data
    found = bytearray(width * height)
    at = x = y = 0
    while y < height and at + 2 <= len(data):
        count, value = data[at], data[at + 1]
        at += 2
        if not count and value < 3:
            if value == 1:
                break
            if value == 0:
                x, y = 0, y + 1
                continue
            if at + 2 > len(data):
                break
            x, y, at = x + data[at], y + data[at + 1], at + 2
            continue
        if count:
            run = _run(value, count, file.method)
        else:
            count, size = value, value if file.method == _RLE8 else (value + 1) // 2
            run = data[at : at + size] if file.method == _RLE8 else _halves(data[at : at + size])
            at += size + size % 2
        run = run[: min(count, max(width - x, 0))]
        found[y * width + x : y * width + x + len(run)] = run
        x += len(run)
    else:
        if y < height:
            raise damaged("the file is truncated")
    return np.frombuffer(found, np.uint8).reshape(height, width)


def _run(value: int, count: int, method: int) -> bytes:
    if method == _RLE8:
        return bytes([value]) * count
    return bytes([value >> 4, value & 15]) * ((count + 1) // 2)


def _halves(packed: bytes) -> bytes:
    return bytes(half for byte in packed for half in (byte >> 4, byte & 15))
