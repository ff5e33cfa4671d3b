"""Files of inputs: read as they were written, and a collection that only grows by what is new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marwright.parity.inputs_file import MOST_KEPT, keep, read_inputs, write_inputs
from marwright.recipe.errors import ParityError

IMAGES = [np.full((1, 2, 3), value, dtype=np.float32) for value in (1.5, -2.0)]
ROW = np.array([np.nan, np.inf, -0.0, 1e-45], dtype=np.float32)


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    """Whether both are the same, bit by bit: NaN and -0 are inputs too."""
    return [(a.shape, a.dtype, a.tobytes()) for a in one] == [
        (a.shape, a.dtype, a.tobytes()) for a in other
    ]


def test_inputs_come_back_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "worst.safetensors"
    inputs = [*IMAGES, ROW, *(np.float32([n]) for n in range(12))]
    write_inputs(inputs, file)
    assert same(read_inputs(file), inputs)
    assert list(tmp_path.iterdir()) == [file]


def test_same_inputs_make_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_inputs([*IMAGES, ROW], tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_slices_are_written_as_they_look(tmp_path: Path) -> None:
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    write_inputs([whole[:, ::2], whole.T], tmp_path / "file")
    assert same(read_inputs(tmp_path / "file"), [whole[:, ::2].copy(), whole.T.copy()])


def test_no_file_and_no_inputs_are_none(tmp_path: Path) -> None:
    assert read_inputs(tmp_path / "no.safetensors") == []
    write_inputs([], tmp_path / "empty.safetensors")
    assert read_inputs(tmp_path / "empty.safetensors") == []


@pytest.mark.parametrize("content", [b"", b"not a file of tensors", b"\xff" * 64])
def test_file_that_is_none_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "digits.safetensors"
    file.write_bytes(content)
    with pytest.raises(ParityError, match=r"^digits\.safetensors: not a file of inputs: "):
        read_inputs(file)
    with pytest.raises(ParityError, match=r"^digits\.safetensors: not a file of inputs: "):
        keep(IMAGES, file)
    assert file.read_bytes() == content


def test_cut_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "digits.safetensors"
    write_inputs(IMAGES, file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ParityError, match="not a file of inputs"):
        read_inputs(file)


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "digits.safetensors").mkdir()
    with pytest.raises(ParityError, match="not a file of inputs"):
        read_inputs(tmp_path / "digits.safetensors")


def test_what_is_kept_stays_and_only_new_inputs_are_added(tmp_path: Path) -> None:
    file = tmp_path / "archive" / "digits" / "worst.safetensors"
    assert keep([IMAGES[0], ROW], file) == (2, 2)
    assert keep([ROW, IMAGES[1], IMAGES[0]], file) == (1, 3)
    assert same(read_inputs(file), [IMAGES[0], ROW, IMAGES[1]])
    before = file.read_bytes()
    assert keep([IMAGES[1], ROW], file) == (0, 3)
    assert file.read_bytes() == before


def test_an_input_is_kept_once_if_it_was_found_twice(tmp_path: Path) -> None:
    file = tmp_path / "digits.safetensors"
    assert keep([ROW, ROW.copy(), IMAGES[0]], file) == (2, 2)
    assert same(read_inputs(file), [ROW, IMAGES[0]])


def test_same_bytes_of_another_shape_are_another_input(tmp_path: Path) -> None:
    file = tmp_path / "digits.safetensors"
    assert keep([IMAGES[0], IMAGES[0].reshape(6)], file) == (2, 2)


def test_more_than_can_be_tried_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    file = tmp_path / "digits.safetensors"
    many = [np.float32([n]) for n in range(MOST_KEPT + 1)]
    assert keep(many[:-1], file) == (MOST_KEPT, MOST_KEPT)
    before = file.read_bytes()
    with pytest.raises(ParityError, match=rf"^digits\.safetensors: {MOST_KEPT} inputs and 1 new"):
        keep(many, file)
    assert file.read_bytes() == before
    assert keep(many[:3], file) == (0, MOST_KEPT)
