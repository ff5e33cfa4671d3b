"""Each seeded fault of a trace is found at its module, and told in words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from marwright.parity.locate.torchscript import ROOT, locate_torchscript
from marwright.parity.types import Divergence
from marwright.recipe.errors import ParityError
from tests.parity.locate.exported import FLOOR, SHAPE, K, rows, seeded, small

pytestmark = pytest.mark.torch


class Pair(nn.Module):
    """Takes two tensors, uses the second first, and gives two."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(
        self, one: torch.Tensor, two: torch.Tensor, *, both: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor] | torch.Tensor:
        result = self.linear(two) - one
        return (result, one) if both else result


class Joined(nn.Module):
    """Takes a list."""

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts, 1)


class Odd(nn.Module):
    """Calls modules twice, in place, with lists, flags and the same tensor, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.relu = nn.Linear(4, 4), nn.ReLU(inplace=True)
        self.pair, self.joined = Pair(), Joined()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.unused, self.weights_only = nn.Linear(2, 2), nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first = self.relu(self.twice(inputs))
        second = self.relu(self.twice(first))
        result, same = self.pair(second, second * 2, both=True)
        result = functional.linear(result, self.weights_only.weight, self.weights_only.bias)
        tokens = result[:, None].expand(-1, 3, -1)
        attended = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.joined([attended[:, 0], same])


class Train(nn.Module):
    """What must be in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)


class Decides(nn.Module):
    """Branches on its data, which a trace cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result = self.linear(inputs)
        return result if inputs.sum() > 0 else -2 * result


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decides, self.head = Decides(), nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.decides(inputs))


class Folds(nn.Module):
    """Folds its rows away and back; with a number of rows, as of that many."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.rows = nn.Linear(4, 4), -1

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs).reshape(-1).reshape(self.rows, 4)


def traced(
    folder: Path, model: nn.Module, shape: tuple[int, ...] = (4,), fill: float | None = None
) -> Path:
    """Trace it in the mode that it is in, and write it."""
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2))
    example = example if fill is None else torch.full_like(example, fill)
    with pytest.warns(), torch.random.fork_rng():
        traced = torch.jit.trace(model, example, check_trace=False)
    path = folder / "model.pt"
    torch.jit.save(traced, path)
    return path


def locate(
    model: nn.Module, path: Path, inputs: NDArray[np.float32] | None = None
) -> Divergence | None:
    with torch.random.fork_rng():
        return locate_torchscript(
            model, path, rows(3, (4,)) if inputs is None else inputs, k=K, floor=FLOOR
        )


def with_nudge(model: nn.Module, name: str) -> nn.Module:
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.get_parameter(name).view(-1)[0] *= 1.5
    return changed


@pytest.mark.parametrize("build", [Odd, Train, Outer, Folds])
def test_healthy_trace_has_none(tmp_path: Path, build: Callable[[], nn.Module]) -> None:
    model = seeded(build)
    path = traced(tmp_path, model, fill=1.0)
    assert locate(model, path, np.abs(rows(5, (4,)))) is None


def test_healthy_network_has_none(tmp_path: Path) -> None:
    assert locate(small(), traced(tmp_path, small(), SHAPE), rows()) is None


@pytest.mark.parametrize(
    ("weight", "node", "op", "words"),
    [
        ("twice.weight", "twice", "Linear", ""),
        ("pair.linear.bias", "pair.linear", "Linear", ""),
        # Its output projection is never called: only its weights are read.
        (
            "attention.out_proj.weight", "attention", "MultiheadAttention",
            "in its own forward, for the modules inside it are right; ",
        ),
        (
            "weights_only.weight", ROOT, "Odd",
            "in its own forward, for the modules inside it are right; ",
        ),
    ],
)  # fmt: skip
def test_weight_is_found_at_its_module(
    tmp_path: Path, weight: str, node: str, op: str, words: str
) -> None:
    model = seeded(Odd)
    found = locate(model, traced(tmp_path, with_nudge(model, weight)))
    assert found is not None
    assert (found.backend, found.node, found.op) == ("torchscript", node, op)
    assert found.how.startswith(f"{words}{weight} is not the checkpoint's: differs in 1 of ")
    assert (found.before, found.after > 1e-4) == (0, True)


def test_shapes_are_those_of_the_call(tmp_path: Path) -> None:
    found = locate(
        small(), traced(tmp_path, with_nudge(small(), "second.conv.weight"), SHAPE), rows()
    )
    assert found is not None
    assert (found.node, found.op) == ("second.conv", "Conv2d")
    assert (found.inputs, found.output) == ([[3, 4, 8, 8]], [3, 4, 8, 8])


