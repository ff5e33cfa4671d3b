"""One call of a traced module, held against the checkpoint's own call of that module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_leaves

from marwright.parity.locate.deviation import NONE, UNLIKE, Deviation, deviation

Array = NDArray[Any]
Tensors = Sequence[torch.Tensor]
# As many as it takes until TorchScript, which records the first calls, runs what it compiled.
_CALLS = 3
# Which input of an operation says that it is in training mode (native_functions.yaml).
_TRAINING = {"aten::batch_norm": 5, "aten::dropout": 2, "aten::feature_dropout": 2}
# More tensors than these are not tried in every order.
_MOST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a traced module makes of arguments, which are in its own order.

    `references` are the checkpoint's float64 values of what it returns. `says` is how it failed,
    if it did, and `varies` whether the last two calls differed.
    """

    arguments: Tensors
    references: Sequence[Array]
    error: Deviation
    says: str = ""
    varies: bool = False


def unasked(method: Any, arguments: Tensors) -> str:
    """Return why a traced method cannot be called with a module's arguments; empty if it can.

    A trace takes the tensors that it needs, in an order of its own, and whatever else the module
    reads that is made outside of it.
    """
    if method is None:
        return "the trace does not call it"
    wanted = method.schema.arguments[1:]
    if any(str(each.type) != "Tensor" for each in wanted):
        return "the trace gives it what is no tensor"
    if len(wanted) > len(arguments):
        return "the trace gives it more than its arguments"
    if len(arguments) > _MOST and len(wanted) > 1:
        return f"it has {len(arguments)} tensors as arguments"
    return ""


def repeats(method: Any, arguments: Tensors, outputs: Sequence[Array]) -> bool:
    """Return whether a traced method gives the very bits that its module gave, as most do."""
    for order in _orders(method, arguments):
        try:
            found = [array(each) for each in _runs(method, order)[-1]]
        except RuntimeError:
            continue
        if all(any(_same(value, each) for each in outputs) for value in found):
            return True
    return False


def ask(method: Any, arguments: Tensors, expected: Sequence[Array], limit: Deviation) -> Answer:
    """Call a traced method with the arguments in the order in which it errs least."""
    best: Answer | None = None
    for order in _orders(method, arguments):
        answer = _answer(method, order, expected)
        if answer.error.within(limit):
            return answer
        if best is None or answer.error.rms < best.error.rms:
            best = answer
    assert best is not None
    return best


def _answer(method: Any, arguments: Tensors, expected: Sequence[Array]) -> Answer:
    try:
        runs = _runs(method, arguments)
    except RuntimeError as error:
        says = (str(error).strip().splitlines() or ["RuntimeError"])[-1]
        return Answer(arguments=arguments, references=expected, error=UNLIKE, says=says)
    worst, references = NONE, []
    for output in runs[-1]:
        # A trace returns only what is used of several outputs.
        same = [each for each in expected if each.shape == tuple(output.shape)]
        if not same:
            shape = list(output.shape)
            says = f"it gives the shape {shape}, the checkpoint {[*map(_shape, expected)]}"
            return Answer(arguments=arguments, references=expected, error=UNLIKE, says=says)
        value = array(output)
        errors = [deviation(value, each) for each in same]
        least = min(range(len(same)), key=lambda place: errors[place].rms)
        references.append(same[least])
        worst = worst.largest_of(errors[least])
    varies = any(
        not _same(array(one), array(other)) for one, other in zip(runs[-2], runs[-1], strict=True)
    )
    return Answer(arguments=arguments, references=references, error=worst, varies=varies)


def _orders(method: Any, arguments: Tensors) -> Iterator[Tensors]:
    return permutations(arguments, len(method.schema.arguments) - 1)


def _runs(method: Any, arguments: Tensors) -> list[list[torch.Tensor]]:
    # Copies, because modules may work in place.
    return [tensors_of(method(*[each.clone() for each in arguments])) for _ in range(_CALLS)]


def _same(one: Array, other: Array) -> bool:
    floating = np.issubdtype(one.dtype, np.inexact)
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=floating)


def in_training(method: Any) -> list[str]:
    """Return which operations a trace left in training mode, as in "dropout"."""
    return [
        kind.removeprefix("aten::")
        for kind, place in _TRAINING.items()
        for node in method.graph.findAllNodes(kind)
        if list(node.inputs())[place].toIValue() is True
    ]


def array(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array; bfloat16, which numpy has not, as float32."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def tensors_of(values: Any) -> list[torch.Tensor]:
    """Return the tensors among what a module takes or returns, however it is nested."""
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]


def _shape(value: NDArray[np.generic]) -> list[int]:
    return list(value.shape)
