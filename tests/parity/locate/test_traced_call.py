"""A traced method takes some of a module's tensors, in its own order, and returns what is used."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from marwright.parity.locate.deviation import NONE, UNLIKE, Deviation
from marwright.parity.locate.traced_call import (
    array,
    ask,
    in_training,
    repeats,
    tensors_of,
    unasked,
)

pytestmark = pytest.mark.torch

ONE, TWO = torch.arange(6.0).reshape(2, 3), torch.ones(2, 3)
EXACT = Deviation(rms=1e-12, largest=1e-12)


class Inner(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.function(*tensors)


class Calls(nn.Module):
    """Calls a function in a module of its own, so that the trace has a method for it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.inner = Inner(function)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        result = self.inner(*tensors)
        return result[0] + result[1] if isinstance(result, tuple) else result * 1


def method(function: Callable[..., Any], *tensors: torch.Tensor) -> Any:
    return inner_of(Calls(function), *tensors)


def inner_of(model: nn.Module, *tensors: torch.Tensor) -> Any:
    with pytest.warns(FutureWarning):
        traced = torch.jit.trace(model, tensors, check_trace=False)
        held = io.BytesIO()
        torch.jit.save(traced, held)
        held.seek(0)
        return torch.jit.load(held).inner.forward


def test_order_is_found() -> None:
    traced = method(lambda one, two: two.exp() - one, ONE, TWO)
    expected = [array(TWO.exp() - ONE)]
    assert unasked(traced, [ONE, TWO]) == ""
    for arguments in ([ONE, TWO], [TWO, ONE]):
        assert repeats(traced, arguments, expected)
        answer = ask(traced, arguments, expected, EXACT)
        assert answer.error == NONE
        assert torch.equal(traced(*answer.arguments), TWO.exp() - ONE)


def test_tensor_that_is_not_used_is_left_out() -> None:
    traced = method(lambda one, two: two * 2, ONE, TWO)
    assert unasked(traced, [ONE, TWO]) == ""
    answer = ask(traced, [ONE, TWO], [array(TWO * 2)], EXACT)
    assert answer.error == NONE
    assert len(answer.arguments) == 1


def test_each_output_is_held_against_its_own() -> None:
    traced = method(lambda one: (one + 1, one - 1), ONE)
    expected = [array(ONE - 1), np.zeros(7), array(ONE + 1)]
    assert repeats(traced, [ONE], expected)
    answer = ask(traced, [ONE], expected, EXACT)
    assert answer.error == NONE
    assert [each[0, 0] for each in answer.references] == [1, -1]


def test_error_is_that_of_the_worst_output() -> None:
    traced = method(lambda one: (one + 1, one - 1), ONE)
    answer = ask(traced, [ONE], [array(ONE + 1), array(ONE - 1) * 2], EXACT)
    assert answer.error.rms == pytest.approx(0.5)
    assert answer.references[1][0, 0] == -2
    assert not answer.varies


def test_other_shape_is_told() -> None:
    traced = method(lambda one: one[:, :2], ONE)
    assert not repeats(traced, [ONE], [array(ONE)])
    answer = ask(traced, [ONE], [array(ONE)], EXACT)
    assert answer.error == UNLIKE
    assert answer.says == "it gives the shape [2, 2], the checkpoint [[2, 3]]"


def test_failure_is_told() -> None:
    traced = method(lambda one: one.reshape(2, 3) + 0, ONE)
    other = torch.zeros(5, 3)
    assert not repeats(traced, [other], [array(other)])
    answer = ask(traced, [other], [array(other)], EXACT)
    assert answer.error == UNLIKE
    assert "shape '[2, 3]' is invalid" in answer.says


def test_work_in_place_spoils_nothing() -> None:
    traced = method(lambda one: one.add_(1) * 2, ONE.clone())
    before = ONE.clone()
    assert repeats(traced, [ONE], [array((ONE + 1) * 2)])
    assert torch.equal(ONE, before)


def test_random_numbers_are_told() -> None:
    with torch.random.fork_rng():
        traced = method(lambda one: nn.functional.dropout(one, 0.5, training=True), ONE)
        assert ask(traced, [ONE], [array(ONE)], EXACT).varies
    assert in_training(traced) == ["dropout"]
    assert (
        in_training(method(lambda one: nn.functional.dropout(one, 0.5, training=False), ONE)) == []
    )


def test_nan_repeats_itself() -> None:
    traced = method(lambda one: one.sqrt(), ONE)
    assert repeats(traced, [-ONE], [array((-ONE).sqrt())])
    assert not repeats(traced, [-ONE], [array(ONE)])


def test_what_cannot_be_asked_says_why() -> None:
    assert unasked(None, [ONE]) == "the trace does not call it"
    many = [ONE + place for place in range(5)]
    traced = method(lambda *tensors: sum(tensors), *many)
    assert unasked(traced, many) == "it has 5 tensors as arguments"
    assert unasked(traced, [ONE]) == "the trace gives it more than its arguments"
    narrow = method(lambda *tensors: tensors[3] * 2, *many)
    assert unasked(narrow, many) == ""
    assert ask(narrow, many, [array(many[3] * 2)], EXACT).error == NONE


def test_outer_values_count_as_more_than_the_arguments() -> None:
    class Shares(nn.Module):
        """Hands a tensor to its inner module behind the back of its arguments."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner(lambda one: one + self.outer)

        def forward(self, one: torch.Tensor) -> torch.Tensor:
            self.outer = one.exp()
            return self.inner(one) * 1

    traced = inner_of(Shares(), ONE)
    assert unasked(traced, [ONE]) == "the trace gives it more than its arguments"


def test_bfloat16_is_read_as_float32() -> None:
    assert array(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32
    assert array(torch.ones(2, dtype=torch.float64)).dtype == np.float64


def test_tensors_are_found_however_nested() -> None:
    values = {"a": [ONE, (TWO, None)], "b": 3}
    assert [id(each) for each in tensors_of(values)] == [id(ONE), id(TWO)]
