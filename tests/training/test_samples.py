"""Samples: what makes one the same as another, what a client would send, and their names."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from marwright.runtime.images.formats import IMAGE_FORMATS, MEDIA_TYPES
from marwright.runtime.request import BadRequest
from marwright.training.samples import ImageSamples, TableSamples, TextSamples
from tests.training.conftest import image_samples, table_samples

COLOURS = ("red", "green")


def images_of(*images: object) -> ImageSamples:
    targets = np.zeros(len(images), dtype=np.int64)
    return ImageSamples(images=images, targets=targets, labels=("a", "b"))  # type: ignore[arg-type]


def coloured(rows: list[list[float]], colours: tuple[str, ...] = COLOURS) -> TableSamples:
    """A number and a category; both may be missing."""
    return TableSamples(
        rows=np.array(rows),
        targets=np.zeros(len(rows)),
        columns=("size", "colour"),
        target="y",
        categories=((), colours),
        optional=(True, True),
    )


# --- content --------------------------------------------------------------------------------


def test_the_content_of_an_image_is_its_pixels_and_its_shape() -> None:
    flat = np.zeros((2, 8), dtype=np.uint8)
    samples = images_of(flat, flat.copy(), flat.reshape(4, 4), flat + 1)
    contents = [samples.content(index) for index in range(4)]
    assert contents[0] == contents[1]
    assert len(set(contents)) == 3


def test_the_content_of_an_image_does_not_depend_on_how_it_lies_in_memory() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    samples = images_of(image, np.asfortranarray(image), np.repeat(image, 2, axis=1)[:, ::2])
    assert samples.content(0) == samples.content(1) == samples.content(2)


def test_the_content_of_a_file_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "b.png").write_bytes(b"1")
    samples = images_of(tmp_path / "a.png", tmp_path / "b.png")
    assert samples.content(0) == samples.content(1) == b"1"


def test_blanks_around_a_text_are_no_content() -> None:
    texts = ["a b", " a b\n", "\ufeffa b", "a  b"]
    samples = TextSamples(texts=texts, targets=np.zeros(4, dtype=np.int64), labels=("x", "y"))
    contents = [samples.content(index) for index in range(4)]
    assert contents == [b"a b", b"a b", b"a b", b"a  b"]


def test_the_two_zeros_are_one_content() -> None:
    samples = table_samples(2)
    samples.rows[:] = [[0.0, 1.0, 2.0], [-0.0, 1.0, 2.0]]
    assert samples.content(0) == samples.content(1)
    mixed = coloured([[0.0, 0.0], [-0.0, 0.0]])
    assert mixed.content(0) == mixed.content(1)


def test_all_that_is_missing_is_one_content() -> None:
    # Of NaN there are many, as of zeros two.
    other = np.frombuffer(b"\1\0\0\0\0\0\xf8\xff", dtype="<f8")[0]
    assert np.isnan(other)
    samples = coloured([[np.nan, np.nan], [other, other]])
    assert samples.content(0) == samples.content(1)


def test_the_target_is_no_part_of_the_content() -> None:
    samples = table_samples()
    other = dataclasses.replace(samples, targets=samples.targets + 1)
    assert samples.content(3) == other.content(3)


def test_a_new_category_changes_no_content() -> None:
    before = coloured([[1.0, 0.0], [1.0, 1.0], [1.0, np.nan]])
    after = coloured([[1.0, 1.0], [1.0, 2.0], [1.0, np.nan]], ("blue", *COLOURS))
    assert [before.content(i) for i in range(3)] == [after.content(i) for i in range(3)]
    assert len({before.content(i) for i in range(3)}) == 3


def test_a_column_that_is_missing_elsewhere_changes_no_content() -> None:
    samples = table_samples()
    optional = dataclasses.replace(samples, optional=(True, False, False))
    assert samples.content(5) == optional.content(5)


@pytest.mark.parametrize("between", ["", "\0", "\1"])
def test_no_end_of_a_category_is_the_beginning_of_the_next(between: str) -> None:
    whole, first, last = f"x{between}y", "x", f"y{between}z"
    samples = TableSamples(
        rows=np.array([[0.0, 0.0], [1.0, 1.0]]),
        targets=np.zeros(2),
        columns=("a", "b"),
        target="y",
        categories=((whole, first), ("z", last)),
    )
    assert samples.content(0) != samples.content(1)


@settings(derandomize=True, database=None, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.text(max_size=3), st.text(max_size=3), st.booleans(), st.booleans()),
        min_size=2,
        max_size=6,
        unique=True,
    )
)
def test_rows_of_other_categories_have_other_contents(
    rows: list[tuple[str, str, bool, bool]],
) -> None:
    first, second = (tuple(sorted({row[place] for row in rows})) for place in (0, 1))
    cells = [
        (np.nan if no_a else first.index(a), np.nan if no_b else second.index(b))
        for a, b, no_a, no_b in rows
    ]
    samples = TableSamples(
        rows=np.array(cells, dtype=np.float64),
        targets=np.zeros(len(rows)),
        columns=("a", "b"),
        target="y",
        categories=(first, second),
        optional=(True, True),
    )
    wanted = {(None if no_a else a, None if no_b else b) for a, b, no_a, no_b in rows}
    assert len({samples.content(index) for index in range(len(rows))}) == len(wanted)


# --- requests -------------------------------------------------------------------------------


def test_a_request_is_the_sample_without_loss() -> None:
    images, rows = image_samples(), table_samples()
    body, content_type = images.request(4)
    assert content_type == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), images.images[4])
    body, content_type = rows.request(4)
    assert content_type == "application/json"
    assert json.loads(body) == dict(zip("abc", rows.rows[4].tolist(), strict=True))


def test_a_request_names_categories_and_says_null_for_what_is_missing() -> None:
    samples = coloured([[1.5, 1.0], [np.nan, np.nan]])
    assert json.loads(samples.request(0)[0]) == {"size": 1.5, "colour": "green"}
    assert json.loads(samples.request(1)[0]) == {"size": None, "colour": None}


@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_a_request_of_a_file_is_the_file(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "picture.any"
    Image.new("RGB", (5, 4), "red").save(file, format=kind)
    samples = images_of(file)
    assert samples.request(0) == (file.read_bytes(), MEDIA_TYPES[kind])
    assert samples.image(0).size == (5, 4)


def test_a_cameras_jpeg_with_a_preview_is_a_jpeg(tmp_path: Path) -> None:
    image = Image.new("RGB", (5, 4), "red")
    image.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[image])
    samples = images_of(tmp_path / "a.jpg")
    assert samples.image(0).size == (5, 4)
    assert samples.request(0)[1] == "image/jpeg"


def test_a_file_of_a_format_that_the_server_refuses_is_not_opened(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png", format="TIFF")
    with pytest.raises(BadRequest, match="not an image of a known format"):
        images_of(tmp_path / "a.png").image(0)


# --- names ----------------------------------------------------------------------------------


def test_a_sample_without_a_name_is_its_number() -> None:
    assert table_samples().name(3) == "sample 3"


@pytest.mark.parametrize("names", [["x", "y"], np.array(["x", "y"])])
def test_a_name_is_text(names: object) -> None:
    samples = dataclasses.replace(table_samples(2), names=names)
    assert (samples.name(1), type(samples.name(1))) == ("y", str)
