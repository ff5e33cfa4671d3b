"""Images that cost much to decode and little to send: the worst of each format."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from PIL import Image, ImageFile

# What the server takes: `max_request_size` in config.properties.
MOST_BYTES = 10 << 20
# Squared, a little below `MAX_PIXELS`.
_SIDE = 5_600


def noise(width: int, height: int, channels: int = 3, grain: int = 1) -> Image.Image:
    """Return noise, in squares of `grain` pixels."""
    shape = (-(-height // grain), -(-width // grain), channels)
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    values = values.repeat(grain, 0).repeat(grain, 1)[:height, :width]
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    return Image.fromarray(values[..., 0] if mode == "L" else values)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode an image with Pillow."""
    buffer = io.BytesIO()
    # Of a progressive JPEG Pillow must hold all; noise is larger than it expects.
    ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 8 * image.width * image.height)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    total = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + total


def png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    *,
    filtered: int = 4,
    before: bytes = b"",
    pieces: int = 1,
    interlaced: bool = False,
) -> bytes:
    """Return a PNG of one row again and again: kilobytes, whatever its size."""
    bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth
    packer, data = zlib.compressobj(1), b""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
             (0, 1, 1, 2)) if interlaced else ((0, 0, 1, 1),)  # fmt: skip
    for left, top, across, down in steps:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        size = (columns * bits + 7) // 8
        line = bytes([filtered]) + (bytes(range(256)) * (size // 256 + 1))[:size]
        data += b"".join(packer.compress(line) for _ in range(rows if columns else 0))
    data += packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    size = max(1, len(data) // pieces)
    parts = [chunk(b"IDAT", data[at : at + size]) for at in range(0, len(data), size)]
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before
    return head + b"".join(parts) + chunk(b"IEND", b"")


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """Return a progressive JPEG that refines its pixels again and again, and changes none."""
    body = encoded(Image.new("L", (width, height), 128), "JPEG", progressive=True)
    last = body.rindex(b"\xff\xda")
    return body[:last] + body[last:-2] * scans + b"\xff\xd9"


def jpeg_of_segments(kind: bytes, count: int, size: int) -> bytes:
    """Return a JPEG with many segments in front: EXIF's parts are joined one by one."""
    body = encoded(Image.new("RGB", (16, 16)), "JPEG")
    part = b"Exif\0\0" + bytes(size)
    return body[:2] + (b"\xff" + kind + struct.pack(">H", len(part) + 2) + part) * count + body[2:]


def exif_of_tags(tags: int, claimed: int) -> bytes:
    """Return EXIF whose every tag claims the same bytes as its value."""
    entries = b"".join(
        struct.pack("<HHII", 0x1000 + i % 0xE000, 1, claimed, 8) for i in range(tags)
    )
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", tags) + entries + bytes(claimed)


def gif_of_blocks(blocks: int) -> bytes:
    """Return a GIF with a comment of so many blocks in front of its frame."""
    body = encoded(Image.new("P", (16, 16)), "GIF")
    place = body.index(b",", 13)
    return body[:place] + b"\x21\xfe" + b"\x01x" * blocks + b"\0" + body[place:]


def bmp_of_runs(width: int, height: int, commands: int) -> bytes:
    """Return a BMP of run lengths, each of one pixel."""
    data = (b"\x01\x05" * width + b"\0\0") * (commands // (width + 1))
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 0, 0)
    start = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + bytes(1024) + data


def worst() -> Iterator[tuple[str, str, bytes]]:
    """Yield a format, a name and a file: the costliest that may be sent, and those that may not."""
    for kind, files in (("PNG", _pngs), ("JPEG", _jpegs), ("WEBP", _webps), ("GIF", _gifs),
                        ("BMP", _bmps)):  # fmt: skip
        for name, body in files():
            yield kind, name, body


def _square(share: float) -> int:
    """Return the side of a square that has this share of the pixels."""
    return int(_SIDE * share**0.5)


def _pngs() -> Iterator[tuple[str, bytes]]:
    for depth, colour in (
        (1, 0),
        (8, 0),
        (16, 0),
        (8, 2),
        (16, 2),
        (8, 4),
        (16, 4),
        (8, 6),
        (16, 6),
    ):
        for interlaced in (False, True):
            for share in (1.0, 0.75, 0.5, 0.25, 0.12):
                wide = _square(share)
                name = f"{colour} × {depth} bits{', interlaced' * interlaced}, {wide}²"
                yield name, png(wide, wide, depth, colour, interlaced=interlaced)
    key = chunk(b"tRNS", bytes(6))
    yield "a key, 8 bits", png(_SIDE, _SIDE, 8, 2, before=key)
    for share in (1.0, 0.5, 0.25):
        wide = _square(share)
        yield f"a key, 16 bits, {wide}²", png(wide, wide, 16, 2, before=key)
    yield "a column", png(1, 65_000, 8, 2)
    zeros = zlib.compress(bytes(60 << 20), 9)
    yield "profiles that unpack", png(8, 8, 8, 2, before=chunk(b"iCCP", b"n\0\0" + zeros) * 60)
    yield "texts that unpack", png(8, 8, 8, 2, before=chunk(b"zTXt", b"k\0\0" + zeros) * 60)
    yield "a million chunks", png(8, 8, 8, 2, before=chunk(b"tEXt", b"") * 800_000)
    exif = exif_of_tags(65_000, 9 << 20)
    yield "tags that overlap", png(8, 8, 8, 2, before=chunk(b"eXIf", exif[6:]))
    yield "noise", encoded(noise(1850, 1850), "PNG")


def _jpegs() -> Iterator[tuple[str, bytes]]:
    for scans in (1, 14, 50, 400, 30_000):
        for wide in (16, 200, 1000, _SIDE):
            if scans * wide < 30_000 * 250:
                yield f"{scans} scans more, {wide}²", jpeg_of_scans(wide, wide, scans)
    for mode in ("RGB", "CMYK"):
        for progressive in (False, True):
            for grain, quality, share in ((1, 95, 0.3), (1, 50, 0.8), (8, 50, 1.0), (2, 20, 1.0)):
                wide = _square(share)
                image = noise(wide, wide, 3, grain).convert(mode)
                body = encoded(
                    image, "JPEG", quality=quality, subsampling=0, progressive=progressive
                )
                while len(body) > MOST_BYTES:
                    wide = int(wide * 0.9)
                    image = image.crop((0, 0, wide, wide))
                    body = encoded(
                        image, "JPEG", quality=quality, subsampling=0, progressive=progressive
                    )
                kind = "progressive" if progressive else "baseline"
                yield f"{mode} {kind}, grain {grain}, {wide}²", body
    yield "EXIF in a thousand parts", jpeg_of_segments(b"\xe1", 90_000, 100)
    yield "EXIF in as many as fit", jpeg_of_segments(b"\xe1", 40_000, 240)
    yield "tables", jpeg_of_segments(b"\xdb", 40_000, 59)
    exif = exif_of_tags(3_000, 29_000)
    yield "tags that overlap", encoded(Image.new("L", (8, 8)), "JPEG", exif=exif)
    body = encoded(Image.new("RGB", (16, 16)), "JPEG")
    yield "junk", body[:2] + b"x" * (10 << 20) + body[2:]
    yield "restarts", body[:-2] + b"\xff\xd0" * (5 << 20) + body[-2:]
    yield "stuffing", body[:-2] + b"\xff\0" * (5 << 20) + body[-2:]


def _webps() -> Iterator[tuple[str, bytes]]:
    for options in ({"lossless": True, "method": 0, "quality": 0}, {"quality": 95, "method": 0},
                    {"quality": 40, "method": 0}):  # fmt: skip
        for channels in (3, 4):
            for grain, share in ((1, 0.11), (1, 0.25), (4, 0.6), (16, 0.8)):
                wide = _square(share)
                kind = f"{channels} channels, {options}, grain {grain}, {wide}²"
                # Too much noise is beyond what WebP can hold in its first partition.
                with suppress(ValueError):
                    yield kind, encoded(noise(wide, wide, channels, grain), "WEBP", **options)
    frames = [noise(300, 300, 3, 1 + i % 3) for i in range(100)]
    body = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], method=0)
    yield "an animation", body


def _gifs() -> Iterator[tuple[str, bytes]]:
    frames = [noise(300, 300, 3, 1 + i % 3) for i in range(100)]
    body = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "an animation", body
    yield "noise", encoded(noise(2600, 2600, 1).convert("P"), "GIF")
    yield "of one colour", encoded(Image.new("P", (_SIDE, _SIDE)), "GIF")
    for blocks in (40_000, 5_200_000):
        yield f"{blocks} blocks", gif_of_blocks(blocks)


def _bmps() -> Iterator[tuple[str, bytes]]:
    for commands in (500_000, 2_000_000, 5_000_000):
        yield f"{commands} runs", bmp_of_runs(_SIDE, _SIDE, commands)
    yield "one bit", encoded(Image.new("1", (_SIDE, _SIDE)), "BMP")
    yield "24 bits", encoded(noise(1850, 1850), "BMP")
    yield "32 bits", encoded(noise(1600, 1600, 4), "BMP")
