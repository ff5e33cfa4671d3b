"""Every colour type, depth and kind of transparency of PNG, against a decoder by the specification.

The gate for any decoder: exact values, whatever reads the file.
"""

from __future__ import annotations

import random
import struct
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from marwright.runtime.images.decode import open_image
from marwright.runtime.read import read_image
from marwright.runtime.request import BadRequest
from tests.runtime import png_by_spec
from tests.runtime.images import image_spec
from tests.runtime.png_by_spec import CHANNELS, chunk, read_over_white, written

pytestmark = pytest.mark.torch

KINDS = [(0, d) for d in (1, 2, 4, 8, 16)] + [(2, 8), (2, 16)]
KINDS += [(3, d) for d in (1, 2, 4, 8)] + [(4, 8), (4, 16), (6, 8), (6, 16)]
# Odd, so that no row is whole bytes and every pass of an interlaced file is another size.
WIDTH, HEIGHT = 21, 11


def values(colour: int, depth: int, seed: int = 0) -> list[list[tuple[int, ...]]]:
    """Samples in which every level is likely, and both ends certain."""
    chance, most = random.Random(seed), (1 << depth) - 1
    ends = (0, most, most // 2, 1, most - 1, most & 0xFF, most & 0xFF00)

    def value() -> int:
        return chance.choice(ends) if chance.random() < 0.4 else chance.randint(0, most)

    rows = [
        [tuple(value() for _ in range(CHANNELS[colour])) for _ in range(WIDTH)]
        for _ in range(HEIGHT)
    ]
    # A key that many pixels have, and others in their upper half alone.
    key = key_of(colour, depth)
    if key:
        for row in rows:
            row[3] = key
            row[5] = tuple(v ^ 1 for v in key)
    return rows


def key_of(colour: int, depth: int) -> tuple[int, ...]:
    most = (1 << depth) - 1
    return {0: (most // 3 or 1,), 2: (most // 3, most // 5, most // 7)}.get(colour, ())


def transparency(colour: int, depth: int, kind: str) -> bytes:
    key = key_of(colour, depth)
    if kind == "key":
        return struct.pack(f">{len(key)}H", *key)
    if kind == "key with other bits":
        return struct.pack(f">{len(key)}H", *(v | (0xFFFF << depth & 0xFFFF) for v in key))
    count = 1 << depth
    return {
        "none": b"",
        "partial": bytes((37 * i + 11) % 256 for i in range(count)),
        "one": b"\xff" * (count // 2) + b"\0",
        "short": bytes([0, 128])[: max(count // 2, 1)],
    }[kind]


def kinds_of(colour: int, depth: int) -> list[str]:
    if colour in (4, 6):
        return ["none"]
    if colour == 3:
        return ["none", "partial", "one", "short"]
    return ["none", "key", *(["key with other bits"] if depth < 16 else [])]


CASES = [
    (colour, depth, kind, interlaced)
    for colour, depth in KINDS
    for kind in kinds_of(colour, depth)
    for interlaced in (False, True)
]


def file_of(colour: int, depth: int, kind: str, interlaced: bool) -> bytes:
    chance = random.Random(7)
    palette = bytes(chance.randrange(256) for _ in range(3 << depth)) if colour == 3 else b""
    return written(
        values(colour, depth),
        depth=depth,
        colour=colour,
        palette=palette,
        transparent=transparency(colour, depth, kind),
        interlaced=interlaced,
    )


def seen(body: bytes, channels: int = 3) -> Any:
    """Return what the network sees, as whole numbers `(H, W, channels)`."""
    tensor = read_image(body, image_spec(channels, (WIDTH, HEIGHT)))[0]
    return (tensor * 255).round().astype(int).transpose(1, 2, 0).tolist()


@pytest.mark.parametrize(("colour", "depth", "kind", "interlaced"), CASES)
def test_every_kind_shows_white_where_it_is_transparent(
    colour: int, depth: int, kind: str, interlaced: bool
) -> None:
    body = file_of(colour, depth, kind, interlaced)
    expected = read_over_white(body)
    assert seen(body) == [[list(pixel) for pixel in row] for row in expected]
    # As ITU-R 601 has it, which Pillow computes with 16 bits behind the point.
    grey = [[[(19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16] for r, g, b in row]
            for row in expected]  # fmt: skip
    assert seen(body, 1) == grey
    flat = [pixel for row in expected for pixel in row]
    assert kind in ("none", "short") or (255, 255, 255) in flat or kind == "partial"


# torchvision leaves keys out, and levels of fewer than eight bits as they are.
BY_LIBPNG = [c for c in CASES if "key" not in c[2] and (c[0] != 0 or c[1] >= 8)]


@pytest.mark.parametrize(("colour", "depth", "kind", "interlaced"), BY_LIBPNG)
def test_libpng_reads_the_same_samples(
    colour: int, depth: int, kind: str, interlaced: bool
) -> None:
    """So that the decoder of the tests is itself checked, by torchvision's."""
    from torchvision.io import ImageReadMode, decode_png

    body = file_of(colour, depth, kind, interlaced)
    data = torch.frombuffer(bytearray(body), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        has_alpha = colour in (4, 6) or (colour == 3 and kind != "none")
        found = decode_png(data, ImageReadMode.RGB_ALPHA if has_alpha else ImageReadMode.RGB)
    pixels = found.permute(1, 2, 0).to(torch.int64).numpy()
    most = 65535 if found.dtype == torch.uint16 else 255
    colours, alpha = pixels[..., :3], pixels[..., 3:] if has_alpha else most
    flat = (2 * (colours * alpha + most * (most - alpha)) + most) // (2 * most)
    ours = np.array(read_over_white(body))
    assert np.array_equal(flat >> 8 if most == 65535 else flat, ours)


def test_a_key_of_sixteen_bits_is_matched_with_all_of_them() -> None:
    rows = [[(0x1234,), (0x1235,), (0x12FF,), (0x1234,)]]
    body = written(rows, depth=16, colour=0, transparent=struct.pack(">H", 0x1234))
    grey = read_image(body, image_spec(1, (4, 1)))[0] * 255
    assert grey.round().astype(int).tolist() == [[[255, 0x12, 0x12, 255]]]


def test_a_file_of_eight_bits_and_its_double_of_sixteen_are_one() -> None:
    eight = written(values(2, 8), depth=8, colour=2)
    doubled = [[tuple(257 * v for v in p) for p in row] for row in values(2, 8)]
    assert seen(written(doubled, depth=16, colour=2)) == seen(eight)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("colour", [0, 2, 3, 4, 6])
def test_exif_turns_every_colour_type(orientation: int, colour: int) -> None:
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HHI", orientation, 0, 0)
    rows = values(colour, 8)
    options: dict[str, Any] = {"palette": bytes(range(256)) * 3} if colour == 3 else {}
    plain = np.array(open_image(written(rows, depth=8, colour=colour, **options)).convert("RGB"))
    turned = open_image(
        written(rows, depth=8, colour=colour, extra=chunk(b"eXIf", exif), **options)
    )
    expected = {
        1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1],
        5: plain.swapaxes(0, 1), 6: np.rot90(plain, -1), 7: plain[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(plain, 1),
    }[orientation]  # fmt: skip
    assert np.array_equal(np.array(turned.convert("RGB")), expected)


def test_what_is_no_part_of_the_pixels_is_passed_over() -> None:
    rows = values(2, 8)
    plain = written(rows, depth=8, colour=2)
    bomb = chunk(b"iCCP", b"name\0\0" + b"\xff" * 50) + chunk(b"zTXt", b"k\0\0not zlib")
    bomb += chunk(b"gAMA", struct.pack(">I", 1)) + chunk(b"bKGD", bytes(6)) + chunk(b"acTL", b"")
    late = plain[: plain.rindex(b"IEND") - 4] + chunk(b"tRNS", bytes(6)) + chunk(b"IEND", b"")
    assert seen(written(rows, depth=8, colour=2, extra=bomb)) == seen(plain)
    assert seen(late) == seen(plain)


def test_of_an_animation_the_still_image_counts() -> None:
    rows = values(6, 8)
    control = struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 1, 0, 0)
    extra = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", control)
    body = written(rows, depth=8, colour=6, extra=extra)
    later = chunk(b"fcTL", control) + chunk(b"fdAT", b"\0\0\0\2broken")
    body = body[: body.rindex(b"IEND") - 4] + later + chunk(b"IEND", b"")
    assert seen(body) == seen(written(rows, depth=8, colour=6))


def test_an_index_behind_the_palettes_end_is_black() -> None:
    body = written([[(0,), (1,), (2,), (3,)]], depth=8, colour=3, palette=bytes([9] * 6))
    found = open_image(body)
    assert [found.getpixel((x, 0)) for x in range(4)] == [(9, 9, 9)] * 2 + [(0, 0, 0)] * 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body.replace(b"PLTE", b"pLTE"), "palette"),
        (lambda body: body[:24] + b"\x03" + body[25:], "checksum"),
        (lambda body: body[: body.index(b"IDAT") + 8], "truncated"),
        (lambda body: body[: body.index(b"IDAT") - 4], "no pixels"),
    ],
)
def test_a_damaged_file_is_refused(change: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        open_image(change(file_of(3, 4, "none", False)))


def test_the_seeded_fault_is_found() -> None:
    """The decoder that this one replaced reduces first: the matrix must tell them apart."""
    import io

    from PIL import Image

    body = file_of(2, 16, "key", False)
    reduced = np.array(Image.open(io.BytesIO(body)).convert("RGB"))
    assert not np.array_equal(reduced, np.array(png_by_spec.read_over_white(body)))
