"""Odd and hostile inputs: a tensor of the spec's shape, or a `BadRequest` that says why not."""

from __future__ import annotations

import io
import json
import math
import random
import struct
import time
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from marwright.runtime.images.budget import MAX_PIXELS
from marwright.runtime.preprocess import image_array, table_array
from marwright.runtime.read import read_image, read_table
from marwright.runtime.request import BadRequest
from marwright.runtime.spec import MAX_ROWS, ImageSpec, TableSpec
from tests.runtime.images import encoded, image_spec, noise
from tests.specs import numbers

pytestmark = pytest.mark.torch

STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=200)
TABLE = numbers(
    ("a", "b", "c"),
    center=(1.0, 0.0, -1.0),
    scale=(2.0, 1.0, 0.5),
    target="y",
    target_mean=0.0,
    target_std=1.0,
)


def pixels(body: bytes, spec: ImageSpec) -> list[Any]:
    """Return the tensor as whole numbers from 0 to 255, without the batch axis."""
    tensor = read_image(body, spec)
    assert tensor.shape == (1, *spec.shape)
    assert tensor.dtype == np.float32
    return (tensor[0] * 255).round().astype(int).tolist()


def refusal(body: object, spec: ImageSpec | TableSpec, status: int = 400) -> str:
    with pytest.raises(BadRequest) as caught:
        if isinstance(spec, ImageSpec):
            read_image(body, spec)
        else:
            read_table(body, spec)
    assert caught.value.status == status
    return str(caught.value)


# --- images that are answered ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP", "JPEG"])
def test_each_format_is_read(kind: str) -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 255))
    options = {"lossless": True} if kind == "WEBP" else {}
    red, green, blue = np.array(pixels(encoded(image, kind, **options), image_spec()))
    assert red.min() >= 252
    assert green.max() <= 3
    assert blue.min() >= 252


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("white", "black")]
    for kind in ("GIF", "WEBP"):
        body = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.min(pixels(body, image_spec())) >= 250


def test_a_bytearray_is_a_body_as_torchserve_hands_it_over() -> None:
    body = encoded(noise())
    assert np.array_equal(read_image(bytearray(body), image_spec()), read_image(body, image_spec()))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (noise(), {}),
        (noise().convert("RGBA"), {}),
        (noise().convert("P"), {"transparency": 3}),
        (noise(), {"exif": turned(6)}),
        (Image.fromarray(np.arange(96, dtype=np.uint16).reshape(8, 12) * 600), {}),
    ],
    ids=["RGB", "RGBA", "P", "turned", "16 bits"],
)
def test_the_request_gives_the_tensor_of_training(
    image: Image.Image, options: dict[str, Any]
) -> None:
    spec = image_spec(size=(5, 5), fit="crop", interpolation="bilinear", mean=(0.4,) * 3)
    body = encoded(image, **options)
    expected = image_array(Image.open(io.BytesIO(body)), spec)
    assert np.array_equal(read_image(body, spec)[0], expected)
    if not options:
        assert np.array_equal(expected, image_array(image, spec))


