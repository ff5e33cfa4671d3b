"""What an answer says, label by label and value by value."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import torch

from marwright.archive.answers.check import Model
from marwright.training.precision import in_precision
from tests.archive.answers.asked import checked, said
from tests.archive.proven import Proven
from tests.archive.tiny import LABELS

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


# Labels


def test_a_label_map_that_is_off_by_one_is_named(proven_image: Proven) -> None:
    rotated = msgspec.structs.replace(proven_image.meta, labels=[*LABELS[1:], LABELS[0]])
    report = checked(proven_image, meta=rotated)
    assert len(report.problems) == 1
    assert report.problems[0].endswith("is the label map that of training?")
    assert "marwright/runtime/classify_image.py: model.onnx: sample " in report.problems[0]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("ranked_labels(logits, loaded)['predictions'][::-1]", "labels are not the most probable"),
        ("ranked_labels(-logits, loaded)['predictions']", "is the label map that of training?"),
        ("ranked_labels(np.exp(logits) / np.exp(logits).sum(), loaded)['predictions']",
         "is the label map that of"),
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
    assert "read as another array than training's, off by up to" in said(
        checked(proven_table, name)
    )


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("rows[::-1]", "a request of 3 rows is answered {"),
        ("rows[:1]", "a request of 3 rows is answered {"),
        ("rows + (len(rows) > 1)", "a request of 3 rows is answered {"),
        ("rows if len(rows) == 1 else np.full((3, 3), np.nan, np.float32)",
         "a request of 3 rows is answered with 500: "),
        ("rows if len(rows) == 1 else int('rows')", "a request of 3 rows is answered with 500: "),
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
