"""PNG (W3C recommendation, third edition): the still image, laid over white at its own depth.

Pillow inflates and unfilters; what it would reduce to eight bits before looking for what is
transparent is taken from it in two halves. It is given the chunks that make the pixels only.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from marwright.runtime.images.budget import (
    PER_TRANSPARENT_PIXEL,
    damaged,
    require_parts,
    require_size,
    require_work,
)
from marwright.runtime.images.exif import orientation
from marwright.runtime.images.flat import over_white

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Channels of each colour type, and the depths that it comes in.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Unfiltering a byte by Paeth's predictor, inflating it included; inflating what hardly inflates.
_PER_BYTE = 4.5
_PER_FILE_BYTE = 12.0
_INTERLACED = 1.15
# Resolving sixteen bits, a value.
_PER_WIDE_VALUE = 12.0
_BAND = 64


@dataclass(slots=True)
class _File:
    """What of a file makes its pixels."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: int
    palette: bytes = b""
    transparent: bytes = b""
    data: bytes = b""
    orientation: int = 1

    def written(self, palette: bytes = b"", transparent: bytes = b"") -> bytes:
        """Return a file of these pixels and nothing else."""
        header = struct.pack(
            ">IIBBBBB", self.width, self.height, self.depth, self.colour, 0, 0, self.interlaced
        )
        chunks = [(b"IHDR", header), (b"PLTE", palette), (b"tRNS", transparent)]
        chunks += [(b"IDAT", self.data), (b"IEND", b"")]
        return SIGNATURE + b"".join(
            _chunk(kind, content) for kind, content in chunks if content or kind == b"IEND"
        )


def decode(content: bytes) -> tuple[Image.Image, int]:
    """Return a PNG as grey or RGB, opaque, and its EXIF orientation. Raises `BadRequest`."""
    file = _parsed(content)
    _require_cheap(file)
    if file.colour == 3:
        return _opened(file.written(palette=_flat_palette(file))).convert("RGB"), file.orientation
    key = _key(file)
    if file.depth == 16 and (key or file.colour != 2):
        return _reduced(file, key), file.orientation
    if file.colour == 0:
        return _grey(file, key), file.orientation
    image = _opened(file.written(transparent=struct.pack(">3H", *key) if key else b""))
    return over_white(image), file.orientation


def _parsed(content: bytes) -> _File:
    """Walk through the chunks. What is misplaced or twice is passed over, as libpng does."""
    file: _File | None = None
    data: list[bytes] = []
    at, parts = len(SIGNATURE), 0
    view = memoryview(content)
    while at + 8 <= len(content):
        parts += 1
        require_parts(parts, "chunks")
        length, kind = struct.unpack_from(">I4s", content, at)
        body = view[at + 8 : at + 8 + length]
        at += 12 + length
        if file is None:
            if kind != b"IHDR" or length != 13 or len(body) != 13:
                break
            _require_sum(kind, body, content, at)
            file = _header(bytes(body))
        elif kind == b"IDAT":
            _require_sum(kind, body, content, at)
            data.append(bytes(body))
        elif kind == b"PLTE" and not file.palette and not data:
            _require_sum(kind, body, content, at)
            file.palette = bytes(body)
        elif kind == b"tRNS" and not file.transparent and not data:
            _require_sum(kind, body, content, at)
            file.transparent = bytes(body) if file.palette or file.colour != 3 else b""
        elif kind == b"eXIf":
            file.orientation = orientation(bytes(body))
        elif kind == b"IEND":
            break
    if file is None:
        raise damaged("it has no header")
    if not data:
        raise damaged("it has no pixels")
    file.data = b"".join(data)
    return file


def _header(body: bytes) -> _File:
    width, height, depth, colour, compression, filters, interlaced = struct.unpack(">IIBBBBB", body)
    require_size(width, height)
    if depth not in _DEPTHS.get(colour, ()):
        raise damaged(f"colour type {colour} has no depth of {depth}")
    if compression or filters or interlaced > 1:
        raise damaged("its header names an unknown method")
    return _File(width, height, depth, colour, interlaced)


def _require_sum(kind: bytes, body: memoryview, content: bytes, end: int) -> None:
    """Raise `BadRequest` for a wrong checksum; a file that ends before it is Pillow's to judge."""
    if end <= len(content):
        (given,) = struct.unpack_from(">I", content, end - 4)
        if zlib.crc32(body, zlib.crc32(kind)) != given:
            raise damaged(f"the checksum of chunk {kind.decode()} is wrong")


