"""The handler's half of the gate: healthy handlers pass, and each fault of one is named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import torch

import handlers
from archive.answers.check import MOST, Model, check_answers, served_exports
from archive.model_config import handler_options
from archive.onnx_export import export_onnx
from archive.types import AnswersReport
from recipes.errors import PackError
from recipes.types import Recipe
from tests.archive.proven import Proven, one_thread, table_samples
from tests.archive.tiny import LABELS, image_recipe, table_recipe
from train.precision import in_precision
from train.splits import split
from train.types import Meta, Splits

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def checked(
    made: Proven,
    handler: str = "",
    *,
    recipe: Recipe | None = None,
    meta: Meta | None = None,
    splits: Splits | None = None,
    exports: dict[str, Model] | None = None,
) -> AnswersReport:
    """Check a handler over an export that gives what the checkpoint gives."""
    recipe = recipe or made.recipe
    if handler:
        recipe = msgspec.structs.replace(
            recipe, serve=msgspec.structs.replace(recipe.serve, handler=handler)
        )
    return check_answers(
        recipe,
        meta or made.meta,
        splits or made.splits,
        exports or {"model.onnx": made.model},
        handler_options(recipe),
    )


def said(report: AnswersReport) -> str:
    """Return the first problem, less the file's name before it."""
    assert not report.ok
    assert report.problems
    assert all(text.startswith("handlers/strange.py: ") for text in report.problems)
    return report.problems[0].removeprefix("handlers/strange.py: ")


@pytest.fixture
def handler(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Add a handler to the project's, for one test, with parts of it replaced."""
    folder = tmp_path_factory.mktemp("handlers")
    monkeypatch.setattr(handlers, "__path__", [*handlers.__path__, str(folder)])
    monkeypatch.setattr(handlers, "strange", None, raising=False)
    monkeypatch.delitem(sys.modules, "handlers.strange", raising=False)

    def add(code: str = "", *, read: str = "read_image", answer: str = "ranked_labels") -> str:
        (folder / "strange.py").write_text(
            "import torch\n"
            "from handlers.classify_image import ranked_labels\n"
            "from handlers.predict_table import row_values\n"
            "from handlers.read import read_image, read_table\n"
            "from handlers.request import BadRequest\n"
            "from handlers.service import Service\n"
            f"{code}\n"
            f"service = Service(read={read}, answer={answer})\n"
            "handle = service.handle\n"
        )
        return "strange"

    return add


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
        samples=samples, train=splits.train, validation=splits.validation, test=splits.test[:1]
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
    code = "def single(logits, loaded):\n    return ranked_labels(logits.float(), loaded)\n"
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
        ("read_image(body, spec) * (255 / 256)", "read as another tensor than training's, off by"),
        ("read_image(body, spec).flip(-1)", "read as another tensor than training's, off by"),
        ("read_image(body, spec) + 1e-6", "read as another tensor than training's, off by"),
        ("read_image(body, spec).double()", "read as torch.float64 (1, 1, 8, 8), not torch.float3"),
        ("read_image(body, spec)[0]", "read as torch.float32 (1, 8, 8), not torch.float32 (1, 1,"),
        ("read_image(body, spec)[:, :, 1:]", "read as torch.float32 (1, 1, 7, 8), not torch"),
        ("int('pixels')", "cannot be read: ValueError: invalid literal for int()"),
        ("read_image(body, spec).tolist()", "read as a list, not a tensor"),
    ],
)
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
        "        return torch.zeros(1, 1, 8, 8)\n"
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
        "def read(body, spec):\n"
        "    assert bytes(body)[:4] == bytes([137]) + b'PNG', 'no image'\n"
        "    return read_image(body, spec)\n"
    )
    assert said(checked(proven_image, handler(code, read="read"))) == (
        "model.onnx: fails over a whole batch: AssertionError: no image"
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


# Labels


def test_a_label_map_that_is_off_by_one_is_named(proven_image: Proven) -> None:
    rotated = msgspec.structs.replace(proven_image.meta, labels=[*LABELS[1:], LABELS[0]])
    report = checked(proven_image, meta=rotated)
    assert len(report.problems) == 1
    assert report.problems[0].endswith("is the label map that of training?")
    assert "handlers/classify_image.py: model.onnx: sample " in report.problems[0]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("ranked_labels(logits, loaded)['predictions'][::-1]", "labels are not the most probable"),
        ("ranked_labels(-logits, loaded)['predictions']", "is the label map that of training?"),
        ("ranked_labels(logits.softmax(1), loaded)['predictions']", "is the label map that of"),
        ("ranked_labels(logits, loaded)['predictions'][:1]", "1 labels, not the best 2"),
        ("ranked_labels(logits, loaded)['predictions'][:1] * 2", "1 labels, not the best 2"),
        ("[{**p, 'label': p['label'].upper()} for p in"
         " ranked_labels(logits, loaded)['predictions']]", "is no label of the data set"),
        ("[{**p, 'probability': 100 * p['probability']} for p in"
         " ranked_labels(logits, loaded)['predictions']]", "and the model's outputs say 0."),
        ("[{**p, 'probability': 'nan'} for p in ranked_labels(logits, loaded)['predictions']]",
         "has probability nan, and the model's outputs say"),
    ],
)  # fmt: skip
def test_a_wrong_ranking_is_named(
    proven_image: Proven, handler: Callable[..., str], code: str, problem: str
) -> None:
    name = handler(
        f"def answer(logits, loaded):\n    return {{'predictions': {code}}}\n", answer="answer"
    )
    report = checked(proven_image, name)
    assert len(report.problems) == 1
    text = said(report)
    assert text.startswith("model.onnx: sample ")
    assert " of the test split: " in text
    assert problem in text


