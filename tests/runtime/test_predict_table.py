"""Rows in, one value a row out, in the target's own units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from marwright.runtime import predict_table
from marwright.runtime.predict_table import row_values
from marwright.runtime.service import Loaded, Service
from tests.specs import numbers

pytestmark = pytest.mark.torch

SPEC = numbers(
    ("a", "b"),
    center=(10.0, 0.0),
    scale=(2.0, 1.0),
    target="y",
    target_mean=100.0,
    target_std=20.0,
)


def loaded(model: Any = None, **options: Any) -> Loaded:
    return Loaded(model=model, spec=SPEC, options=options)


def test_values_are_in_the_units_of_the_target_and_the_order_of_the_rows() -> None:
    outputs = np.array([[0.0], [1.0], [-2.0]], dtype=np.float32)
    assert row_values(outputs, loaded()) == {"predictions": [100.0, 120.0, 60.0]}


@pytest.mark.parametrize(("decimals", "value"), [(0, 107.0), (2, 106.67), (4, 106.6667)])
def test_values_are_rounded_as_the_recipe_says(decimals: int, value: float) -> None:
    outputs = np.array([[1 / 3]], dtype=np.float32)
    assert row_values(outputs, loaded(decimals=decimals)) == {"predictions": [value]}


def test_the_handler_answers_compact_json() -> None:
    ours = predict_table.service
    model = loaded(lambda rows: rows.sum(dim=1, keepdim=True), decimals=2)
    service = Service(read=ours.read, answer=ours.answer, loaded=model)
    bodies = [b'{"a": 12, "b": 0}', {"a": 10, "b": 0.5}, b"[[10, 0], [14, 1]]", b'{"a": "12"}']
    answers, statuses = service.answers([{"body": body} for body in bodies])
    assert statuses == [200, 200, 200, 400]
    assert answers[:3] == [
        b'{"predictions":[120.0]}',
        b'{"predictions":[110.0]}',
        b'{"predictions":[100.0,160.0]}',
    ]


def test_a_value_beyond_float64_is_a_500_in_json() -> None:
    spec = numbers(
        ("a",),
        center=(0.0,),
        scale=(1.0,),
        target="y",
        target_mean=0.0,
        target_std=1e300,
    )
    ours = predict_table.service
    model = Loaded(model=lambda rows: rows * 1e30, spec=spec)
    service = Service(read=ours.read, answer=ours.answer, loaded=model)
    answers, statuses = service.answers([{"body": [1]}, {"body": [0]}])
    assert statuses == [500, 200]
    assert b"not finite" in answers[0]


def test_torchserve_finds_the_entry_point() -> None:
    assert predict_table.handle == predict_table.service.handle
