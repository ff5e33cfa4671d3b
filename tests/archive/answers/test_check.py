"""Healthy handlers pass, and each fault of one is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from marwright.archive.answers.check import MOST, served_exports
from marwright.archive.types import AnswersReport
from marwright.export.to_onnx import export_onnx
from marwright.recipe.errors import PackError
from marwright.training.precision import in_precision
from marwright.training.splits import split
from marwright.training.types import Splits
from tests.archive.answers.asked import checked, said
from tests.archive.proven import Proven, table_samples
from tests.archive.tiny import LABELS, image_recipe, table_recipe

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


# Healthy ones


def test_healthy_handlers_answer_as_the_data_set_says(
    proven_image: Proven, proven_table: Proven
) -> None:
    for made in (proven_image, proven_table):
        report = checked(made)
        assert (report.ok, report.problems, report.notes) == (True, [], [])
        assert report.requests == min(len(made.splits.test), MOST)
        assert report.exports == ["model.onnx"]


def test_requests_are_spread_over_the_test_split_and_not_too_many(proven_table: Proven) -> None:
    samples = table_samples(600)
    splits = split(samples, validation=0.2, test=0.2, salt="")
    assert len(splits.test) > MOST
    assert checked(proven_table, splits=splits).requests == MOST
    few = Splits(
        samples=samples,
        contents=splits.contents,
        train=splits.train,
        validation=splits.validation,
        test=splits.test[:1],
    )
    assert checked(proven_table, splits=few).requests == 1


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_any_batch_size_that_is_served_is_right(proven_image: Proven, batch: int) -> None:
    assert checked(proven_image, recipe=image_recipe(serve={"batch_size": batch})).ok


@pytest.mark.parametrize("top_k", [1, 2, 3, 9])
def test_as_many_labels_as_were_asked_for_are_right(proven_image: Proven, top_k: int) -> None:
    assert checked(proven_image, recipe=image_recipe(postprocess={"top_k": top_k})).ok


@pytest.mark.parametrize("decimals", [0, 3, 12])
def test_values_may_be_rounded_as_was_asked_for(proven_table: Proven, decimals: int) -> None:
    assert checked(proven_table, recipe=table_recipe(postprocess={"decimals": decimals})).ok


def test_close_calls_are_no_alarm(proven_image: Proven) -> None:
    """Two labels that are as likely as each other may stand in either order."""

    def undecided(inputs: torch.Tensor) -> torch.Tensor:
        outputs = proven_image.model(inputs)
        return torch.stack([outputs[:, 0], outputs[:, 0] + 1e-9, outputs[:, 2]], dim=1)

    def otherwise(inputs: torch.Tensor) -> torch.Tensor:
        return undecided(inputs)[:, [1, 0, 2]]

    assert checked(proven_image, exports={"one": undecided, "other": otherwise}).ok


def test_a_handler_may_compute_its_softmax_in_float32(
    proven_image: Proven, handler: Callable[..., str]
) -> None:
    code = (
        "def single(logits, loaded):\n    return ranked_labels(logits.astype(np.float32), loaded)\n"
    )
    assert checked(proven_image, handler(code, answer="single")).ok


# Exports


def test_what_may_be_served_is_loaded_and_is_right(
    proven_image: Proven, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("exports")
    spec = proven_image.meta.spec
    files = {
        "model.pt": proven_image.traced,
        "model.onnx": export_onnx(proven_image.model, spec.shape, 20, folder),
    }
    exports = served_exports(files, 1)
    assert list(exports) == ["torchscript", "model.onnx"]
    inputs = torch.from_numpy(proven_image.test_inputs())
    for model in exports.values():
        outputs = model(inputs)
        assert outputs.dtype == torch.float32
        assert torch.allclose(outputs, proven_image.model(inputs), atol=1e-5)
    report = checked(proven_image, exports=exports)
    assert (report.ok, report.exports) == (True, ["model.onnx", "torchscript"])
    # What was quantised is what will be served.
    files["model.int8.onnx"] = files["model.onnx"].rename(folder / "model.int8.onnx")
    assert list(served_exports(files, 1)) == ["torchscript", "model.int8.onnx"]


def test_an_export_of_less_precision_is_judged_by_its_own_outputs(proven_image: Proven) -> None:
    reduced = in_precision(proven_image.model, "bf16")
    inputs = torch.from_numpy(proven_image.test_inputs())
    with torch.inference_mode():
        off = (reduced(inputs).softmax(1) - proven_image.model(inputs).softmax(1)).abs().max()
    assert off > 1e-3
    report = checked(
        proven_image, exports={"torchscript": reduced, "model.onnx": proven_image.model}
    )
    assert report.problems == []


def test_the_export_whose_answers_are_wrong_is_named(
    proven_image: Proven, handler: Callable[..., str]
) -> None:
    code = (
        "def shy(logits, loaded):\n"
        "    return ranked_labels(logits if float(logits.sum()) < 1e6 else -logits, loaded)\n"
    )
    exports = {
        "model.onnx": proven_image.model,
        "torchscript": lambda inputs: proven_image.model(inputs) + 1e7,
    }
    report = checked(proven_image, handler(code, answer="shy"), exports=exports)
    assert all(text.startswith("handlers/strange.py: torchscript: ") for text in report.problems)
    assert not report.ok


# Reading


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        ("read_image(body, spec) * (255 / 256)", "read as another array than training's, off by"),
        ("read_image(body, spec)[..., ::-1]", "read as another array than training's, off by"),
        ("read_image(body, spec) + 1e-6", "read as another array than training's, off by"),
        ("read_image(body, spec).astype(float)", "read as float64 (1, 1, 8, 8), not float32"),
        ("read_image(body, spec)[0]", "read as float32 (1, 8, 8), not float32 (1, 1,"),
        ("read_image(body, spec)[:, :, 1:]", "read as float32 (1, 1, 7, 8), not float"),
        ("int('pixels')", "cannot be read: ValueError: invalid literal for int()"),
        ("read_image(body, spec).tolist()", "read as a list, not a numpy array"),
        ("torch.from_numpy(read_image(body, spec))",
         "read as a Tensor, not a numpy array: return `tensor.numpy()`"),
        ("read_image(body, spec).T.copy().T",
         "read as an array with gaps: return `np.ascontiguousarray(array)`"),
    ],
)  # fmt: skip
def test_a_request_that_is_read_otherwise_than_in_training_is_named(
    proven_image: Proven, handler: Callable[..., str], read: str, problem: str
) -> None:
    code = f"def read(body, spec):\n    return {read}\n"
    first = int(proven_image.splits.test[0])
    text = said(checked_reading(proven_image, handler(code, read="read")))
    assert text.startswith(f"sample {first} of the test split: {problem}")


def checked_reading(made: Proven, name: str) -> AnswersReport:
    """Check with a model that takes whatever is read."""
    count = len(LABELS)
    return checked(
        made, name, exports={"model.onnx": lambda inputs: torch.zeros(len(inputs), count)}
    )


def test_a_sample_that_is_refused_is_named(
    proven_image: Proven, handler: Callable[..., str]
) -> None:
    code = "def read(body, spec):\n    raise BadRequest('too small for me', 413)\n"
    report = checked(proven_image, handler(code, read="read"))
    first = int(proven_image.splits.test[0])
    assert said(report) == f"sample {first} of the test split: refused: too small for me"
    assert (
        f"handlers/strange.py: model.onnx: sample {first} of the test split is answered with 413: "
        '{"error":"too small for me","status":413}'
    ) in report.problems


# Requests that are none, and neighbours


def test_a_handler_that_answers_what_is_no_request_is_named(
    proven_image: Proven, handler: Callable[..., str]
) -> None:
    code = (
        "def read(body, spec):\n"
        "    try:\n"
        "        return read_image(body, spec)\n"
        "    except BadRequest:\n"
        "        return np.zeros((1, 1, 8, 8), np.float32)\n"
    )
    assert said(checked(proven_image, handler(code, read="read"))) == (
        "model.onnx: a request that is none is answered with 200, not with a 4xx"
    )


@pytest.mark.parametrize("status", [500, 399])
def test_a_bad_request_is_the_client_s_fault(
    proven_image: Proven, handler: Callable[..., str], status: int
) -> None:
    code = (
        "def read(body, spec):\n"
        "    try:\n"
        "        return read_image(body, spec)\n"
        "    except BadRequest as bad:\n"
        f"        raise BadRequest('what', {status}) from bad\n"
    )
    assert said(checked(proven_image, handler(code, read="read"))) == (
        f"model.onnx: a request that is none is answered with {status}, not with a 4xx"
    )


def test_a_bad_request_that_spoils_its_batch_is_named(
    proven_image: Proven, handler: Callable[..., str]
) -> None:
    code = (
        "class Service(Service):\n"
        "    def answers(self, data):\n"
        "        for each in data:\n"
        "            assert bytes(each['body'])[:4] == bytes([137]) + b'PNG', 'no image'\n"
        "        return super().answers(data)\n"
    )
    assert said(checked(proven_image, handler(code))) == (
        "model.onnx: fails over a whole batch: AssertionError: no image"
    )


def test_a_fault_of_the_handler_is_its_own_requests_alone(
    proven_image: Proven, handler: Callable[..., str]
) -> None:
    code = (
        "def read(body, spec):\n"
        "    assert bytes(body)[:4] == bytes([137]) + b'PNG', 'no image'\n"
        "    return read_image(body, spec)\n"
    )
    assert said(checked(proven_image, handler(code, read="read"))) == (
        "model.onnx: a request that is none is answered with 500, not with a 4xx"
    )


def test_an_answer_that_is_an_error_is_told_with_its_sample(
    proven_image: Proven, handler: Callable[..., str]
) -> None:
    code = "def answer(logits, loaded):\n    return {'predictions': [float('nan')]}\n"
    report = checked(proven_image, handler(code, answer="answer"))
    first = int(proven_image.splits.test[0])
    assert said(report).startswith(
        f"model.onnx: sample {first} of the test split is answered with 500: "
    )
    # Three of them are enough to know.
    assert len(report.problems) == 3


# Handlers


def test_a_handler_that_cannot_be_loaded_is_refused(
    proven_image: Proven, handler: Callable[..., Any]
) -> None:
    with pytest.raises(PackError, match=r"^handlers/strange\.py: cannot be imported: No module"):
        checked(proven_image, handler("import no_such_module"))
