"""In eval mode a network must be a function: of the same samples it makes the same, and no more.

What draws random numbers, counts its calls or writes down what it sees cannot be exported, and an
exporter seldom says so. Nor can what only mixed precision makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from marwright.export.error import told_as_export_error
from marwright.recipe.errors import ExportError
from marwright.training.examples import drawn
from marwright.training.inference import inference
from marwright.training.places import caller

if TYPE_CHECKING:
    from marwright.runtime.spec import Dtype

_ROWS = 3
# Of the largest output. Kernels for other batches, or for memory elsewhere, round otherwise.
_CLOSE = 1e-3
_SAME = 1e-5


def refuse_impure(network: nn.Module, shape: tuple[int, ...], dtype: Dtype) -> None:
    """Raise `ExportError` unless a network of `(N, *shape)` inputs is a function in eval mode.

    It gives one float32 tensor with a row for each sample, the same each time, changes none of its
    tensors and turns on no autocast. `network` is one of `for_inference`; random numbers are left
    as they were.
    """
    inputs = drawn(_ROWS, shape, dtype, torch.Generator().manual_seed(2))
    before = _tensors(network)
    answers: list[torch.Tensor] = []
    cast = _Autocast()
    with torch.random.fork_rng(devices=[]), inference():
        for seed in range(2):
            torch.manual_seed(seed)
            watch: AbstractContextManager[Any] = nullcontext() if seed else cast
            with told_as_export_error("the model fails in eval mode", network), watch:
                answer = network(inputs.clone())
            refuse_other_answers(answer, _ROWS)
            answers.append(answer)
    if cast.place is not None:
        raise ExportError(
            f"{cast.place or 'the model'} turns autocast on in forward, and exports have no mixed "
            'precision: leave it out, and set [fit] precision = "bf16" to train so, and [export] '
            'precision = "bf16" to serve so'
        )
    after = _tensors(network)
    for name, value in before.items():
        if not torch.equal(torch.nan_to_num(value), torch.nan_to_num(after[name])):
            raise ExportError(
                f"the model changes its {name} in eval mode, and an export would keep it as it is: "
                "change it only `if self.training`"
            )
    if not alike(*answers, part=_SAME):
        why = "it keeps count of something outside of its buffers: take it out of forward"
        if drawing := _drawing(network, inputs):
            why = f"{', '.join(drawing)}: draw random numbers only `if self.training`"
        raise ExportError(
            f"the model answers the same samples otherwise each time in eval mode: {why}"
        )


def _tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    # Quantised modules have more than tensors there.
    values = network.state_dict().items()
    return {name: value.clone() for name, value in values if isinstance(value, torch.Tensor)}


def _drawing(network: nn.Module, inputs: torch.Tensor) -> list[str]:
    """Return which operators draw random numbers, and where."""
    with torch.random.fork_rng(devices=[]), inference(), _Random() as random:
        network(inputs.clone())
    found: list[str] = random.found
    return found


def refuse_changed(
    network: nn.Module, prepare: Callable[[nn.Module], nn.Module], inputs: torch.Tensor
) -> nn.Module:
    """Return a prepared network. Raises `ExportError` where that changes what it answers.

    So it does where training ran on other weights than those that a network shows, as an `nn.LSTM`
    does whose weights are parametrised.
    """
    network.eval()
    with inference(), told_as_export_error("the model fails in eval mode", network):
        before = network(inputs.clone())
        again = network(inputs.clone())
    prepared = prepare(network)
    with inference(), told_as_export_error("the prepared model fails", prepared):
        after = prepared(inputs.clone())
    refuse_other_answers(after, len(inputs))
    # What answers otherwise each time is told as that, by `refuse_impure`.
    if alike(before, again, part=_SAME) and not alike(before, after, part=_CLOSE):
        raise ExportError(
            "the model answers otherwise once its parametrisations, norms and masks of weights are "
            "evaluated: its layers do not compute with the weights that they show"
        )
    return prepared


def refuse_dependent(network: nn.Module, shape: tuple[int, ...], dtype: Dtype) -> None:
    """Raise `ExportError` where a sample's answer depends on the others of its batch."""
    inputs = drawn(_ROWS, shape, dtype, torch.Generator().manual_seed(3))
    with inference(), told_as_export_error("the model does not take one sample alone", network):
        together = network(inputs.clone())
        alone = torch.cat([network(row.clone()) for row in inputs.tensor_split(_ROWS)])
    if most_apart(together, alone):
        raise ExportError(
            "the model answers a sample otherwise when others stand beside it in a batch, as they "
            "do at a server: look for a mean, a norm or a sort along axis 0"
        )


def refuse_other_answers(answer: Any, rows: int) -> None:
    """Raise `ExportError` for what is not one float32 tensor with so many rows."""
    if not isinstance(answer, torch.Tensor):
        raise ExportError(
            f"the model gives a {type(answer).__name__}, not a tensor: return the outputs alone"
        )
    if answer.shape[:1] != (rows,):
        raise ExportError(
            f"the model gives no tensor of {rows} rows for {rows} samples, but one of "
            f"{tuple(answer.shape)}: keep the batch axis first"
        )
    if answer.dtype != torch.float32:
        raise ExportError(
            f"the model gives {answer.dtype} outputs, and exports promise float32: end forward "
            "with .float()"
        )


def most_apart(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether most rows of two tensors differ by more than rounding explains.

    One row may, where a threshold lies between two roundings of the same value.
    """
    if one.shape != other.shape:
        return True
    apart = [not alike(a, b, part=_CLOSE) for a, b in zip(one, other, strict=True)]
    return 2 * sum(apart) > len(apart)


def alike(one: torch.Tensor, other: torch.Tensor, *, part: float) -> bool:
    """Return whether two tensors differ by no more than a part of the largest, NaN and all."""
    size = float(torch.nan_to_num(one, nan=0.0, posinf=0.0, neginf=0.0).abs().max())
    return one.shape == other.shape and torch.allclose(
        one, other, atol=part * size, rtol=0.0, equal_nan=True
    )


class _Random(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operators draw random numbers, and where."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Sequence[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded not in function.tags:
            return function(*args, **(kwargs or {}))
        # Attention has the tag as well, and draws nothing without dropout.
        state = torch.get_rng_state()
        result = function(*args, **(kwargs or {}))
        place, operator = caller(), str(function).removesuffix(".default")
        found = f"{place}: {operator}" if place else operator
        if found not in self.found and not torch.equal(state, torch.get_rng_state()):
            self.found.append(found)
        return result


class _Autocast(TorchFunctionMode):
    """Notes where something is first computed under autocast: None where nothing is."""

    def __init__(self) -> None:
        super().__init__()
        self.place: str | None = None

    def __torch_function__(
        self, function: Any, types: Sequence[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        if self.place is None and torch.is_autocast_enabled("cpu"):
            self.place = caller()
        return function(*args, **(kwargs or {}))