# --- images that are refused ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the request is empty"),
        (bytearray(), "the request is empty"),
        (b"not an image", "not an image of a known format (PNG, JPEG, WEBP, BMP, GIF)"),
        (b"\x89PNG\r\n\x1a\n", "not an image of a known format"),
        (b"\xff\xd8\xff", "not an image of a known format"),
        (b"GIF89a", "not an image of a known format"),
        (b'{"a": 1}', "not an image of a known format"),
        (encoded(noise(), "TIFF"), "not an image of a known format"),
        (encoded(noise(), "ICO"), "not an image of a known format"),
        (encoded(noise(), "PPM"), "not an image of a known format"),
        ({"a": 1}, "send the image's bytes"),
        ("text", "send the image's bytes"),
        (None, "send the image's bytes"),
        ([1, 2], "send the image's bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_image_is_refused(body: object, said: str) -> None:
    assert said in refusal(body, image_spec())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_a_truncated_image_is_refused(kind: str) -> None:
    body = encoded(noise(40, 40), kind)
    for share in (0.3, 0.6, 0.9):
        assert refusal(body[: int(len(body) * share)], image_spec())


def test_a_flipped_bit_in_a_png_is_refused() -> None:
    body = bytearray(encoded(noise()))
    body[body.index(b"IDAT") + 20] ^= 1
    assert "the image cannot be decoded: " in refusal(bytes(body), image_spec())


def png_of_zeros(width: int, height: int) -> bytes:
    """Return a black one-bit PNG: a few kilobytes for any number of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join([packer.compress(row) for _ in range(height)] + [packer.flush()])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def webp_of(width: int, height: int) -> bytes:
    """Return the beginning of a lossless WebP that claims a size."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(64)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@pytest.mark.parametrize("side", [5657, 13_300, 13_400, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    # Beyond Pillow's own limit the claim is enough.
    claimed = struct.pack(">II", side, side)
    body = png_of_zeros(side, side if side < 20_000 else 1)
    body = with_sums(body[:16] + claimed + body[24:])
    assert len(body) < 100_000
    assert side * side > MAX_PIXELS
    tracemalloc.start()
    try:
        said = refusal(body, image_spec(), status=413)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"at most {MAX_PIXELS} are accepted" in said
    # What Python holds; that Pillow took nothing either is the next test.
    assert peak < 2_000_000


def test_a_bomb_is_never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(AssertionError, match="decoded"):
        read_image(png_of_zeros(64, 64), image_spec())
    refusal(png_of_zeros(13_300, 13_300), image_spec(), status=413)


def test_other_formats_make_no_bomb_either() -> None:
    bmp = bytearray(encoded(Image.new("RGB", (4, 4)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 20_000, 20_000)
    gif = bytearray(encoded(Image.new("RGB", (4, 4)), "GIF"))
    gif[6:10] = struct.pack("<HH", 20_000, 20_000)
    for body in (bytes(bmp), bytes(gif), webp_of(16_000, 16_000)):
        refusal(body, image_spec(), status=413)


def test_the_largest_image_is_read() -> None:
    body = png_of_zeros(8_000, MAX_PIXELS // 8_000)
    assert pixels(body, image_spec(1)) == [[[0] * 4] * 4]
    refusal(png_of_zeros(8_000, MAX_PIXELS // 8_000 + 1), image_spec(1), status=413)


def image_seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    rgb = noise()
    return [
        encoded(rgb, exif=exif),
        encoded(rgb, "JPEG", exif=exif),
        encoded(rgb, "JPEG", progressive=True),
        encoded(rgb, "WEBP", exif=exif),
        encoded(rgb, "BMP"),
        encoded(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)]),
        encoded(rgb.convert("P"), transparency=3),
        encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(Image.fromarray(np.arange(96, dtype=np.uint16).reshape(8, 12) * 600)),
    ]


SEEDS = image_seeds()


def tensor_or_refusal(body: bytes, spec: ImageSpec) -> NDArray[np.float32] | str:
    try:
        tensor = read_image(body, spec)
    except BadRequest as bad:
        assert bad.status in (400, 413)
        assert len(str(bad)) < 300
        return str(bad)
    assert tensor.shape == (1, *spec.shape)
    assert np.isfinite(tensor).all()
    return tensor


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@STEADY
@given(body=st.binary(max_size=300), seed=st.sampled_from([b"", *(s[:40] for s in SEEDS)]))
def test_any_bytes_give_a_tensor_or_a_refusal(body: bytes, seed: bytes) -> None:
    tensor_or_refusal(seed + body, image_spec(1))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_any_damage_gives_a_tensor_or_a_refusal() -> None:
    # Not hypothesis: two thousand damaged files in the time that it takes to shrink one.
    chance = random.Random(0)
    spec = image_spec(fit="crop")
    results = []
    for _ in range(2000):
        body = bytearray(chance.choice(SEEDS))
        for _ in range(chance.choice((1, 2, 8))):
            place = chance.randrange(min(len(body), chance.choice((40, 120, len(body)))))
            body[place] = chance.choice((0, 1, 127, 128, 255))
        if chance.random() < 0.2:
            del body[chance.randrange(len(body)) :]
        results.append(tensor_or_refusal(with_sums(bytes(body)), spec))
    # Both ways were walked.
    assert 100 < sum(isinstance(result, np.ndarray) for result in results) < 1900


def with_sums(body: bytes) -> bytes:
    """Return a PNG with its checksums put right, so that damage reaches the decoder."""
    if not body.startswith(b"\x89PNG"):
        return body
    fixed, place = body[:8], 8
    while place + 12 <= len(body):
        end = place + 8 + struct.unpack_from(">I", body, place)[0]
        if end + 4 > len(body):
            break
        fixed += body[place:end] + struct.pack(">I", zlib.crc32(body[place + 4 : end]))
        place = end + 4
    return fixed + body[place:]


def with_chunk(body: bytes, kind: bytes, content: bytes) -> bytes:
    """Return a PNG with a chunk behind its pixels."""
    chunk = struct.pack(">I", len(content)) + kind + content
    chunk += struct.pack(">I", zlib.crc32(kind + content))
    end = body.rindex(b"IEND") - 4
    return body[:end] + chunk + body[end:]


@pytest.mark.parametrize("content", [b"", b"ab\0"])
def test_a_damaged_colour_profile_is_no_reason_to_refuse(content: bytes) -> None:
    damaged = with_chunk(png_of_zeros(8, 8), b"iCCP", content)
    spec = image_spec(channels=1)
    assert np.array_equal(read_image(damaged, spec), read_image(png_of_zeros(8, 8), spec))


# --- rows that are answered -----------------------------------------------------------------

ROW = {"a": 3.0, "b": 1, "c": -1.0}
STANDARD = [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (ROW, [STANDARD]),
        ([3, 1, -1], [STANDARD]),
        ([ROW], [STANDARD]),
        ([[3, 1, -1]], [STANDARD]),
        ([ROW, [1, 0, -1], ROW], [STANDARD, [0.0, 0.0, 0.0], STANDARD]),
        ({"c": -1, "b": 1, "a": 3}, [STANDARD]),
    ],
)
def test_rows_are_read_in_every_form(body: object, rows: list[list[float]]) -> None:
    for given_body in (body, json.dumps(body), json.dumps(body).encode()):
        tensor = read_table(given_body, TABLE)
        assert tensor.dtype == np.float32
        assert tensor.tolist() == rows
    assert read_table(bytearray(json.dumps(body).encode()), TABLE).tolist() == rows


def test_the_request_gives_the_row_of_training() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3)) * 1e3
    assert np.array_equal(read_table(rows.tolist(), TABLE), table_array(rows, TABLE))


def test_the_most_rows_are_read_and_one_more_is_refused() -> None:
    assert read_table([[1, 2, 3]] * MAX_ROWS, TABLE).shape == (MAX_ROWS, 3)
    said = refusal([[1, 2, 3]] * (MAX_ROWS + 1), TABLE, status=413)
    assert said == f"{MAX_ROWS + 1} rows in one request; at most {MAX_ROWS} are accepted"


def test_millions_of_values_are_refused_before_they_are_read() -> None:
    for body in (b"[" + b"[]," * 3_000_000 + b"[]]", b"[" + b"1," * 5_000_000 + b"1]"):
        started = time.process_time()
        said = refusal(body, TABLE, status=413)
        assert said.startswith(f"more values than {MAX_ROWS} rows of 3 columns have")
        assert time.process_time() - started < 0.5


def test_the_wider_a_table_is_the_fewer_rows_are_read() -> None:
    columns = 4_000
    wide = numbers(
        columns=tuple(map(str, range(columns))), center=(0.0,) * columns, scale=(1.0,) * columns
    )
    row = "[" + "1," * (columns - 1) + "1]"
    started = time.process_time()
    assert read_table(f"[{','.join([row] * 250)}]", wide).shape == (250, columns)
    for rows in (251, 1_200):
        assert "at most 250" in refusal(f"[{','.join([row] * rows)}]".encode(), wide, status=413)
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize("body", ['{"A": 1, "B": 2, "A": 3}', '[{"A": 1, "A": 1}]'])
def test_a_key_that_stands_twice_is_refused(body: str) -> None:
    assert refusal(body.encode(), TABLE) == 'the key "A" stands twice in one object'


# --- rows that are refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not JSON: "),
        (b"{", "the body is not JSON: "),
        (b"\xff\xfe\x00", "the body is not JSON: "),
        (b"\x89PNG\r\n\x1a\n", "the body is not JSON: "),
        ("[" * 100_000, "the body is not JSON: "),
        (f"[{'1' * 5000}, 1, 1]", "the body is not JSON: "),
        (None, "send a JSON object of columns, or a list of rows"),
        (7, "send a JSON object of columns, or a list of rows"),
        (True, "send a JSON object of columns, or a list of rows"),
        ("null", "send a JSON object of columns, or a list of rows"),
        ('"a"', "send a JSON object of columns, or a list of rows"),
        ([], "no rows: send an object of columns, or a list of them"),
        ([[]], "row 0: expected 3 values, got 0 values"),
        ({}, "row 0: missing a, b, c; columns: a, b, c"),
        ([1, 2], "row 0: expected 3 values, got 2 values"),
        ([1, 2, 3, 4], "row 0: expected 3 values, got 4 values"),
        ([[1, 2, 3], [1, 2]], "row 1: expected 3 values, got 2 values"),
        ([[1, 2, 3], 7], "row 1: expected 3 values, got int"),
        ([ROW, None], "row 1: expected 3 values, got NoneType"),
        ({"a": 1, "b": 2}, "row 0: missing c; columns: a, b, c"),
        (ROW | {"d": 1}, "row 0: unknown d; columns: a, b, c"),
        ({"A": 1, "b": 2, "c": 3}, "row 0: missing a; unknown A; columns: a, b, c"),
        ([1, "2", 3], 'row 0, column b: expected a number, got "2"'),
        ([1, True, 3], "row 0, column b: expected a number, got true or false"),
        ([1, None, 3], "row 0, column b: expected a number, got null"),
        ([1, [2], 3], "row 0, column b: expected a number, got a list"),
        ([1, {"x": 2}, 3], "row 0, column b: expected a number, got an object"),
        ("[1, NaN, 3]", "row 0, column b: the number is not finite"),
        ("[1, 2, -Infinity]", "row 0, column c: the number is not finite"),
        ("[1, 1e999, 3]", "row 0, column b: the number is not finite"),
        ([1, 10**400, 3], "row 0, column b: the number is not finite"),
        ([1, 1e39, 3], "row 0, column b: the number is too large"),
        # Within float32 as it comes, and beyond it once it is divided by the deviation.
        ([[1, 2, 3], [1, 2, 3e38]], "row 1, column c: the number is too large"),
        ([1, 2, 1.7e308], "row 0, column c: the number is too large"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_rows_that_cannot_be_read_are_refused(body: object, said: str) -> None:
    assert refusal(body, TABLE).startswith(said)


@pytest.mark.parametrize(
    "body",
    [
        {f"{number}{'x' * 5000}": 1 for number in range(500)},
        [1, "x" * 1_000_000, 3],
        [1, ["x" * 1_000_000] * 10, 3],
        '"' + "x" * 1_000_000,
    ],
    ids=["columns", "text", "list", "not JSON"],
)
def test_a_refusal_does_not_send_the_request_back(body: object) -> None:
    assert len(refusal(body, TABLE)) < 400


def test_a_value_that_is_a_thousand_lists_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    try:
        assert refusal([1, deep, 3], TABLE) == "row 0, column b: expected a number, got a list"
    finally:
        # Taken apart from the outside: freeing it in one go would recurse.
        while deep:
            deep = deep.pop()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["a", "b", "c", "d", "\ud800"]), inner, max_size=4),
    ),
    max_leaves=12,
)


