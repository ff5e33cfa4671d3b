"""A batch is answered request by request: a bad one harms no neighbour."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from marwright.runtime.read import read_table
from marwright.runtime.request import BadRequest
from marwright.runtime.service import Loaded, Service, load
from marwright.runtime.spec import spec_to_dict
from tests.runtime.conftest import ContextMaker
from tests.specs import numbers

pytestmark = pytest.mark.torch

SPEC = numbers(
    ("a", "b"),
    center=(0.0, 0.0),
    scale=(1.0, 1.0),
    target="y",
    target_mean=0.0,
    target_std=1.0,
)


class Sum(nn.Module):
    """Adds up a row, and remembers the batches that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(rows))
        return rows.sum(dim=1, keepdim=True)


def values(outputs: NDArray[np.float32], _: Loaded) -> object:
    return {"sums": outputs[:, 0].tolist()}


def service_of(model: Any, **given: Any) -> Service:
    loaded = Loaded(model=model, spec=SPEC)
    return Service(**{"read": read_table, "answer": values, "loaded": loaded} | given)


def asked(service: Service, *bodies: object) -> tuple[list[Any], list[int]]:
    answers, statuses = service.answers([{"body": body} for body in bodies])
    return [json.loads(answer) for answer in answers], statuses


def test_a_bad_request_harms_no_neighbour() -> None:
    model = Sum()
    answers, statuses = asked(
        service_of(model), b"[1, 2]", b"nonsense", [3, 4], {"a": 1}, [[5, 6], [7, 8]], None
    )
    assert statuses == [200, 400, 200, 400, 200, 400]
    assert [answers[index] for index in (0, 2, 4)] == [
        {"sums": [3.0]},
        {"sums": [7.0]},
        {"sums": [11.0, 15.0]},
    ]
    for index in (1, 3, 5):
        assert answers[index]["status"] == 400
        assert answers[index]["error"]
    # The good ones went through the model together.
    assert model.batches == [4]


def test_a_fault_of_ours_is_a_500_of_that_request_alone(caplog: pytest.LogCaptureFixture) -> None:
    def read(body: object, spec: Any) -> NDArray[np.float32]:
        if body == b"[9]":
            raise KeyError("seeded fault")
        return read_table(body, spec)

    answers, statuses = asked(service_of(Sum(), read=read), b"[1, 2]", b"[9]", b"[3, 4]")
    assert statuses == [200, 500, 200]
    assert answers[2] == {"sums": [7.0]}
    assert "seeded fault" not in answers[1]["error"]
    assert "seeded fault" in caplog.text


def test_a_tensor_that_is_read_is_a_fault_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def read(body: object, spec: Any) -> Any:
        return torch.from_numpy(read_table(body, spec))

    assert asked(service_of(Sum(), read=read), b"[1, 2]")[1] == [500]
    assert "`read` returned a Tensor, not a numpy array" in caplog.text


def test_a_batch_of_bad_requests_never_reaches_the_model() -> None:
    model = Sum()
    assert asked(service_of(model), b"", None, [1])[1] == [400, 400, 400]
    assert model.batches == []


def test_no_requests_have_no_answers() -> None:
    assert asked(service_of(Sum())) == ([], [])


def test_a_request_may_come_as_a_form_field() -> None:
    requests = [{"data": b"[1, 1]"}, {"file": b"[2, 2]"}, {"left": b"", "right": b""}, {}]
    answers, statuses = service_of(Sum()).answers(requests)
    assert statuses == [200, 200, 400, 400]
    assert json.loads(answers[1]) == {"sums": [4.0]}
    assert "several form fields (left, right)" in json.loads(answers[2])["error"]
    assert json.loads(answers[3])["error"].startswith("the request is empty: ")


def test_half_a_surrogate_pair_in_a_name_harms_no_neighbour() -> None:
    answers, statuses = asked(service_of(Sum()), rb'{"\ud800": 1}', b"[1, 2]")
    assert statuses == [400, 200]
    assert "unknown ?" in answers[0]["error"]


def test_the_status_of_the_refusal_is_kept() -> None:
    def too_large(*_: object) -> NDArray[np.float32]:
        raise BadRequest("too large", 413)

    assert asked(service_of(Sum(), read=too_large), b"") == (
        [{"error": "too large", "status": 413}],
        [413],
    )


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_a_500_in_json(odd: float) -> None:
    def model(rows: torch.Tensor) -> torch.Tensor:
        return torch.where(rows[:, :1] < 0, odd, rows[:, :1])

    answers, statuses = asked(service_of(model), [1, 0], [-1, 0], [2, 0])
    assert statuses == [200, 500, 200]
    assert answers[1] == {"error": "the model's output is not finite for this input", "status": 500}
    assert answers[2] == {"sums": [2.0]}


def test_an_answer_that_is_not_finite_is_a_500_in_json() -> None:
    def answer(outputs: NDArray[np.float32], _: Loaded) -> object:
        return {"value": float(outputs[0, 0]) * 1e308 * 10}

    answers, statuses = asked(service_of(Sum(), answer=answer), [1, 1], [0, 0])
    assert statuses == [500, 200]
    assert answers == [
        {"error": "the model's answer is not finite for this input", "status": 500},
        {"value": 0.0},
    ]


def test_the_model_runs_in_inference_mode() -> None:
    seen: list[bool] = []

    def model(rows: torch.Tensor) -> torch.Tensor:
        seen.append(torch.is_inference_mode_enabled())
        return rows[:, :1]

    asked(service_of(model), [1, 1])
    assert seen == [True]


