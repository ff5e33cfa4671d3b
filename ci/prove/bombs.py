"""Images that cost much to decode and little to send: the worst of each format."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

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
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + b"".join(parts) + chunk(b"IEND", b"")
    )  # fmt: skip


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


def worst(scale: float = 1.0) -> Iterator[tuple[str, str, bytes]]:
    """Yield a format, a name and a file: the costliest that may be sent, and those that may not.

    `scale` shrinks the sides, for a quick look.
    """
    side = int(_SIDE * scale)
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
                wide = int(side * share**0.5)
                name = f"{colour} × {depth} bits{', interlaced' * interlaced}, {wide}²"
                yield "PNG", name, png(wide, wide, depth, colour, interlaced=interlaced)
    key = chunk(b"tRNS", bytes(6))
    yield "PNG", "a key, 8 bits", png(side, side, 8, 2, before=key)
    for share in (1.0, 0.5, 0.25):
        wide = int(side * share**0.5)
        yield "PNG", f"a key, 16 bits, {wide}²", png(wide, wide, 16, 2, before=key)
    yield "PNG", "a column", png(1, 65_000, 8, 2)
    zeros = zlib.compress(bytes(60 << 20), 9)
    yield (
        "PNG",
        "profiles that unpack",
        png(8, 8, 8, 2, before=chunk(b"iCCP", b"n\0\0" + zeros) * 60),
    )
    yield "PNG", "texts that unpack", png(8, 8, 8, 2, before=chunk(b"zTXt", b"k\0\0" + zeros) * 60)
    yield "PNG", "a million chunks", png(8, 8, 8, 2, before=chunk(b"tEXt", b"") * 800_000)
    yield "PNG", "noise", encoded(noise(1850, 1850), "PNG")
    for scans in (1, 14, 50, 400, 30_000):
        for wide in (16, 200, 1000, side):
            if scans * wide < 30_000 * 250:
                yield "JPEG", f"{scans} scans more, {wide}²", jpeg_of_scans(wide, wide, scans)
    for mode in ("RGB", "CMYK"):
        for progressive in (False, True):
            for grain, quality, share in ((1, 95, 0.3), (1, 50, 0.8), (8, 50, 1.0), (2, 20, 1.0)):
                wide = int(side * share**0.5)
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
                yield "JPEG", f"{mode} {kind}, grain {grain}, {wide}²", body
    yield "JPEG", "EXIF in a thousand parts", jpeg_of_segments(b"\xe1", 90_000, 100)
    yield "JPEG", "EXIF in as many as fit", jpeg_of_segments(b"\xe1", 40_000, 240)
    yield "JPEG", "tables", jpeg_of_segments(b"\xdb", 40_000, 59)
    exif = exif_of_tags(5_000, 4_000)
    yield "JPEG", "tags that overlap", encoded(Image.new("L", (8, 8)), "JPEG", exif=exif)
    exif = exif_of_tags(65_000, 9 << 20)
    yield "PNG", "tags that overlap", png(8, 8, 8, 2, before=chunk(b"eXIf", exif[6:]))
    body = encoded(Image.new("RGB", (16, 16)), "JPEG")
    yield "JPEG", "junk", body[:2] + b"x" * (10 << 20) + body[2:]
    yield "JPEG", "restarts", body[:-2] + b"\xff\xd0" * (5 << 20) + body[-2:]
    yield "JPEG", "stuffing", body[:-2] + b"\xff\0" * (5 << 20) + body[-2:]
    for options in ({"lossless": True, "method": 0, "quality": 0}, {"quality": 95, "method": 0},
                    {"quality": 40, "method": 0}):  # fmt: skip
        for channels in (3, 4):
            for grain, share in ((1, 0.11), (1, 0.25), (4, 0.6), (16, 0.8)):
                wide = int(side * share**0.5)
                body = encoded(noise(wide, wide, channels, grain), "WEBP", **options)
                kind = f"{channels} channels, {options}, grain {grain}, {wide}²"
                yield "WEBP", kind, body[: MOST_BYTES * 2]
    frames = [noise(300, 300, 3, 1 + i % 3) for i in range(100)]
    body = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], method=0)
    yield "WEBP", "an animation", body
    body = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "GIF", "an animation", body
    yield "GIF", "noise", encoded(noise(2600, 2600, 1).convert("P"), "GIF")
    yield "GIF", "of one colour", encoded(Image.new("P", (side, side)), "GIF")
    for blocks in (40_000, 5 << 20):
        yield "GIF", f"{blocks} blocks", gif_of_blocks(blocks)
    for commands in (500_000, 2_000_000, 5_000_000):
        yield "BMP", f"{commands} runs", bmp_of_runs(side, side, commands)
    yield "BMP", "one bit", encoded(Image.new("1", (side, side)), "BMP")
    yield "BMP", "24 bits", encoded(noise(1850, 1850), "BMP")
    yield "BMP", "32 bits", encoded(noise(1600, 1600, 4), "BMP")
