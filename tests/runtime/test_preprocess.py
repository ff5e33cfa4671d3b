"""Every kind of image and row becomes a tensor of the spec's shape, in serving as in training."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from marwright.runtime.preprocess import image_array, normalised, table_array
from marwright.runtime.read import read_image
from marwright.runtime.request import BadRequest
from marwright.runtime.spec import ImageSpec
from tests.runtime import png_by_spec
from tests.runtime.images import encoded, image_spec, noise
from tests.specs import numbers

pytestmark = pytest.mark.torch


def tensor_of(body: bytes, spec: ImageSpec) -> NDArray[np.float32]:
    """Decode a file, so that its mode and metadata are those that a decoder gives."""
    image = Image.open(io.BytesIO(body))
    image.load()
    tensor = image_array(image, spec)
    assert tensor.shape == spec.shape
    assert tensor.dtype == np.float32
    return tensor


def pixels(body: bytes, spec: ImageSpec) -> list[Any]:
    """Return the tensor as whole numbers from 0 to 255."""
    return (tensor_of(body, spec) * 255).round().astype(int).tolist()


# --- images ---------------------------------------------------------------------------------


def test_channels_height_and_width_come_in_this_order() -> None:
    image = Image.new("RGB", (3, 2))
    image.putpixel((2, 1), (10, 20, 30))
    found = np.array(pixels(encoded(image), image_spec(size=(3, 2))))
    assert found[:, 1, 2].tolist() == [10, 20, 30]
    assert found.sum() == 60


def test_mean_and_deviation_are_those_of_each_channel() -> None:
    spec = image_spec(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    tensor = tensor_of(encoded(Image.new("RGB", (4, 4), (255, 255, 255))), spec)
    assert tensor[:, 0, 0].tolist() == [1.0, 1.0, 0.0]


def test_every_pixel_is_what_torch_makes_of_it_bit_for_bit() -> None:
    """Models that were trained on tensors are served arrays."""
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3).transpose(2, 1, 0)
    chance = np.random.default_rng(0)
    for _ in range(50):
        mean, std = chance.random(3).tolist(), (0.01 + chance.random(3)).tolist()
        made = normalised(pixels, image_spec(mean=tuple(mean), std=tuple(std)))
        by_torch = torch.from_numpy(pixels.copy()).float() / 255.0
        expected = (by_torch - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        assert torch.equal(torch.from_numpy(made), expected)
        assert made.flags.c_contiguous


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_each_mode_becomes_the_channels_of_the_spec(mode: str, channels: int) -> None:
    image = Image.new("L", (4, 4), 255)
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16))
    else:
        image = image.convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert pixels(encoded(image, kind), image_spec(channels)) == [[[255] * 4] * 4] * channels


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.array([[0, 255, 256, 0x8000], [0xFFFF] * 4], dtype=np.uint16)
    body = encoded(Image.fromarray(values))
    assert pixels(body, image_spec(1, (4, 2))) == [[[0, 0, 1, 128], [255] * 4]]


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (Image.new("RGBA", (4, 4), (0, 0, 0, 0)), {}),
        (Image.new("LA", (4, 4), (0, 0)), {}),
        (Image.new("P", (4, 4), 0), {"transparency": 0}),
        (Image.new("P", (4, 4), 0), {"transparency": b"\0"}),
        (Image.new("L", (4, 4), 0), {"transparency": 0}),
        (Image.new("RGB", (4, 4), 0), {"transparency": (0, 0, 0)}),
        (Image.new("1", (4, 4), 0), {"transparency": 0}),
    ],
    ids=["RGBA", "LA", "P", "P-bytes", "L", "RGB", "1"],
)
def test_what_is_transparent_is_white(image: Image.Image, options: dict[str, Any]) -> None:
    body = encoded(image, **options)
    assert pixels(body, image_spec()) == [[[255] * 4] * 4] * 3
    assert pixels(body, image_spec(1)) == [[[255] * 4] * 4]


def test_what_is_half_transparent_is_half_white() -> None:
    body = encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)))
    red, green, blue = np.array(pixels(body, image_spec()))
    assert set(red.flat) == {255}
    assert set(green.flat) == set(blue.flat) == {127}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_turns_an_image_upright(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = encoded(noise(), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(body)))
    assert upright.size == ((12, 8) if orientation < 5 else (8, 12))
    spec = image_spec(size=upright.size)
    expected = np.array(upright, dtype=np.float32).transpose(2, 0, 1) / 255
    assert np.array_equal(tensor_of(body, spec), expected)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage!",
        b"Exif\0\0MM\0*\0\0\0\x08\0\xff",
        # An orientation of 9, one of text, and one that points outside.
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\xff\xff\xff\x7f\0\0\0\0",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_is_no_reason_to_refuse(exif: bytes) -> None:
    body = encoded(noise(), "JPEG", exif=exif)
    assert exif in body
    plain = encoded(noise(), "JPEG")
    spec = image_spec(size=(12, 8))
    assert np.array_equal(tensor_of(body, spec), tensor_of(plain, spec))


def test_exif_that_pillow_cannot_rewrite_still_turns() -> None:
    # Tag 271, the maker, as a number; `ImageOps.exif_transpose` fails on writing it back.
    tags = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x010F, 5, 1, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + tags + b"\0\0\0\0"
    body = encoded(noise(), "JPEG", exif=exif)
    assert tensor_of(body, image_spec(size=(8, 12))).shape == (3, 12, 8)


def test_stretch_shows_all_and_crop_the_centre() -> None:
    # Black edges of one third each around a white middle.
    image = Image.new("L", (12, 4), 0)
    image.paste(255, (4, 0, 8, 4))
    stretched = pixels(encoded(image), image_spec(1, (6, 4)))
    assert stretched == [[[0, 0, 255, 255, 0, 0]] * 4]
    cropped = pixels(encoded(image), image_spec(1, (4, 4), fit="crop"))
    assert cropped == [[[255] * 4] * 4]


def test_the_declared_interpolation_is_used() -> None:
    image = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
    ways = {
        way: pixels(encoded(image), image_spec(1, (4, 1), interpolation=way))[0][0]
        for way in ("nearest", "bilinear", "bicubic")
    }
    assert ways["nearest"] == [0, 0, 255, 255]
    assert len({tuple(row) for row in ways.values()}) == 3


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 7)])
def test_any_size_is_met(size: tuple[int, int], fit: str) -> None:
    body = encoded(Image.new("RGB", size, (9, 9, 9)))
    assert pixels(body, image_spec(fit=fit, interpolation="bilinear")) == [[[9] * 4] * 4] * 3


# --- rows -----------------------------------------------------------------------------------

TABLE = numbers(
    ("a", "b"),
    center=(1.0, 0.0),
    scale=(2.0, 0.5),
    target="y",
    target_mean=0.0,
    target_std=1.0,
)


def test_rows_are_standardised_column_by_column() -> None:
    tensor = table_array(np.array([[3.0, 1.0], [1.0, -0.5]]), TABLE)
    assert tensor.dtype == np.float32
    assert tensor.tolist() == [[1.0, 2.0], [0.0, -1.0]]


def test_what_float32_cannot_hold_is_infinite_without_a_warning() -> None:
    assert table_array(np.array([[1e39, -1e308]]), TABLE).tolist() == [[np.inf, -np.inf]]


# --- images that Pillow has opened ----------------------------------------------------------


def test_an_image_that_is_not_yet_decoded_is_read_as_in_a_request() -> None:
    body = png_by_spec.written(
        [[(0x1234, 0, 0), (0x1235, 0, 0)]], depth=16, colour=2, transparent=b"\x12\x34\0\0\0\0"
    )
    lazy = Image.open(io.BytesIO(body))
    assert np.array_equal(image_array(lazy, image_spec(size=(2, 1))), tensor_of_request(body))
    frames = [Image.new("RGB", (2, 1), colour) for colour in ("red", "blue")]
    later = Image.open(
        io.BytesIO(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    )
    later.seek(1)
    assert image_array(later, image_spec(size=(2, 1)))[:, 0, 0].tolist() == [0.0, 0.0, 1.0]


def tensor_of_request(body: bytes) -> NDArray[np.float32]:
    return read_image(body, image_spec(size=(2, 1)))[0]


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("La", (0, 0), 255),
        ("RGBa", (0, 0, 0, 0), 255),
        ("PA", (0, 0), 255),
        ("I;16B", 0x8000, 128),
        ("I", 0x8000, 128),
        ("HSV", (0, 0, 255), 255),
        ("YCbCr", (255, 128, 128), 255),
    ],
)
def test_a_mode_that_no_file_has_goes_the_same_way(mode: str, colour: Any, seen: int) -> None:
    image = Image.new(mode, (4, 4), colour)
    for channels in (1, 3):
        found = image_array(image, image_spec(channels)) * 255
        assert np.unique(found.round()).tolist() == [seen]


def test_floats_are_refused() -> None:
    with pytest.raises(BadRequest, match="floats"):
        image_array(Image.new("F", (4, 4)), image_spec())
