"""The checkpoint node by node: every value in float64, and what float32 makes of it."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import nn

from marwright.export.to_onnx import export_program
from marwright.parity.locate.program import value_names, walk
from tests.parity.locate.exported import OPSET, program, rows, seeded, small

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def test_last_step_is_what_the_model_gives() -> None:
    inputs, model = rows(), small()
    *_, last = walk(program(), inputs)
    with torch.no_grad():
        assert np.array_equal(last.float32, model(torch.from_numpy(inputs)).numpy())
    assert last.reference.dtype == np.float64
    assert 0 < last.noise().rms < 1e-6


def test_every_float_is_float64_on_one_side_and_float32_on_the_other() -> None:
    kinds = {
        (step.reference.dtype.name, step.float32.dtype.name) for step in walk(program(), rows())
    }
    assert kinds == {("float64", "float32"), ("int64", "int64")}


def test_steps_say_which_module_they_belong_to() -> None:
    modules = [step.module for step in walk(program(), rows())]
    assert modules[0] == "stem"
    assert {"first.conv", "second.norm", "head"} <= set(modules)


def test_names_are_those_of_the_file_but_for_its_output() -> None:
    names = value_names(program(), ["logits"])
    assert names["conv2d"] == "conv2d"
    assert list(names.values())[-1] == "logits"
    # The batch norm's other two results are no values of its own.
    assert all("legit" not in name for name in names)


def test_values_are_freed_after_their_last_use() -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0
    for step in walk(program(), rows()):
        alive.append(weakref.ref(step.reference))
        del step
        most = max(most, sum(each() is not None for each in alive))
    assert len(alive) > 20
    assert most <= 2


class Branching(nn.Module):
    """Two branches on data, a constant of its own, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("scale", torch.full((3,), 3.0), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        constant = torch.tensor([0.5, 0.25, 4.0])
        chosen = torch.cond(
            inputs.sum() > 0, lambda x: self.layer(x), lambda x: -self.layer(x), (inputs,)
        )
        return chosen / self.scale + constant


@pytest.mark.parametrize("sign", [1, -1])
def test_branches_constants_and_unsaved_buffers(sign: int) -> None:
    model = seeded(Branching)
    inputs = sign * np.abs(rows(shape=(4,)))
    *_, last = walk(export_program(model, (4,), OPSET, {}), inputs)
    weight, bias = (each.detach().double().numpy() for each in model.layer.parameters())
    expected = sign * (inputs.astype(np.float64) @ weight.T + bias) / 3 + [0.5, 0.25, 4.0]
    assert np.abs(last.reference - expected).max() < 1e-14
    with torch.no_grad():
        assert np.array_equal(last.float32, model(torch.from_numpy(inputs)).numpy())
