"""Faulty samples are found, counted and named, and either stop training or are left out."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from marwright.recipe.errors import DataError
from marwright.training.audit import SHOWN, audited, chosen, refusal, without
from marwright.training.samples import Fault, ImageSamples, Samples, TableSamples
from tests.training.conftest import image_samples, table_samples

pytestmark = pytest.mark.torch

WHERE = "marwright/training/datasets/tiny.py"


def skipped(samples: Samples) -> tuple[Samples, list[tuple[str, str]]]:
    """Return what is left, and the faults as pairs."""
    clean, faults = audited(samples, skip=True, where=WHERE)
    return clean, [(fault.where, fault.what) for fault in faults]


# --- images ---------------------------------------------------------------------------------


def jpeg() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def png(width: int, height: int) -> bytes:
    """Return a PNG that says how large it is, and holds a few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def tiff() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "TIFF")
    return buffer.getvalue()


def files_of(folder: Path, contents: dict[str, bytes]) -> ImageSamples:
    """Write files, six good ones among them, and return them all, of two labels in turn."""
    good = {f"good{number}.jpg": jpeg() for number in range(6)}
    for name, content in (good | contents).items():
        (folder / name).write_bytes(content)
    names = [*good, *contents]
    return ImageSamples(
        images=[folder / name for name in names],
        targets=np.arange(len(names)) % 2,
        labels=("cat", "dog"),
        names=names,
    )


CORRUPT: dict[str, tuple[bytes, str]] = {
    "truncated.jpg": (jpeg()[:-900], "the image cannot be decoded: image file is truncated"),
    "empty.png": (b"", "the file is empty"),
    "text.png": (b"these are words\n", "not an image of a known format"),
    "bomb.png": (png(60_000, 60_000), "pixels; at most 32000000 are accepted"),
    "huge.png": (png(8000, 8000), "the image has 8000×8000 pixels; at most 32000000"),
    "short.png": (png(100, 100), "the image cannot be decoded"),
    "tiff.jpg": (tiff(), "not an image of a known format"),
}


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_image_is_named_and_refused(tmp_path: Path, name: str) -> None:
    content, said = CORRUPT[name]
    samples = files_of(tmp_path, {name: content})
    with pytest.raises(DataError) as caught:
        audited(samples, skip=False, where=WHERE)
    assert str(caught.value).startswith(f"{WHERE}: 1 fault in the data:\n  {name}: ")
    assert said in str(caught.value)
    assert str(caught.value).endswith('or leave them out with [data] faulty = "skip"')
    # Where a person's machine keeps the data is nobody's business.
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_corrupt_images_are_left_out_and_counted(tmp_path: Path) -> None:
    samples = files_of(tmp_path, {name: content for name, (content, _) in CORRUPT.items()})
    clean, faults = skipped(samples)
    assert [where for where, _ in faults] == [*CORRUPT]
    assert isinstance(clean, ImageSamples)
    assert list(clean.names) == [f"good{number}.jpg" for number in range(6)]
    assert [path.name for path in clean.images] == list(clean.names)  # type: ignore[union-attr]
    assert clean.targets.tolist() == [0, 1, 0, 1, 0, 1]


def test_a_file_that_is_gone_or_a_folder_is_named(tmp_path: Path) -> None:
    samples = files_of(tmp_path, {"gone.jpg": b"", "folder.jpg": b""})
    for name in ("gone.jpg", "folder.jpg"):
        (tmp_path / name).unlink()
    (tmp_path / "folder.jpg").mkdir()
    _, faults = skipped(samples)
    assert faults == [
        ("gone.jpg", "cannot be read: No such file or directory"),
        ("folder.jpg", "cannot be read: is a folder, not a file: name a file"),
    ]


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(
    end=st.integers(0, 1500),
    changes=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=4),
)
@pytest.mark.filterwarnings("default::UserWarning")
def test_any_bytes_are_an_image_or_a_fault(
    tmp_path_factory: pytest.TempPathFactory, end: int, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(jpeg())
    for place, value in changes:
        content[place % len(content)] = value
    folder = tmp_path_factory.mktemp("any")
    samples = files_of(folder, {"any.jpg": bytes(content[: len(content) - end])})
    clean, faults = skipped(samples)
    assert len(clean) + len(faults) == 7


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (np.zeros((8, 8)), "is float64 (8, 8), not uint8 (H, W) or (H, W, 3)"),
        (np.zeros((8, 8, 4), np.uint8), "is uint8 (8, 8, 4), not uint8"),
        (np.zeros((8, 8, 1), np.uint8), "is uint8 (8, 8, 1), not uint8"),
        (np.zeros(8, np.uint8), "is uint8 (8,), not uint8"),
        (np.zeros((0, 8), np.uint8), "has no pixels"),
    ],
)
def test_an_array_that_is_no_image_is_a_fault(image: np.ndarray, what: str) -> None:
    samples = image_samples()
    samples.images[3] = image  # type: ignore[index]
    clean, [(where, said)] = skipped(samples)
    assert (len(clean), where) == (59, "sample 3")
    assert said.startswith(what)


