"""The types of a recipe by themselves: what they default to, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, get_args

import msgspec
import pytest

from recipes.types import DEFAULT_K, MAIN_METRIC, Recipe, Task, canonical
from tests.projects import ROOT

IMAGE: dict[str, Any] = {
    "name": "tiny",
    "version": "1.0",
    "task": "classification",
    "data": {"dataset": "digits"},
    "preprocess": {"kind": "image", "channels": 3, "height": 8, "width": 8},
    "model": {"factory": "small_cnn"},
    "serve": {"handler": "classify_image"},
}
TABLE = IMAGE | {"task": "regression", "preprocess": {"kind": "table"}}


def recipe(**sections: Any) -> Recipe:
    return msgspec.convert(IMAGE | sections, Recipe)


def preprocess(**values: Any) -> dict[str, Any]:
    return {"preprocess": IMAGE["preprocess"] | values}


def test_a_recipe_is_complete_with_its_defaults() -> None:
    whole = canonical(recipe())
    assert whole["fit"]["seed"] == 0
    assert whole["preprocess"]["mean"] == "training"
    assert whole["serve"]["max_batch_delay_ms"] == 10
    assert (whole["parity"]["k"], whole["export"]["precision"]) == (DEFAULT_K, "fp32")
    assert msgspec.convert(json.loads(json.dumps(whole)), Recipe) == recipe()


def test_what_is_canonical_does_not_depend_on_what_was_left_out() -> None:
    assert canonical(recipe(fit={"epochs": 50})) == canonical(recipe())
    assert canonical(recipe(fit={"epochs": 51})) != canonical(recipe())


@pytest.mark.parametrize(
    "section", ["data", "preprocess", "model", "fit", "export", "parity", "serve"]
)
def test_a_recipe_cannot_be_changed(section: str) -> None:
    part = getattr(recipe(), section)
    name = part.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(part, name, getattr(part, name))


def test_a_default_is_shared_by_no_two_recipes() -> None:
    recipe().model.params["width"] = 1
    assert recipe().model.params == {}


@pytest.mark.parametrize(
    "sections",
    [
        {"name": "Tiny"},
        {"name": "1tiny"},
        {"version": "1.0-rc1"},
        {"version": ""},
        {"version": "1."},
        {"task": "ranking"},
        {"data": {"dataset": "../digits"}},
        {"data": {"dataset": "__init__"}},
        {"data": {"dataset": "digits", "test": 0.5}},
        {"data": {"dataset": "digits", "validation": 0}},
        {"data": {"dataset": "digits", "salt": "a"}},
        preprocess(channels=2),
        preprocess(channels=True),
        preprocess(height=0),
        preprocess(fit="pad"),
        preprocess(interpolation="lanczos"),
        preprocess(std=[0.1, 0.0, 0.1]),
        preprocess(mean="imagenet"),
        preprocess(kind="table"),
        preprocess(kind="audio"),
        {"model": {"factory": "small_cnn", "params": {"widths": [1, 2]}}},
        {"fit": {"seed": -1}},
        {"fit": {"seed": 2**32}},
        {"fit": {"threads": 0}},
        {"fit": {"device": "mps"}},
        {"fit": {"epochs": 0}},
        {"fit": {"epochs": 1.5}},
        {"fit": {"epochs": "1"}},
        {"fit": {"batch_size": 1}},
        {"fit": {"optimizer": "adam"}},
        {"fit": {"learning_rate": 0}},
        {"fit": {"weight_decay": -0.1}},
        {"fit": {"schedule": "step"}},
        {"fit": {"patience": 0}},
        {"fit": {"shift": -1}},
        {"export": {"opset": 17}},
        {"export": {"opset": 24}},
        {"export": {"precision": "fp16"}},
        {"export": {"dynamic": {"depth": [4, 16]}}},
        {"export": {"dynamic": {"height": [8]}}},
        {"export": {"dynamic": {"height": [0, 8]}}},
        {"export": {"dynamic": {"height": [8, 8]}}},
        {"export": {"dynamic": {"height": [9, 16]}}},
        {"parity": {"k": 0}},
        {"parity": {"floor": -1e-7}},
        {"parity": {"k": 9}},
        {"parity": {"samples": 1}},
        {"parity": {"search": -1}},
        {"parity": {"seed": 2**32}},
        {"parity": {"max_metric_drop": -0.5}},
        {"postprocess": {"top_k": 0}},
        {"postprocess": {"decimals": 13}},
        {"serve": {"handler": "Classify"}},
        {"serve": {"handler": "classify_image", "min_workers": 0}},
        {"serve": {"handler": "classify_image", "max_batch_delay_ms": 0}},
    ],
    ids=str,
)
def test_impossible_values_are_refused(sections: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        recipe(**sections)


@pytest.mark.parametrize("missing", ["version", "task", "data", "preprocess", "model", "serve"])
def test_what_has_no_default_is_required(missing: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=missing):
        msgspec.convert({k: v for k, v in IMAGE.items() if k != missing}, Recipe)


@pytest.mark.parametrize(("key", "values"), [("mean", [0.5]), ("std", [0.5] * 4), ("mean", [])])
def test_means_and_deviations_are_one_a_channel(key: str, values: list[float]) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"{key} needs one value a channel: 3"):
        recipe(**preprocess(**{key: values}))
    assert recipe(**preprocess(**{key: [0.5] * 3}))


def test_fewer_workers_at_most_than_at_least_are_refused() -> None:
    serve = {"handler": "classify_image", "min_workers": 3, "max_workers": 2}
    with pytest.raises(msgspec.ValidationError, match="max_workers = 2 is less than min_workers"):
        recipe(serve=serve)


@pytest.mark.parametrize(("good", "task"), [(IMAGE, "regression"), (TABLE, "classification")])
def test_a_task_goes_with_one_kind_of_sample(good: dict[str, Any], task: str) -> None:
    assert msgspec.convert(good, Recipe)
    with pytest.raises(msgspec.ValidationError, match=f'task = "{task}" goes with'):
        msgspec.convert(good | {"task": task}, Recipe)


def test_a_table_cannot_be_shifted() -> None:
    assert recipe(fit={"shift": 1})
    with pytest.raises(msgspec.ValidationError, match="shift moves images"):
        msgspec.convert(TABLE | {"fit": {"shift": 1}}, Recipe)


@pytest.mark.parametrize(
    "looser", [{"k": 9.0}, {"k_bf16": 3.0}, {"floor": 2e-6}, {"k": 1.0, "floor": 2e-6}]
)
def test_a_looser_tolerance_needs_a_reason(looser: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="say why in reason"):
        recipe(parity=looser)
    assert recipe(parity=looser | {"reason": "sums over 1e5 elements"})


def test_every_task_has_a_metric() -> None:
    assert set(MAIN_METRIC) == set(get_args(Task))


def test_reading_recipes_needs_no_torch() -> None:
    code = (
        "import sys, recipes.load, recipes.schema;"
        "heavy = {'torch', 'numpy', 'PIL'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