def test_many_weights_are_counted(tmp_path: Path) -> None:
    other = copy.deepcopy(small())
    with torch.no_grad():
        for weight in other.parameters():
            weight *= 2
    path = traced(tmp_path, other, SHAPE)
    found = locate(small(), path, rows())
    assert found is not None
    assert found.node == "stem"
    assert "stem.bias is not" in found.how
    assert "more weights" not in found.how


def test_dropout_left_on(tmp_path: Path) -> None:
    model, other = seeded(Train), seeded(Train)
    other.layers[3].train()
    found = locate(model, traced(tmp_path, other))
    assert found is not None
    assert (found.node, found.op) == ("layers.3", "Dropout")
    assert found.how == "the trace has dropout in training mode; two calls differ"


def test_batch_norm_in_training_mode(tmp_path: Path) -> None:
    model, other = seeded(Train), seeded(Train)
    other.layers[1].train()
    # So that tracing, which runs it, leaves the running statistics as they are.
    other.layers[1].momentum = 0.0
    found = locate(model, traced(tmp_path, other))
    assert found is not None
    assert (found.node, found.op) == ("layers.1", "BatchNorm1d")
    assert found.how.startswith("the trace has batch_norm in training mode")
    assert "running_mean" not in found.how


def test_branch_on_data(tmp_path: Path) -> None:
    model = seeded(Outer)
    path = traced(tmp_path, model, fill=1.0)
    found = locate(model, path, -np.abs(rows(3, (4,))))
    assert found is not None
    assert (found.node, found.op) == ("decides", "Decides")
    assert found.how == "in its own forward, for the modules inside it are right"
    assert found.after == pytest.approx(1.5)


def test_batch_of_two(tmp_path: Path) -> None:
    model, other = seeded(Folds), seeded(Folds)
    other.rows = 2
    path = traced(tmp_path, other)
    assert locate(model, path, rows(2, (4,))) is None
    found = locate(model, path)
    assert found is not None
    assert (found.node, found.op, found.after) == (ROOT, "Folds", -1)
    assert "the trace fails: " in found.how
    assert "shape '[2, 4]' is invalid for input of size 12" in found.how


def test_second_call_is_asked_as_such(tmp_path: Path) -> None:
    """The same layer, first right and then on inputs that only the trace clamps."""

    class Clamps(nn.Module):
        def __init__(self, most: float) -> None:
            super().__init__()
            self.most = most
            self.inner = nn.Hardtanh(-most, most)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.inner(100 * self.inner(inputs / 100))

    found = locate(Clamps(1e9).eval(), traced(tmp_path, Clamps(1.0).eval()))
    assert found is not None
    assert (found.node, found.op) == ("inner", "Hardtanh")
    assert found.how == "in call 2 of it"


def test_trace_that_goes_wrong_in_later_calls_only(tmp_path: Path) -> None:
    """As one would that is compiled wrongly: three calls are right, the next three are not."""

    class Tires(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            self.calls.add_(1)
            return inputs + (self.calls > 4)

    # Tracing is a call as well.
    found = locate(Tires(), traced(tmp_path, Tires()))
    assert found is not None
    assert found.node == ROOT


def test_file_without_submodules_leaves_the_whole(tmp_path: Path) -> None:
    model = seeded(Train)
    path = traced(tmp_path, with_nudge(model, "layers.0.weight"))
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.freeze(torch.jit.load(path).eval()), path)
    found = locate(model, path)
    assert found is not None
    assert found.node == ROOT
    assert "but for those that cannot be asked alone: layers.0 (the trace does not" in found.how


def test_nan_is_told(tmp_path: Path) -> None:
    class Roots(nn.Module):
        def __init__(self, least: float) -> None:
            super().__init__()
            self.least = least

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs.clamp(min=self.least).sqrt()

    found = locate(Roots(0.0).eval(), traced(tmp_path, Roots(-9.0).eval()))
    assert found is not None
    assert (found.node, found.after) == (ROOT, -1)
    assert found.how == "NaN or infinity stand at other places than the checkpoint's"


def test_nothing_of_the_model_is_changed(tmp_path: Path) -> None:
    model, other = seeded(Train), seeded(Train).train()
    before = copy.deepcopy(model.state_dict())
    locate(model, traced(tmp_path, other))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.get_default_dtype() is torch.float32


def test_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"not a model")
    with pytest.raises(ParityError, match=r"^broken\.pt: torch cannot load it: "):
        locate(small(), tmp_path / "broken.pt", rows())
