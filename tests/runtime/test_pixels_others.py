"""BMP, GIF, WebP and JPEG: each depth, palette, mask and kind of transparency has its pixels.

Files are put together here, byte by byte, so that what they must show is known without a decoder.
"""

from __future__ import annotations

import io
import itertools
import random
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from marwright.runtime.images.decode import open_image
from marwright.runtime.read import read_image
from marwright.runtime.request import BadRequest
from tests.runtime.images import encoded, image_spec, noise

pytestmark = pytest.mark.torch

WHITE = (255, 255, 255)


def seen(body: bytes) -> list[list[tuple[int, ...]]]:
    return [[tuple(p) for p in row] for row in np.array(open_image(body).convert("RGB")).tolist()]


def same(body: bytes, expected: Any) -> bool:
    return [[tuple(p) for p in row] for row in expected] == seen(body)


# --- BMP ------------------------------------------------------------------------------------


def bmp(
    width: int,
    height: int,
    depth: int,
    data: bytes,
    *,
    palette: bytes = b"",
    method: int = 0,
    masks: tuple[int, ...] = (),
    header: int = 40,
    colours: int = 0,
    core: bool = False,
) -> bytes:
    if core:
        info = struct.pack("<IHHHH", 12, width, height, 1, depth)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, depth, method, len(data), 0,
                           0, colours, 0)  # fmt: skip
        packed = struct.pack(f"<{len(masks)}I", *masks)
        info = (info + packed).ljust(header, b"\0") if header > 40 else info + packed
    start = 14 + len(info) + len(palette)
    head = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start)
    return head + info + palette + data


