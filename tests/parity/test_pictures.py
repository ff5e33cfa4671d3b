"""Inputs as people see them: pixels and columns in the units that they came in."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from marwright.parity.pictures import columns, picture
from marwright.runtime.preprocess import image_array, table_array
from marwright.runtime.spec import ImageSpec
from tests.specs import numbers

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def spec(channels: int, height: int = 5, width: int = 7) -> ImageSpec:
    return ImageSpec(
        channels=channels, height=height, width=width, fit="stretch", interpolation="bilinear",
        mean=(0.485, 0.456, 0.406)[:channels], std=(0.229, 0.224, 0.225)[:channels],
    )  # fmt: skip


TABLE = numbers(
    ("age", "mass", "share"), center=(48.5, 1e6, 0.0), scale=(13.1, 2e5, 1e-6),
    target="y", target_mean=0.0, target_std=1.0,
)  # fmt: skip


def seen(png: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(png, validate=True)))
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize("channels", [1, 3])
def test_preprocessing_is_undone_to_the_pixel(channels: int) -> None:
    shape = (5, 7) if channels == 1 else (5, 7, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    row = image_array(Image.fromarray(pixels), spec(channels))
    assert np.array_equal(np.asarray(seen(picture(row, spec(channels)))), pixels)


def test_what_no_pixel_can_be_is_cut() -> None:
    row = np.zeros((1, 5, 7), dtype=np.float32)
    row[0, 0, :4] = [1e30, -1e30, np.inf, -np.inf]
    row[0, 1, 0] = np.nan
    image = np.asarray(seen(picture(row, spec(1))))
    assert image[0, :4].tolist() == [255, 0, 255, 0]
    assert (image[2:] == round(0.485 * 255)).all()


@pytest.mark.parametrize("size", [(300, 600), (600, 300)])
def test_a_large_image_is_made_smaller_in_its_proportions(size: tuple[int, int]) -> None:
    height, width = size
    row = np.zeros((3, height, width), dtype=np.float32)
    image = seen(picture(row, spec(3, height, width)))
    assert max(image.size) == 128
    assert image.width / image.height == width / height


def test_a_row_is_in_its_own_units_by_column() -> None:
    original = np.array([[61.25, 1234567.0, 3e-6]])
    row = table_array(original, TABLE)[0]
    shown = columns(row, TABLE)
    assert list(shown) == ["age", "mass", "share"]
    assert list(shown.values()) == pytest.approx(original[0].tolist(), rel=1e-5)


def test_each_kind_is_shown_in_one_way() -> None:
    assert picture(np.zeros(3, dtype=np.float32), TABLE) == ""
    assert columns(np.zeros((1, 5, 7), dtype=np.float32), spec(1)) == {}