def test_the_best_label_must_be_among_the_ones_that_are_shown(
    proven_image: Proven, handler: Callable[..., str]
) -> None:
    """Each with its own probability, and in falling order: only the best one is left out."""
    code = (
        "def answer(logits, loaded):\n"
        "    ranked = ranked_labels(logits, type(loaded)(model=None, spec=None, \n"
        "                           labels=loaded.labels, options={'top_k': 3}))\n"
        "    return {'predictions': ranked['predictions'][1:]}\n"
    )
    assert "are not the most probable ones" in said(
        checked(proven_image, handler(code, answer="answer"))
    )


@pytest.mark.parametrize(
    "answer", ["best", "[best]", "{'best': best}", "{'predictions': [best]}",
               "{'predictions': [{'label': best}]}", "{'predictions': [{'probability': best}]}",
               "{'predictions': [{'label': best, 'probability': 'high'}]}"],
)  # fmt: skip
def test_answers_of_one_s_own_making_are_no_fault_and_noted(
    proven_image: Proven, handler: Callable[..., str], answer: str
) -> None:
    code = f"def answer(logits, loaded):\n    best = int(logits.argmax())\n    return {answer}\n"
    exports: dict[str, Model] = {"one": proven_image.model, "other": proven_image.model}
    report = checked(proven_image, handler(code, answer="answer"), exports=exports)
    assert (report.ok, report.problems) == (True, [])
    [note] = report.notes
    assert note.startswith('the answers are not {"predictions": [{"label": …, "probability"')


@pytest.mark.parametrize("answer", ["{'error': 'internal'}", "{'predictions': []}", "'left'"])
def test_the_same_answer_to_everything_is_none(
    proven_image: Proven, handler: Callable[..., str], answer: str
) -> None:
    code = f"def answer(logits, loaded):\n    return {answer}\n"
    text = said(checked(proven_image, handler(code, answer="answer")))
    assert "samples get the same answer, and their outputs differ: " in text
    # Where all outputs say the same, so may all answers.
    one: dict[str, Model] = {"model.onnx": lambda inputs: torch.zeros(len(inputs), len(LABELS))}
    assert checked(proven_image, handler(code, answer="answer"), exports=one).ok


def test_one_answer_in_another_form_hides_no_other(
    proven_image: Proven, handler: Callable[..., str]
) -> None:
    code = (
        "calls = 0\n"
        "def answer(logits, loaded):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    return {'predictions': []} if calls == 2 else ranked_labels(-logits, loaded)\n"
    )
    text = said(checked(proven_image, handler(code, answer="answer")))
    first, second = proven_image.splits.test[:2]
    assert text == (
        f"model.onnx: sample {second} of the test split: answered in another form than sample "
        f'{first}: {{"predictions": []}}'
    )