# --- tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "what"), [(np.nan, "b is nan"), (np.inf, "b is inf"), (-np.inf, "b is -inf")]
)
def test_a_value_that_is_no_number_is_a_fault(value: float, what: str) -> None:
    samples = table_samples()
    samples.rows[7, 1] = value
    clean, faults = skipped(samples)
    assert (len(clean), faults) == (59, [("sample 7", what)])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_target_that_is_no_number_is_a_fault(value: float) -> None:
    samples = table_samples()
    samples.targets[7] = value
    clean, faults = skipped(samples)
    assert (len(clean), faults) == (59, [("sample 7", f"its target is {value}")])


def test_what_may_be_missing_is_no_fault_and_what_is_infinite_is() -> None:
    samples = dataclasses.replace(table_samples(), optional=(False, True, False))
    samples.rows[7, 1], samples.rows[8, 1], samples.rows[9, 2] = np.nan, np.inf, np.nan
    _, faults = skipped(samples)
    assert faults == [("sample 8", "b is inf"), ("sample 9", "c is nan")]


@pytest.mark.parametrize("value", [-1.0, 2.0, 0.5, 1e9])
def test_a_category_that_there_is_not_is_a_fault(value: float) -> None:
    samples = table_samples()
    samples.rows[:, 2] = 1.0
    samples.rows[7, 2] = value
    samples = dataclasses.replace(samples, categories=((), (), ("x", "y")))
    clean, faults = skipped(samples)
    assert (len(clean), faults) == (59, [("sample 7", f"c is {value:g}, no index of 2 categories")])


def test_a_category_may_be_missing_where_its_column_says_so() -> None:
    samples = table_samples()
    samples.rows[:, 2] = 1.0
    samples.rows[7, 2] = np.nan
    samples = dataclasses.replace(samples, categories=((), (), ("x", "y")))
    assert skipped(samples)[1] == [("sample 7", "c is nan")]
    assert skipped(dataclasses.replace(samples, optional=(False, False, True)))[1] == []


def test_a_sample_has_one_fault_and_faults_are_in_the_order_of_the_samples() -> None:
    samples = table_samples()
    samples.rows[9] = np.nan
    samples.rows[2, 0] = np.inf
    samples.targets[9] = np.nan
    samples.targets[4] = np.inf
    _, faults = skipped(samples)
    assert [where for where, _ in faults] == ["sample 2", "sample 4", "sample 9"]


# --- labels and classes ---------------------------------------------------------------------


@pytest.mark.parametrize("target", [-1, 2, 99])
def test_a_target_that_is_no_label_is_a_fault(target: int) -> None:
    samples = image_samples()
    samples.targets[5] = target
    clean, faults = skipped(samples)
    assert (len(clean), faults) == (
        59,
        [("sample 5", f"its target {target} is no index of 2 labels")],
    )


def test_a_class_without_samples_is_refused() -> None:
    samples = dataclasses.replace(image_samples(), labels=("dark", "bright", "grey"))
    with pytest.raises(DataError, match="class 'grey': no samples"):
        audited(samples, skip=False, where=WHERE)


def test_a_class_without_samples_is_left_out() -> None:
    targets = image_samples().targets
    samples = dataclasses.replace(
        image_samples(), labels=("none", "dark", "never", "bright"), targets=targets * 2 + 1
    )
    clean, faults = skipped(samples)
    assert faults == [("class 'none'", "no samples"), ("class 'never'", "no samples")]
    assert clean.labels == ("dark", "bright")
    assert clean.targets.tolist() == targets.tolist()


