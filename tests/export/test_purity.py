"""A network that is no function in eval mode is refused, with the line that makes it none."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from marwright.export.purity import refuse_changed, refuse_dependent, refuse_impure
from marwright.recipe.errors import ExportError
from marwright.training.inference import for_inference

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

Forward = Callable[[nn.Module, torch.Tensor], object]


class Network(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.register_buffer("seen", torch.zeros(4))
        self.calls = 0
        self._forward = forward

    def forward(self, rows: torch.Tensor) -> object:
        return self._forward(self, rows)


def mixed(net: nn.Module, rows: torch.Tensor) -> object:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return net.head(rows).float()


def averaged(net: nn.Module, rows: torch.Tensor) -> object:
    net.seen = 0.9 * net.seen + 0.1 * rows.mean(0)
    return net.head(rows)


def counted_in_place(net: nn.Module, rows: torch.Tensor) -> object:
    net.seen += 1
    return net.head(rows)


def counted(net: nn.Module, rows: torch.Tensor) -> object:
    net.calls += 1
    return net.head(rows) * net.calls


PLACE = r"tests/export/test_purity\.py:\d+"
DRAWS = rf"the same samples otherwise each time in eval mode: {PLACE}: aten\."
REFUSED: dict[str, tuple[Forward, str]] = {
    "dropout": (lambda net, rows: net.head(functional.dropout(rows, 0.5, True)), f"{DRAWS}bern"),
    "a little noise": (
        lambda net, rows: net.head(rows + 1e-3 * torch.randn_like(rows)),
        f"{DRAWS}randn_like: draw random numbers only `if self.training`",
    ),
    "gumbel": (lambda net, rows: functional.gumbel_softmax(net.head(rows)), f"{DRAWS}exponential"),
    "multinomial": (
        lambda net, rows: net.head(rows + torch.multinomial(rows.softmax(1), 4)),
        f"{DRAWS}multinomial",
    ),
    "autocast": (mixed, rf"{PLACE} turns autocast on in forward.*\[export\] precision = \"bf16\""),
    "a moving average": (averaged, "the model changes its seen in eval mode"),
    "a count in place": (counted_in_place, "the model changes its seen in eval mode"),
    "a count": (counted, "otherwise each time in eval mode: it keeps count of something outside"),
    "float64": (lambda net, rows: net.head(rows).double(), "gives torch.float64 outputs"),
    "labels": (lambda net, rows: net.head(rows).argmax(1), "gives torch.int64 outputs"),
    "a dict": (lambda net, rows: {"logits": net.head(rows)}, "gives a dict, not a tensor"),
    "nothing": (lambda net, rows: None, "gives a NoneType, not a tensor"),
    "other rows": (lambda net, rows: net.head(rows)[:2], "no tensor of 3 rows for 3 samples"),
    "an error": (
        lambda net, rows: {}["layer3"],
        rf"fails in eval mode: {PLACE}: KeyError: 'layer3': forward must",
    ),
    "an end": (
        lambda net, rows: sys.exit(0),
        rf"fails in eval mode: {PLACE}: SystemExit: 0: forward must not end the process",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_function_is_refused_with_its_line(kind: str) -> None:
    forward, said = REFUSED[kind]
    with pytest.raises(ExportError, match=said):
        refuse_impure(for_inference(Network(forward)), (4,), "float32")


@pytest.mark.parametrize("kind", ["dropout", "gumbel", "a count", "a moving average"])
def test_what_answers_otherwise_each_time_is_not_told_as_changed_weights(kind: str) -> None:
    network = Network(REFUSED[kind][0])
    prepared = refuse_changed(network, for_inference, torch.randn(3, 4))
    with pytest.raises(ExportError, match=REFUSED[kind][1]):
        refuse_impure(prepared, (4,), "float32")


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, rows: net.head(functional.dropout(rows, 0.5, net.training)),
        lambda net, rows: net.head(rows + 0 * rows.sqrt()),
        lambda net, rows: net.head(rows.sub_(1)),
        lambda net, rows: net.head(
            functional.scaled_dot_product_attention(rows[:, None], rows[:, None], rows[:, None])
        ).flatten(1),
    ],
    ids=["dropout in training", "NaN", "in place", "attention"],
)
def test_what_is_one_is_not(forward: Forward) -> None:
    network, state = for_inference(Network(forward)), torch.get_rng_state()
    refuse_impure(network, (4,), "float32")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda net, rows: net.head(rows - rows.mean(0)), "when others stand beside it in a batch"),
        (lambda net, rows: net.head(rows.sort(0)[0]), "when others stand beside it in a batch"),
        (
            lambda net, rows: net.head(rows) if len(rows) > 1 else 1 / 0,
            rf"does not take one sample alone: {PLACE}: ZeroDivisionError: division by zero",
        ),
    ],
    ids=["mean", "sort", "alone"],
)
def test_an_answer_that_depends_on_its_neighbours_is_refused(forward: Forward, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        refuse_dependent(for_inference(Network(forward)), (4,), "float32")
    refuse_dependent(for_inference(Network(lambda net, rows: net.head(rows))), (4,), "float32")
