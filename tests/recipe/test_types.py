"""The types of a recipe by themselves: what they default to, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, get_args

import msgspec
import pytest

from marwright.recipe.types import DEFAULT_K, MAIN_METRIC, Recipe, Task, canonical
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
TEXT: dict[str, Any] = {"preprocess": {"kind": "text", "max_bytes": 40}}


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
        {"fit": {"optimizer": "lamb"}},
        {"fit": {"momentum": 1.0}},
        {"fit": {"accumulate": 0}},
        {"fit": {"accumulate": 33}},
        {"fit": {"warmup": 50}},
        {"fit": {"warmup": 1, "schedule": "one_cycle"}},
        {"fit": {"label_smoothing": 1.0}},
        {"fit": {"ema": 1.0}},
        {"fit": {"step_factor": 1.0}},
        {"fit": {"precision": "int8"}},
        {"fit": {"imbalance": "smote"}},
        {"augment": {"crop": 0}},
        {"augment": {"mixup": -1}},
        {"transfer": {"freeze": "head"}},
        {"transfer": {"unfreeze_every": 2}},
        {"transfer": {"layer_decay": 0}},
        {"model": {"factory": "torchvision/"}},
        {"model": {"factory": "../net.py"}},
        {"model": {"factory": "a/b-c.py"}},
        {"model": {"factory": "small_cnn", "weights": "IMAGENET1K_V1"}},
        {"model": {"factory": "torchvision/resnet18", "weights": "V1", "init_from": "recipe:a"}},
        {"fit": {"learning_rate": 0}},
        {"fit": {"weight_decay": -0.1}},
        {"fit": {"schedule": "exponential"}},
        {"fit": {"patience": 0}},
        {"augment": {"shift": -1}},
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


def test_a_task_goes_with_its_kinds_of_sample() -> None:
    for task in get_args(Task):
        assert msgspec.convert(TABLE | {"task": task}, Recipe)
    with pytest.raises(msgspec.ValidationError, match=r'task = "regression" goes with .* "table"'):
        msgspec.convert(IMAGE | {"task": "regression"}, Recipe)


def test_a_text_is_classified_and_varies_in_length() -> None:
    assert recipe(**TEXT).dynamic_axes == {0: ("length", 1, 40)}
    assert recipe(preprocess={"kind": "text"}).dynamic_axes == {0: ("length", 1, 256)}
    sizes = {"width": [4, 8], "height": [8, 16]}
    declared = recipe(export={"dynamic": sizes}).dynamic_axes
    assert declared == {1: ("height", 8, 16), 2: ("width", 4, 8)}
    assert msgspec.convert(TABLE, Recipe).dynamic_axes == recipe().dynamic_axes == {}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"task": "regression"}, 'kind = "table", not with "text"'),
        ({"augment": {"shift": 1}}, "changes images, and this is a text"),
        ({"export": {"dynamic": {"width": [4, 8]}}}, "is of images, and a text has no such sizes"),
        ({"preprocess": {"kind": "text", "max_bytes": 3}}, "`int` >= 4"),
        ({"preprocess": {"kind": "text", "height": 3}}, "unknown field `height`"),
    ],
)
def test_what_no_text_can_be_is_refused(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        recipe(**(TEXT | sections))


def test_classes_are_weighed_where_there_are_some() -> None:
    assert recipe(fit={"imbalance": "loss"})
    with pytest.raises(msgspec.ValidationError, match="imbalance is of classes"):
        msgspec.convert(TABLE | {"fit": {"imbalance": "loss"}}, Recipe)


@pytest.mark.parametrize(
    ("factory", "file"),
    [
        ("small_cnn", "marwright/training/models/small_cnn.py"),
        ("torchvision/resnet18", "marwright/training/models/torchvision.py"),
        ("user/net.py", "user/net.py"),
        ("net.py:small", "net.py"),
        ("user.net:small", "user/net.py"),
    ],
)
def test_a_factory_is_a_file(factory: str, file: str) -> None:
    assert recipe(model={"factory": factory}).model.file == file


def test_a_parent_is_a_recipe() -> None:
    for init, parent in (("", None), ("recipe:a_b", "a_b"), ("weights/a.pt", None)):
        model = {"factory": "small_cnn", "init_from": init}
        assert recipe(model=model).model.parent == parent


def test_a_table_cannot_be_shifted() -> None:
    assert recipe(augment={"shift": 1})
    with pytest.raises(msgspec.ValidationError, match="changes images"):
        msgspec.convert(TABLE | {"augment": {"shift": 1}}, Recipe)


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
        "import sys, marwright.recipe.load, marwright.recipe.schema;"
        "heavy = {'torch', 'numpy', 'PIL'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
