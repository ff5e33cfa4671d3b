"""What the gate is given of a recipe: all from files, and samples as its handler has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from marwright.files import sha256_file
from marwright.parity.backends import Array
from marwright.parity.subject import candidate_of, subject_of
from marwright.recipe.errors import ParityError
from marwright.recipe.types import Recipe
from marwright.runtime.spec import MAX_ROWS
from marwright.training.checkpoint import META, WEIGHTS
from marwright.training.tensors import inputs_of
from marwright.training.types import Checkpoint
from tests.archive.proven import Proven
from tests.archive.tiny import image_recipe, table_recipe

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A step's files, as they lie beside a traced module."""

    made: Proven
    checkpoint: Checkpoint
    files: dict[str, Path]


def built(made: Proven) -> Built:
    folder = made.traced.parent
    files = {
        WEIGHTS: folder / WEIGHTS,
        META: folder / META,
        "model.pt": made.traced,
        "model.onnx": folder / "model.onnx",
    }
    return Built(
        made=made, checkpoint=Checkpoint(weights=files[WEIGHTS], meta=made.meta), files=files
    )


@pytest.fixture(scope="module")
def image(proven_image: Proven) -> Built:
    return built(proven_image)


@pytest.fixture(scope="module")
def table(proven_table: Proven) -> Built:
    return built(proven_table)


def with_export(recipe: Recipe, **values: object) -> Recipe:
    export = msgspec.structs.replace(recipe.export, **values)
    return msgspec.structs.replace(recipe, export=export)


# The candidate


def test_checkpoint_and_exports_come_from_their_files(image: Built) -> None:
    held = candidate_of(image.made.recipe, Path(), image.checkpoint, image.files)
    assert held.eager is not image.made.model
    assert not held.eager.training
    for name, value in image.made.model.state_dict().items():
        assert torch.equal(held.eager.state_dict()[name], value)
    assert (held.traced, held.onnx, held.int8) == (
        image.files["model.pt"], image.files["model.onnx"], None,
    )  # fmt: skip
    assert held.origin == sha256_file(image.files[WEIGHTS])
    assert (held.precision, held.opset, held.dynamic) == ("fp32", 20, {})
    assert held.yardstick is held.eager


def test_a_traced_module_of_bfloat16_has_a_yardstick_of_it(image: Built) -> None:
    recipe = with_export(image.made.recipe, precision="bf16")
    held = candidate_of(recipe, Path(), image.checkpoint, image.files)
    inputs = torch.from_numpy(image.made.test_inputs())
    with torch.inference_mode():
        reduced, exact = held.yardstick(inputs), held.eager(inputs)
    assert reduced.dtype == exact.dtype == torch.float32
    assert 1e-4 < float((reduced - exact).abs().max()) < 0.2


def test_int8_and_sizes_that_vary_are_handed_on(image: Built, tmp_path: Path) -> None:
    recipe = with_export(image.made.recipe, precision="int8", opset=21, dynamic={"height": (4, 8)})
    files = {**image.files, "model.int8.onnx": tmp_path / "model.int8.onnx"}
    held = candidate_of(recipe, Path(), image.checkpoint, files)
    assert held.int8 == tmp_path / "model.int8.onnx"
    assert held.yardstick is held.eager
    assert (held.opset, held.dynamic) == (21, {1: ("height", 4, 8)})


# The subject


def test_real_rows_are_the_test_split_as_the_handler_has_it(image: Built, table: Built) -> None:
    for one in (image, table):
        made = one.made
        subject = subject_of(made.recipe, one.checkpoint, made.splits)
        assert subject.task == made.recipe.task
        assert (subject.real.rows == made.test_inputs()).all()
        assert subject.real.kind == "held-out"
        assert subject.real.names[0] == f"sample {made.splits.test[0]} of the data set"
        assert len(subject.real.names) == len(subject.real.rows) == len(made.splits.test)
        assert subject.targets is not None
        assert len(subject.targets) == len(made.splits.test)
        assert subject.spec == made.meta.spec
        assert subject.labels == tuple(made.meta.labels)
        assert subject.kept == ()
    assert (
        subject_of(image.made.recipe, image.checkpoint, image.made.splits).recorded
        == (image.made.meta.metrics["accuracy"])
    )
    assert (
        subject_of(table.made.recipe, table.checkpoint, table.made.splits).recorded
        == (table.made.meta.metrics["r2"])
    )