def test_a_class_of_faulty_samples_is_left_out() -> None:
    samples = dataclasses.replace(table_samples(), labels=("a", "b", "c"))
    samples = dataclasses.replace(samples, targets=np.arange(60) % 3)
    samples.rows[1::3, 0] = np.nan
    clean, faults = skipped(samples)
    assert len(faults) == 21
    assert faults[-1] == ("class 'b'", "no samples left")
    assert clean.labels == ("a", "c")
    assert clean.targets.tolist() == [0, 1] * 20


def test_one_class_that_is_left_is_not_enough() -> None:
    samples = dataclasses.replace(table_samples(), labels=("a", "b"), targets=np.arange(60) % 2)
    samples.rows[1::2, 0] = np.nan
    with pytest.raises(DataError, match="1 of its 2 classes are left; 31 faults in the data"):
        audited(samples, skip=True, where=WHERE)


def test_clean_samples_are_as_they_were() -> None:
    samples = table_samples()
    clean, faults = audited(samples, skip=False, where=WHERE)
    assert faults == ()
    assert isinstance(clean, TableSamples)
    assert np.array_equal(clean.rows, samples.rows)
    assert [clean.name(index) for index in (0, 59)] == ["sample 0", "sample 59"]


def test_no_sample_at_all_has_no_fault() -> None:
    clean, faults = skipped(chosen(table_samples(), np.array([], dtype=np.int64)))
    assert (len(clean), faults) == (0, [])


# --- what the data set itself could not read ------------------------------------------------


UNREAD = (Fault(where="a.csv row 7", what="has 3 cells, not 4"),)


def test_what_could_not_be_read_is_refused_or_counted() -> None:
    samples = dataclasses.replace(table_samples(), faults=UNREAD)
    with pytest.raises(DataError, match=r"a\.csv row 7: has 3 cells, not 4"):
        audited(samples, skip=False, where=WHERE)
    clean, faults = audited(samples, skip=True, where=WHERE)
    assert (len(clean), faults) == (60, UNREAD)


def test_a_refusal_names_some_of_many_faults() -> None:
    faults = [Fault(where=f"sample {number}", what="is bad") for number in range(25)]
    lines = refusal(faults).splitlines()
    assert lines[0] == "25 faults in the data:"
    assert lines[1] == "  sample 0: is bad"
    assert lines[SHOWN + 1] == "  and 15 more"
    assert len(lines) == SHOWN + 3
    assert "more" not in refusal(faults[:SHOWN])


# --- leaving out again what training left out ------------------------------------------------


def spoiled_rows() -> Samples:
    samples = dataclasses.replace(
        table_samples(), labels=("a", "b", "c", "d"), targets=np.arange(60) % 3, faults=UNREAD
    )
    samples.rows[[3, 8], 1] = np.inf
    samples.targets[5] = 17
    return samples


def spoiled_images() -> Samples:
    samples = dataclasses.replace(image_samples(), names=[f"{n}.png" for n in range(60)])
    samples.targets[5] = -1
    return dataclasses.replace(samples, fixed=["test", "", ""] * 20)


@pytest.mark.parametrize("spoiled", [spoiled_rows, spoiled_images, table_samples])
def test_the_same_samples_are_left_out_again(spoiled: Callable[[], Any]) -> None:
    clean, faults = audited(spoiled(), skip=True, where=WHERE)
    again = without(spoiled(), faults)
    assert again.labels == clean.labels
    assert again.targets.tolist() == clean.targets.tolist()
    assert (again.names, again.fixed) == (clean.names, clean.fixed)
    assert [again.content(i) for i in range(len(again))] == [
        clean.content(i) for i in range(len(clean))
    ]


def test_some_of_the_samples_keep_all_that_they_have() -> None:
    samples = dataclasses.replace(
        image_samples(4), names=["w", "x", "y", "z"], fixed=["test", "", "train", ""]
    )
    some = chosen(samples, np.array([2, 0]))
    assert (some.names, some.fixed) == (["y", "w"], ["train", "test"])
    assert some.content(0) == samples.content(2)
    assert some.targets.tolist() == samples.targets[[2, 0]].tolist()