def bmp_rows(rows: list[list[int]], depth: int, bottom_up: bool = True) -> bytes:
    data = b""
    for row in reversed(rows) if bottom_up else rows:
        if depth < 8:
            bits = "".join(f"{v:0{depth}b}" for v in row)
            bits += "0" * (-len(bits) % 8)
            line = int(bits, 2).to_bytes(len(bits) // 8, "big")
        else:
            line = b"".join(v.to_bytes(depth // 8, "little") for v in row)
        data += line + bytes(-len(line) % 4)
    return data


def random_rows(most: int, width: int = 13, height: int = 5) -> list[list[int]]:
    chance = random.Random(3)
    return [[chance.randint(0, most) for _ in range(width)] for _ in range(height)]


@pytest.mark.parametrize("core", [False, True])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("depth", [1, 4, 8])
def test_bmp_with_a_palette(depth: int, grey: bool, core: bool) -> None:
    chance = random.Random(1)
    table = [
        (i, i, i) if grey else tuple(chance.randrange(256) for _ in range(3))
        for i in range(1 << depth)
    ]
    rows = random_rows((1 << depth) - 1)
    filling = b"" if core else b"\x77"
    palette = b"".join(bytes(reversed(c)) + filling for c in table)
    body = bmp(13, 5, depth, bmp_rows(rows, depth), palette=palette, core=core)
    assert same(body, [[table[v] for v in row] for row in rows])


def test_bmp_of_eight_bits_that_uses_two_colours() -> None:
    # As masks are saved. Pillow takes its bytes for bits.
    rows = random_rows(1)
    body = bmp(13, 5, 8, bmp_rows(rows, 8), palette=b"\0\0\0\0\xff\xff\xff\0", colours=2)
    assert same(body, [[WHITE if v else (0, 0, 0) for v in row] for row in rows])


def test_bmp_from_the_top() -> None:
    rows = random_rows(0xFFFFFF)
    body = bmp(13, -5, 24, bmp_rows(rows, 24, bottom_up=False))
    assert same(body, [[(v >> 16, v >> 8 & 255, v & 255) for v in row] for row in rows])


MASKS = {
    (16, "555"): (0x7C00, 0x3E0, 0x1F, 0),
    (16, "565"): (0xF800, 0x7E0, 0x1F, 0),
    (16, "1555"): (0x7C00, 0x3E0, 0x1F, 0x8000),
    (16, "4444"): (0xF00, 0xF0, 0xF, 0xF000),
    (32, "BGRX"): (0xFF0000, 0xFF00, 0xFF, 0),
    (32, "BGRA"): (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (32, "RGBA"): (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    (32, "ABGR"): (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    (32, "1010102"): (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000),
}


def eight(value: int, mask: int) -> int:
    most = mask >> ((mask & -mask).bit_length() - 1)
    part = (value & mask) // (mask & -mask)
    return part >> (most.bit_length() - 8) if most > 255 else part * 255 // most


@pytest.mark.parametrize(("kind", "masks"), MASKS.items(), ids=str)
@pytest.mark.parametrize("header", [40, 108, 124])
def test_bmp_with_masks(kind: tuple[int, str], masks: tuple[int, ...], header: int) -> None:
    depth = kind[0]
    rows = random_rows((1 << depth) - 1)
    has_alpha = bool(masks[3])
    method = 6 if header == 40 and has_alpha else 3
    given = masks if method == 6 or header > 40 else masks[:3]
    body = bmp(13, 5, depth, bmp_rows(rows, depth), method=method, masks=given, header=header)

    def shown(value: int) -> tuple[int, ...]:
        colour = [eight(value, mask) for mask in masks[:3]]
        alpha = eight(value, masks[3]) if has_alpha else 255
        return tuple((2 * (c * alpha + 255 * (255 - alpha)) + 255) // 510 for c in colour)

    assert same(body, [[shown(v) for v in row] for row in rows])


def test_bmp_of_32_bits_without_masks_has_no_alpha() -> None:
    rows = random_rows(0xFFFFFFFF)
    expected = [[(v >> 16 & 255, v >> 8 & 255, v & 255) for v in row] for row in rows]
    assert same(bmp(13, 5, 32, bmp_rows(rows, 32)), expected)


@pytest.mark.parametrize("depth", [4, 8])
def test_bmp_of_run_lengths(depth: int) -> None:
    table = [(i * 11 % 256, i * 7 % 256, i) for i in range(1 << depth)]
    palette = b"".join(bytes(reversed(c)) + b"\0" for c in table)
    # Two rows of five: a run and an absolute part; then a jump, a run and the end.
    if depth == 8:
        data = b"\2\5\0\3\1\2\3\0" + b"\0\0" + b"\0\2\1\0" + b"\3\7" + b"\0\1"
        rows = [[5, 5, 1, 2, 3], [0, 7, 7, 7, 0]]
    else:
        data = b"\2\x56\0\3\x12\x30" + b"\0\0" + b"\0\2\1\0" + b"\3\x78" + b"\0\1"
        rows = [[5, 6, 1, 2, 3], [0, 7, 8, 7, 0]]
    body = bmp(5, 2, depth, data, palette=palette, method=1 if depth == 8 else 2)
    assert same(body, [[table[v] for v in row] for row in reversed(rows)])


@pytest.mark.parametrize(
    "body",
    [
        bmp(13, 5, 24, b"\0" * 198),
        bmp(13, 5, 2, b"\0" * 400),
        bmp(0, 5, 24, b""),
        bmp(13, 5, 24, b"\0" * 200, method=4),
        bmp(4, 4, 8, b"\4\1\0\0", palette=bytes(1024), method=1),
        bmp(2, 1, 16, bytes(4), method=3, masks=(0x5555, 0x3E0, 0x1F)),
    ],
    ids=["short", "2 bits", "no width", "JPEG inside", "runs that end", "mask with gaps"],
)
def test_a_bmp_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        open_image(body)
    assert caught.value.status == 400


# --- GIF ------------------------------------------------------------------------------------


def gif(
    frame: list[list[int]],
    *,
    screen: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
    table: bytes = b"",
    local: bytes = b"",
    transparent: int | None = None,
    disposal: int = 0,
    interlaced: bool = False,
    before: bytes = b"",
) -> bytes:
    """A GIF of one frame, in codes that are never compressed."""
    height, width = len(frame), len(frame[0])
    rows = list(range(height))
    if interlaced:
        rows = [*rows[::8], *rows[4::8], *rows[2::4], *rows[1::2]]

    def flags(colours: bytes) -> int:
        return 0x80 | (len(colours) // 3 - 1).bit_length() - 1 if colours else 0

    body = b"GIF89a" + struct.pack("<HHBBB", *(screen or (width, height)), flags(table), 1, 0)
    body += table + before
    if transparent is not None or disposal:
        packed = disposal << 2 | (transparent is not None)
        body += b"\x21\xf9\x04" + struct.pack("<BHBB", packed, 0, transparent or 0, 0)
    body += b"," + struct.pack("<HHHHB", *at, width, height, flags(local) | interlaced << 6)
    body += local + b"\x08"
    # Codes of nine bits, the table cleared before it could grow to ten.
    codes = []
    for number, value in enumerate(v for y in rows for v in frame[y]):
        codes += [256] if number % 200 == 0 else []
        codes.append(value)
    bits = "".join(f"{code:09b}"[::-1] for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
    blocks = b"".join(
        bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255)
    )
    return body + blocks + b"\0;"


COLOURS = bytes(random.Random(5).randrange(256) for _ in range(3 * 8))


def colour(index: int, table: bytes = COLOURS) -> tuple[int, ...]:
    return tuple(table[3 * index : 3 * index + 3])


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("where", ["global", "local"])
@pytest.mark.parametrize("transparent", [None, 0, 3])
def test_gif_shows_white_where_it_is_transparent(
    transparent: int | None, where: str, interlaced: bool, disposal: int
) -> None:
    frame = random_rows(7, 9, 17)
    tables = {"table": COLOURS} if where == "global" else {"local": COLOURS, "table": bytes(24)}
    body = gif(frame, transparent=transparent, interlaced=interlaced, disposal=disposal, **tables)
    expected = [[WHITE if v == transparent else colour(v) for v in row] for row in frame]
    assert same(body, expected)


@pytest.mark.parametrize("transparent", [None, 2])
def test_gif_is_white_where_its_first_frame_is_not(transparent: int | None) -> None:
    frame = random_rows(7, 4, 3)
    body = gif(frame, screen=(8, 6), at=(3, 2), table=COLOURS, transparent=transparent)
    expected = [[WHITE] * 8 for _ in range(6)]
    for y, x in itertools.product(range(3), range(4)):
        value = frame[y][x]
        expected[y + 2][x + 3] = WHITE if value == transparent else colour(value)  # type: ignore[assignment]
    assert same(body, expected)


def test_gif_whose_frame_is_wider_than_its_screen() -> None:
    frame = random_rows(7, 6, 6)
    body = gif(frame, screen=(4, 4), table=COLOURS)
    assert same(body, [[colour(v) for v in row] for row in frame])


def test_gif_without_a_colour_table_is_grey() -> None:
    frame = random_rows(255, 6, 6)
    assert same(gif(frame), [[(v, v, v) for v in row] for row in frame])


def test_of_an_animated_gif_the_first_frame_counts() -> None:
    first, second = gif([[1] * 4] * 4, table=COLOURS), gif([[2] * 4] * 4, table=COLOURS)
    body = first[:-1] + second[13 + len(COLOURS) :]
    assert same(body, [[colour(1)] * 4] * 4)


def test_extensions_of_a_gif_are_passed_over() -> None:
    before = b"\x21\xfe\x03abc\x02de\0" + b"\x21\xff\x0bNETSCAPE2.0\x03\1\0\0\0"
    assert same(gif([[1, 2]], table=COLOURS, before=before), [[colour(1), colour(2)]])


# --- WebP -----------------------------------------------------------------------------------


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = b"".join(k + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for k, c in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WEBP" + parts


def rgba() -> Image.Image:
    values = np.random.default_rng(2).integers(0, 256, (8, 12, 4), dtype=np.uint8)
    values[:3, :, 3], values[3:5, :, 3] = 0, 255
    return Image.fromarray(values)


def over_white(image: Image.Image) -> np.ndarray:
    values = np.array(image).astype(int)
    colours, alpha = values[..., :3], values[..., 3:]
    return (2 * (colours * alpha + 255 * (255 - alpha)) + 255) // 510


def test_webp_without_loss_is_laid_over_white() -> None:
    body = encoded(rgba(), "WEBP", lossless=True, exact=True)
    assert np.array_equal(np.array(open_image(body)), over_white(rgba()))


def test_webp_with_loss_is_laid_over_white() -> None:
    body = encoded(rgba(), "WEBP", quality=90)
    decoded = Image.open(io.BytesIO(body)).convert("RGBA")
    assert np.array_equal(np.array(open_image(body)), over_white(decoded))
    assert (np.array(open_image(body))[:3] == 255).all()


@pytest.mark.parametrize("alpha", [0x10, 0])
def test_an_animated_webp_is_white_where_its_first_frame_is_not(alpha: int) -> None:
    still = encoded(Image.new("RGB", (4, 2), (200, 10, 20)), "WEBP", lossless=True)
    frame = struct.pack("<HBHBHBHBHBB", 1, 0, 1, 0, 3, 0, 1, 0, 100, 0, 0) + still[12:]
    later = struct.pack("<HBHBHBHBHBB", 0, 0, 0, 0, 3, 0, 1, 0, 100, 0, 0) + still[12:]
    header = struct.pack("<IHBHB", alpha | 2, 7, 0, 5, 0)
    background = struct.pack("<IH", 0xFF00FF00, 0)
    body = riff((b"VP8X", header), (b"ANIM", background), (b"ANMF", frame), (b"ANMF", later))
    expected = [[WHITE] * 8 for _ in range(6)]
    for y, x in itertools.product((2, 3), (2, 3, 4, 5)):
        expected[y][x] = (200, 10, 20)
    assert same(body, expected)


# --- JPEG -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_in_each_colour_space(mode: str, options: dict[str, Any]) -> None:
    image = Image.new("RGB", (33, 17), (250, 40, 120)).convert(mode)
    found = np.array(open_image(encoded(image, "JPEG", quality=100, **options)).convert("RGB"))
    wanted = np.array(image.convert("RGB"))
    assert np.abs(found.astype(int) - wanted).max() <= 3


def with_adobe(body: bytes, transform: int) -> bytes:
    """Return a JPEG with Adobe's marker saying what its components are."""
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + bytes([transform])
    place = body.find(b"\xff\xee\x00\x0eAdobe")
    if place >= 0:
        body = body[:place] + body[place + 16 :]
    return body[:2] + marker + body[2:]


def test_jpeg_of_inverted_cmyk_and_of_ycck() -> None:
    # Adobe stores ink inverted: 255 is no ink. Others have taken it over.
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    body = encoded(ink, "JPEG", quality=100)
    for one in (body, with_adobe(body, 0)):
        red, green, blue = np.array(open_image(one))[8, 8].tolist()
        assert (red, green, blue) == pytest.approx((0, 255, 255), abs=3)
    # As YCCK the first three are luma and chroma of the ink, here all of magenta and yellow.
    planes = [Image.new("L", (16, 16), 255 - stored) for stored in (179, 171, 1, 255)]
    body = encoded(Image.merge("CMYK", planes), "JPEG", quality=100)
    found = np.array(open_image(with_adobe(body, 2)))[8, 8]
    assert found.tolist() == pytest.approx((255, 0, 0), abs=3)


def test_jpeg_whose_adobe_marker_says_rgb() -> None:
    planes = [Image.new("L", (16, 16), v) for v in (200, 30, 60)]
    body = encoded(Image.merge("YCbCr", planes), "JPEG", quality=100)
    start = body.index(b"\xff\xe0")
    body = body[:start] + body[start + 18 :]
    found = np.array(open_image(with_adobe(body, 0)))[8, 8]
    assert found.tolist() == pytest.approx((200, 30, 60), abs=3)


def exif_of(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_exif_turns_each_format_that_carries_it(kind: str, order: str, orientation: int) -> None:
    image = noise()
    plain = np.array(
        open_image(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    )
    options = {"lossless": True} if kind == "WEBP" else {}
    found = np.array(open_image(encoded(image, kind, exif=exif_of(orientation, order), **options)))
    expected = {
        2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1], 5: plain.swapaxes(0, 1),
        6: np.rot90(plain, -1), 7: plain[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(plain, 1),
    }.get(orientation, plain)  # fmt: skip
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_a_request_is_turned_once(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0}
    body = encoded(noise(), kind, exif=exif_of(orientation), **options)
    image = open_image(body)
    spec = image_spec(size=image.size)
    expected = np.array(image, dtype=np.float32).transpose(2, 0, 1)[None] / 255
    assert np.array_equal(read_image(body, spec), expected)


def test_jpeg_with_junk_between_its_segments_is_read() -> None:
    body = encoded(noise(), "JPEG")
    place = body.index(b"\xff\xdb")
    odd = body[:place] + b"junk\xff\0\xff\xff" + body[place:] + b"behind the end\xff\xda\xff"
    assert seen(odd) == seen(body)


@pytest.mark.parametrize("marker", [0xC3, 0xC9, 0xCA])
def test_jpeg_of_a_rare_process_is_refused(marker: int) -> None:
    body = bytearray(encoded(noise(), "JPEG"))
    body[body.index(b"\xff\xc0") + 1] = marker
    with pytest.raises(BadRequest, match="neither baseline nor progressive"):
        open_image(bytes(body))