@STEADY
@given(body=JSON)
def test_any_json_gives_rows_or_a_refusal(body: Any) -> None:
    for given_body in (body, json.dumps(body)):
        try:
            tensor = read_table(given_body, TABLE)
        except BadRequest as bad:
            assert bad.status == 400
            assert len(str(bad)) < 600
        else:
            assert tensor.shape[1:] == (3,)
            assert len(tensor) >= 1
            assert np.isfinite(tensor).all()


@STEADY
@given(row=st.lists(st.floats(), min_size=3, max_size=3))
def test_every_number_is_computed_with_or_refused(row: list[float]) -> None:
    computed = [(v - m) / s for v, m, s in zip(row, TABLE.center, TABLE.scale, strict=True)]
    fits = all(math.isfinite(v) and abs(v) < 3.4e38 for v in computed)
    if fits:
        assert read_table(row, TABLE)[0].tolist() == pytest.approx(computed, rel=1e-6, abs=1e-30)
    elif any(not math.isfinite(v) or abs(v) > 3.5e38 for v in computed):
        assert "row 0, column" in refusal(row, TABLE)


@STEADY
@given(body=st.one_of(st.binary(max_size=60), st.text(max_size=60)))
def test_any_bytes_give_rows_or_a_refusal(body: bytes | str) -> None:
    refusal(body, TABLE)