def test_targets_are_in_the_units_of_the_outputs(table: Built) -> None:
    subject = subject_of(table.made.recipe, table.checkpoint, table.made.splits)
    assert subject.targets is not None
    # The target lies around 150, and is standardised for the network.
    assert np.abs(subject.targets).max() < 10
    with torch.inference_mode():
        outputs = table.made.model(torch.from_numpy(subject.real.rows)).numpy()
    assert subject.targets.shape == outputs.shape


def test_columns_go_as_far_as_training_and_test_rows(table: Built) -> None:
    made = table.made
    subject = subject_of(made.recipe, table.checkpoint, made.splits)
    splits = made.splits
    seen = inputs_of(splits.samples, np.concatenate([splits.train, splits.test]), made.meta.spec)
    assert (subject.domain.low == seen.numpy().min(axis=0)).all()
    assert (subject.domain.high == seen.numpy().max(axis=0)).all()
    test = subject.real.rows
    assert (subject.domain.high > test.max(axis=0)).any()


def test_pixels_go_from_black_to_white(image: Built) -> None:
    subject = subject_of(image.made.recipe, image.checkpoint, image.made.splits)
    assert subject.domain.shape == (1, 8, 8)
    assert (subject.real.rows >= subject.domain.low - 1e-6).all()
    assert (subject.real.rows <= subject.domain.high + 1e-6).all()
    recipe = with_export(image.made.recipe, dynamic={"width": (4, 16)})
    subject = subject_of(recipe, image.checkpoint, image.made.splits)
    assert subject.domain.dynamic == {2: (4, 16)}


def test_batches_are_those_that_a_server_can_make(image: Built, table: Built) -> None:
    serve = {"batch_size": 5}
    subject = subject_of(image_recipe(serve=serve), image.checkpoint, image.made.splits)
    assert (subject.serving, subject.largest) == (5, 5)
    # A request to a table's handler may hold many rows.
    subject = subject_of(table_recipe(serve=serve), table.checkpoint, table.made.splits)
    assert (subject.serving, subject.largest) == (5, 5 * MAX_ROWS)


# What is kept


def image_row(value: float, *size: int) -> Array:
    return np.full(size or (1, 8, 8), value, dtype=np.float32)


def test_kept_inputs_are_a_group_by_shape_in_their_order(image: Built) -> None:
    kept = [image_row(0), image_row(1, 1, 4, 8), image_row(2), image_row(3, 1, 4, 8)]
    recipe = with_export(image.made.recipe, dynamic={"height": (4, 8)})
    subject = subject_of(recipe, image.checkpoint, image.made.splits, kept)
    assert [group.kind for group in subject.kept] == ["regression", "regression"]
    assert [group.rows.shape for group in subject.kept] == [(2, 1, 8, 8), (2, 1, 4, 8)]
    assert [group.names for group in subject.kept] == [
        ("committed input 0", "committed input 2"), ("committed input 1", "committed input 3"),
    ]  # fmt: skip
    assert subject.kept[0].rows[:, 0, 0, 0].tolist() == [0, 2]


@pytest.mark.parametrize(
    "row",
    [
        image_row(0, 8, 8),
        image_row(0, 3, 8, 8),
        image_row(0, 1, 8, 8, 1),
        image_row(0).astype(np.float64),
        image_row(0).astype(np.uint8),
    ],
    ids=["axis lost", "channels", "axis more", "float64", "bytes"],
)
def test_kept_inputs_of_another_model_are_refused(image: Built, row: Array) -> None:
    said = (
        rf"^archive/tiny_image/worst\.safetensors: input 1 is {row.dtype} "
        rf"\({', '.join(map(str, row.shape))}\), and the model takes float32 \(1, 8, 8\): remove"
    )
    with pytest.raises(ParityError, match=said):
        subject_of(image.made.recipe, image.checkpoint, image.made.splits, [image_row(0), row])


@pytest.mark.parametrize("size", [(1, 9, 8), (1, 8, 4)])
def test_kept_inputs_of_a_size_that_does_not_vary_are_refused(
    image: Built, size: tuple[int, ...]
) -> None:
    with pytest.raises(ParityError, match="input 0 is float32"):
        subject_of(image.made.recipe, image.checkpoint, image.made.splits, [image_row(0, *size)])