def _require_cheap(file: _File) -> None:
    pixels, channels = file.width * file.height, _CHANNELS[file.colour]
    wide = file.depth == 16
    resolved = wide and (file.colour in (0, 4, 6) or bool(file.transparent))
    passes = 2 if resolved and channels > 2 else 1
    unpacked = pixels * channels * max(file.depth, 8) / 8
    if file.interlaced:
        unpacked *= _INTERLACED
    work = unpacked * _PER_BYTE * passes + len(file.data) * _PER_FILE_BYTE * passes
    if resolved:
        work += pixels * channels * _PER_WIDE_VALUE
    elif file.colour in (4, 6) or (file.colour == 2 and file.transparent):
        work += pixels * PER_TRANSPARENT_PIXEL
    depth = f"PNG of {channels} × {file.depth} bits"
    require_work(pixels, work, f"{file.width}×{file.height} pixels of {depth}")


def _key(file: _File) -> tuple[int, ...]:
    """Return the transparent colour, in the file's own depth; () if there is none."""
    if file.colour not in (0, 2) or not file.transparent:
        return ()
    channels = _CHANNELS[file.colour]
    if len(file.transparent) < 2 * channels:
        raise damaged("its transparent colour is cut short")
    # The other bits do not count.
    mask = (1 << file.depth) - 1
    return tuple(v & mask for v in struct.unpack_from(f">{channels}H", file.transparent))


def _flat_palette(file: _File) -> bytes:
    """Return the palette laid over white, and black behind its end."""
    if not file.palette or len(file.palette) % 3:
        raise damaged("it has no valid palette")
    count = min(len(file.palette) // 3, 1 << file.depth)
    colours = np.zeros((256, 3), dtype=np.uint32)
    colours[:count] = np.frombuffer(file.palette, np.uint8)[: count * 3].reshape(-1, 3)
    alpha = np.full((256, 1), 255, dtype=np.uint32)
    known = np.frombuffer(file.transparent, np.uint8)[:count]
    alpha[: len(known), 0] = known
    flat = (colours * alpha + 255 * (255 - alpha) + 127) // 255
    return flat[: 1 << file.depth].astype(np.uint8).tobytes()


def _grey(file: _File, key: tuple[int, ...]) -> Image.Image:
    image = _opened(file.written()).convert("L")
    if not key:
        return image
    # Each level of fewer bits is one grey level, so this is the file's own depth still.
    level = key[0] * 255 // ((1 << file.depth) - 1)
    return image.point([255 if grey == level else grey for grey in range(256)])


def _reduced(file: _File, key: tuple[int, ...]) -> Image.Image:
    """Return sixteen bits as eight, their upper half, once what is transparent shows white."""
    content = file.written()
    values: NDArray[np.uint16]
    if file.colour == 0:
        values = np.asarray(_opened(content)).astype(np.uint16)[..., None]
    elif file.colour == 4:
        # As many bits as RGBA has: grey's halves, then alpha's.
        halves = np.asarray(_opened(content, "RGBA"))
        values = _joined(halves[..., 0::2], halves[..., 1::2])
    else:
        mode = "RGB" if file.colour == 2 else "RGBA"
        upper, lower = (_opened(content, f"{mode};16{end}") for end in "BL")
        values = _joined(np.asarray(upper), np.asarray(lower))
    if key:
        values[(values == np.array(key, dtype=np.uint16)).all(axis=-1)] = 0xFFFF
    elif file.colour in (4, 6):
        values = _wide_over_white(values)
    flat = np.asarray(values >> 8, dtype=np.uint8)
    return Image.fromarray(flat[..., 0] if flat.shape[2] == 1 else flat)


def _joined(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return np.asarray(upper * np.uint16(256) + lower, dtype=np.uint16)


def _wide_over_white(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Lay values of sixteen bits over white, the last channel being alpha."""
    result = np.empty((*values.shape[:2], values.shape[2] - 1), dtype=np.uint16)
    for at in range(0, len(values), _BAND):
        band = values[at : at + _BAND].astype(np.uint32)
        colours, alpha = band[..., :-1], band[..., -1:]
        # At most 65535² + 32767, which is below 2³².
        result[at : at + _BAND] = (colours * alpha + 65535 * (65535 - alpha) + 32767) // 65535
    return result


def _opened(content: bytes, raw: str = "") -> Image.Image:
    """Decode a file with Pillow; `raw` says which bytes of a pixel it takes for which band."""
    image = Image.open(io.BytesIO(content), formats=("PNG",))
    if raw:
        image.tile = [image.tile[0]._replace(args=raw)]
    image.load()
    return image


def _chunk(kind: bytes, content: bytes) -> bytes:
    total = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", total)
