"""PNG written and read by the specification alone (W3C, third edition): slow, and of no library.

Samples are whole numbers in the file's own depth, `(H, W, channels)` as nested lists.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: first column, first row, and the steps of each pass.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip

Rows = Sequence[Sequence[Sequence[int]]]


def chunk(kind: bytes, content: bytes) -> bytes:
    total = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + total


def written(
    rows: Rows,
    *,
    depth: int,
    colour: int,
    palette: bytes = b"",
    transparent: bytes = b"",
    interlaced: bool = False,
    extra: bytes = b"",
) -> bytes:
    """Write a file; its rows take all five filters in turn."""
    height, width = len(rows), len(rows[0])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    step = max(1, CHANNELS[colour] * depth // 8)
    data = b""
    for part in _parts(rows) if interlaced else [rows]:
        above = bytes((len(part[0]) * CHANNELS[colour] * depth + 7) // 8)
        for number, row in enumerate(part):
            line = _packed([value for pixel in row for value in pixel], depth)
            data += bytes([number % 5]) + _filtered(line, above, step, number % 5)
            above = line
    chunks = [chunk(b"IHDR", header)]
    chunks += [chunk(b"PLTE", palette)] if palette else []
    chunks += [chunk(b"tRNS", transparent)] if transparent else []
    return (
        SIGNATURE + b"".join(chunks) + extra + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )  # fmt: skip


def read_over_white(content: bytes) -> list[list[tuple[int, int, int]]]:
    """Read a file as RGB of eight bits, laid over white in its own depth and reduced then."""
    found: dict[bytes, bytes] = {}
    at = 8
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        found[kind] = found.get(kind, b"") + content[at + 8 : at + 8 + length]
        at += 12 + length
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", found[b"IHDR"])
    samples = _unpacked(zlib.decompress(found[b"IDAT"]), width, height, depth, colour, interlaced)
    most = (1 << depth) - 1 if colour != 3 else 255
    return [
        [
            tuple(
                _eight(_over_white(value, alpha, most), depth if colour != 3 else 8)
                for value in values
            )
            for values, alpha in (_seen(p, colour, most, found) for p in row)
        ]
        for row in samples
    ]  # type: ignore[misc]


def _seen(
    pixel: Sequence[int], colour: int, most: int, found: dict[bytes, bytes]
) -> tuple[tuple[int, ...], int]:
    """Return a pixel's red, green and blue, and its alpha."""
    transparent = found.get(b"tRNS", b"")
    if colour == 3:
        index = pixel[0]
        alpha = transparent[index] if index < len(transparent) else 255
        return tuple(found[b"PLTE"][3 * index : 3 * index + 3]), alpha
    if colour in (4, 6):
        grey = pixel[:-1] * 3 if colour == 4 else pixel[:-1]
        return tuple(grey), pixel[-1]
    keys = struct.unpack(f">{len(transparent) // 2}H", transparent)
    alpha = 0 if keys and tuple(k & most for k in keys) == tuple(pixel) else most
    return tuple(pixel * 3 if colour == 0 else pixel), alpha


def _over_white(value: int, alpha: int, most: int) -> int:
    exact = Fraction(value * alpha + most * (most - alpha), most)
    return int(exact + Fraction(1, 2))


def _eight(value: int, depth: int) -> int:
    return value >> 8 if depth == 16 else value * 255 // ((1 << depth) - 1)


def _parts(rows: Rows) -> Iterator[Rows]:
    for left, top, across, down in PASSES:
        part = [row[left::across] for row in rows[top::down]]
        if part and part[0]:
            yield part


def _packed(values: Sequence[int], depth: int) -> bytes:
    bits = "".join(f"{value:0{depth}b}" for value in values)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _filtered(line: bytes, above: bytes, step: int, kind: int) -> bytes:
    return bytes(
        (value - _predicted(line, above, step, kind, place)) % 256
        for place, value in enumerate(line)
    )


def _predicted(line: bytes | bytearray, above: bytes, step: int, kind: int, place: int) -> int:
    left = line[place - step] if place >= step else 0
    up = above[place]
    corner = above[place - step] if place >= step else 0
    if kind == 4:
        guess = left + up - corner
        return min((left, up, corner), key=lambda value: abs(guess - value))
    return (0, left, up, (left + up) // 2)[kind]


def _unpacked(
    data: bytes, width: int, height: int, depth: int, colour: int, interlaced: int
) -> list[list[tuple[int, ...]]]:
    channels = CHANNELS[colour]
    samples: list[list[tuple[int, ...]]] = [[()] * width for _ in range(height)]
    at = 0
    for left, top, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        columns, lines = range(left, width, across), range(top, height, down)
        if not columns:
            continue
        size = (len(columns) * channels * depth + 7) // 8
        above: bytes = bytes(size)
        for y in lines:
            kind, packed = data[at], data[at + 1 : at + 1 + size]
            at += 1 + size
            line = bytearray()
            for place, value in enumerate(packed):
                line.append(
                    (value + _predicted(line, above, max(1, channels * depth // 8), kind, place))
                    % 256
                )
            above = bytes(line)
            bits = "".join(f"{value:08b}" for value in above)
            values = [int(bits[i : i + depth], 2) for i in range(0, len(bits) - depth + 1, depth)]
            for number, x in enumerate(columns):
                samples[y][x] = tuple(values[number * channels : (number + 1) * channels])
    return samples