def test_half_precision_outputs_are_answered_in_full() -> None:
    service = service_of(
        lambda rows: rows[:, :1].bfloat16(), answer=lambda outputs, _: str(outputs.dtype)
    )
    assert asked(service, [1, 1]) == (["float32"], [200])


def test_torchserve_is_told_each_status_and_type(make_context: ContextMaker) -> None:
    def read(body: object, spec: Any) -> NDArray[np.float32]:
        if body == b"large":
            raise BadRequest("too large", 413)
        return read_table(body, spec)

    context = make_context(requests=4)
    bodies = [b"[1, 2]", b"large", b"bad", b"[3, 4]"]
    answers = service_of(Sum(), read=read).handle([{"body": body} for body in bodies], context)
    assert answers is not None
    assert all(isinstance(answer, bytes) for answer in answers)
    assert [context.get_response_status(index) for index in range(4)] == [
        (200, None),
        (413, "Payload Too Large"),
        (400, "Bad Request"),
        (200, None),
    ]
    types = {context.get_response_content_type(index) for index in range(4)}
    assert types == {"application/json"}


# --- loading --------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A linear layer, and dropout that would show if it were left on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3, bias=False)
        nn.init.constant_(self.linear.weight, 0.5)
        self.dropout = nn.Dropout(0.9)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.linear(rows))


@pytest.fixture
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def archive(tmp_path: Path, threads: None) -> Path:
    """A folder like that of an unpacked archive."""
    torch.jit.script(Scaled().train()).save(str(tmp_path / "model.pt"))
    (tmp_path / "preprocess.json").write_text(json.dumps(spec_to_dict(SPEC)), encoding="utf-8")
    (tmp_path / "labels.json").write_text('["a", "é", "c"]', encoding="utf-8")
    return tmp_path


def test_a_model_is_loaded_from_its_folder(archive: Path, make_context: ContextMaker) -> None:
    config = {"handler": {"threads": 1, "top_k": 2}, "batchSize": 8}
    service = Service(read=read_table, answer=lambda outputs, _: outputs.tolist())
    assert service.handle(None, make_context(folder=archive, config=config)) is None
    assert service.loaded is not None
    assert service.loaded.spec == SPEC
    assert service.loaded.labels == ("a", "é", "c")
    assert service.loaded.options == {"threads": 1, "top_k": 2}
    assert service.loaded.device == "cpu"
    # In eval mode, though it was saved in train mode.
    answers = service.handle([{"body": b"[2, 4]"}], make_context(requests=1))
    assert answers == [b"[[3.0,3.0,3.0]]"]


def test_millions_of_lists_that_torchserve_parses_take_no_second(
    archive: Path, make_context: ContextMaker
) -> None:
    before = gc.get_threshold()
    # What these tests have made so far is nothing that a worker's collector would look through.
    gc.collect()
    gc.freeze()
    try:
        service_of(None).handle(None, make_context(folder=archive))
        started = time.process_time()
        json.loads("[" + "[]," * 3_000_000 + "[]]")
        assert time.process_time() - started < 1
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@pytest.mark.parametrize("config", [None, {}, {"handler": None}, {"minWorkers": 1}])
def test_a_folder_without_options_is_loaded(
    archive: Path, make_context: ContextMaker, config: Mapping[str, Any] | None
) -> None:
    (archive / "labels.json").unlink()
    loaded = load(make_context(folder=archive, config=config))
    assert (loaded.labels, dict(loaded.options)) == ((), {})


def test_the_workers_threads_are_those_of_the_recipe(
    archive: Path, make_context: ContextMaker
) -> None:
    load(make_context(folder=archive, config={"handler": {"threads": 2}}))
    assert torch.get_num_threads() == 2
    load(make_context(folder=archive))
    assert torch.get_num_threads() == 1


def test_a_gpu_that_is_not_there_is_not_used(
    archive: Path, make_context: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load(make_context(folder=archive, gpu=0)).device == "cpu"


@pytest.mark.parametrize("missing", ["model.pt", "preprocess.json"])
def test_a_folder_that_is_not_whole_is_not_loaded(
    archive: Path, make_context: ContextMaker, missing: str
) -> None:
    (archive / missing).unlink()
    with pytest.raises((OSError, ValueError, RuntimeError)):
        load(make_context(folder=archive))


def test_a_model_of_other_inputs_is_not_loaded(archive: Path, make_context: ContextMaker) -> None:
    three = numbers(("a", "b", "c"), center=(0.0,) * 3, scale=(1.0,) * 3)
    values = spec_to_dict(three)
    (archive / "preprocess.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(RuntimeError):
        load(make_context(folder=archive))


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c", "d"]])
def test_labels_that_are_not_the_outputs_are_not_loaded(
    archive: Path, make_context: ContextMaker, labels: list[str]
) -> None:
    (archive / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    said = rf"^the archive is inconsistent: labels\.json has {len(labels)} labels, .* \(1, 3\)$"
    with pytest.raises(RuntimeError, match=said):
        load(make_context(folder=archive))


def test_the_order_of_answers_is_that_of_requests() -> None:
    bodies: Sequence[object] = [[n, 0] if n % 3 else None for n in range(1, 30)]
    answers, statuses = asked(service_of(Sum()), *bodies)
    for number, (answer, status) in enumerate(zip(answers, statuses, strict=True), start=1):
        assert status == (200 if number % 3 else 400)
        assert number % 3 == 0 or answer == {"sums": [float(number)]}