# Values


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        # The target's units: forgotten, and applied twice.
        ("outputs[:, 0].tolist()", "and the model's output says"),
        ("[v * loaded.spec.target_std + loaded.spec.target_mean for v in VALUES]", "says"),
        ("[v + 0.01 for v in VALUES]", "and the model's output says"),
        ("VALUES * 2", "and the model's output says"),
        ("[]", "answered [], and the model's output says"),
        ("[round(v) for v in VALUES]", "and the model's output says"),
    ],
)
def test_wrong_values_are_named(
    proven_table: Proven, handler: Callable[..., str], code: str, problem: str
) -> None:
    values = code.replace("VALUES", "row_values(outputs, loaded)['predictions']")
    name = handler(
        f"def answer(outputs, loaded):\n    return {{'predictions': {values}}}\n",
        read="read_table", answer="answer",
    )  # fmt: skip
    text = said(checked(proven_table, name))
    first = int(proven_table.splits.test[0])
    assert text.startswith(f"model.onnx: sample {first} of the test split: answered [")
    assert problem in text
    assert text.endswith(" y")


def test_a_column_that_is_read_in_another_order_is_named(
    proven_table: Proven, handler: Callable[..., str]
) -> None:
    code = "def read(body, spec):\n    return read_table(body, spec)[:, [1, 0, 2]]\n"
    name = handler(code, read="read", answer="row_values")
    assert "read as another tensor than training's, off by up to" in said(
        checked(proven_table, name)
    )


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("rows.flip(0)", "a request of 3 rows is answered {"),
        ("rows[:1]", "a request of 3 rows is answered {"),
        ("rows + (len(rows) > 1)", "a request of 3 rows is answered {"),
        ("rows if len(rows) == 1 else rows.new_full((3, 3), float('nan'))",
         "a request of 3 rows is answered with 500: "),
        ("rows if len(rows) == 1 else int('rows')", "a request of 3 rows fails: ValueError: inva"),
    ],
)  # fmt: skip
def test_rows_that_are_wrong_in_company_are_named(
    proven_table: Proven, handler: Callable[..., str], code: str, problem: str
) -> None:
    """Alone, each is read and answered as it should be."""
    name = handler(
        f"def read(body, spec):\n    rows = read_table(body, spec)\n    return {code}\n",
        read="read", answer="row_values",
    )  # fmt: skip
    report = checked(proven_table, name)
    assert len(report.problems) == 1
    assert said(report).startswith(f"model.onnx: {problem}")


def test_rows_of_bfloat16_are_right_in_company_and_alone(proven_table: Proven) -> None:
    reduced = in_precision(proven_table.model, "bf16")
    rows = torch.from_numpy(proven_table.test_inputs())
    with torch.inference_mode():
        assert not torch.equal(reduced(rows), proven_table.model(rows))
    report = checked(proven_table, exports={"torchscript": reduced})
    assert (report.ok, report.problems) == (True, [])


def test_a_service_of_one_s_own_kind_is_asked_as_it_is(
    proven_table: Proven, handler: Callable[..., str]
) -> None:
    code = (
        "class Service(Service):\n"
        "    def answers(self, data):\n"
        "        bodies, statuses = super().answers(data)\n"
        "        return [b'{\"predictions\": [0]}' for _ in bodies], statuses\n"
    )
    name = handler(code, read="read_table", answer="row_values")
    assert ": answered [0.0], and the model's output says " in said(checked(proven_table, name))


@pytest.mark.parametrize(
    "answer",
    ["value", "{'value': value}", "{'predictions': value}", "{'predictions': [str(value)]}"],
)
def test_values_of_one_s_own_making_are_no_fault_and_noted(
    proven_table: Proven, handler: Callable[..., str], answer: str
) -> None:
    code = f"def answer(outputs, loaded):\n    value = float(outputs[0, 0])\n    return {answer}\n"
    report = checked(proven_table, handler(code, read="read_table", answer="answer"))
    assert report.ok
    assert report.notes == [
        'the answers are not {"predictions": [value, …]}: values are not checked'
    ]


# Handlers


def test_a_handler_that_cannot_be_loaded_is_refused(
    proven_image: Proven, handler: Callable[..., Any]
) -> None:
    with pytest.raises(PackError, match=r"^handlers/strange\.py: cannot be imported: No module"):
        checked(proven_image, handler("import no_such_module"))
