"""Trace a trained model to TorchScript: the payload of an archive.

TorchScript is deprecated and still what TorchServe loads without the model's source; see
docs/adr/0004-torchscript.md.
"""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.jit._trace import TracerWarning

from marwright.export.error import place_of, told_as_export_error
from marwright.export.purity import refuse_impure, refuse_other_answers
from marwright.export.torchscript import normalise
from marwright.recipe.errors import ExportError
from marwright.training.examples import drawn, sizes, zeros
from marwright.training.inference import for_inference, inference
from marwright.training.places import caller
from marwright.training.precision import in_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marwright.recipe.types import Precision
    from marwright.runtime.spec import Dtype

TRACED = "model.pt"
# The extra file that says which weights are in it.
ORIGIN = "origin"
# One, which broadcasting hides; the one that was traced; an odd one; and more than were traced.
BATCHES = (1, 2, 3, 7)
# Both sides are float32 on the same kernels; fusion may reorder a sum.
_RTOL = 1e-4
_CANNOT = "the model cannot be traced"


def trace(
    model: nn.Module,
    shape: tuple[int, ...],
    folder: Path,
    *,
    dtype: Dtype = "float32",
    precision: Precision = "fp32",
    origin: str = "",
) -> Path:
    """Trace a model of `(N, *shape)` inputs and write `model.pt`, byte-stable.

    Outputs are float32; with `bf16` what is between them is bfloat16. `origin` is the SHA-256
    of the checkpoint's weights, and is kept in the file as `extra/origin`. To be called in a fresh
    process: names inside a traced module count earlier traces. Raises `ExportError` where the
    trace does not follow `in_precision(model, precision)` at every batch size, and of texts at
    every length.
    """
    network = for_inference(model)
    refuse_impure(network, shape, dtype)
    model = in_precision(network, precision)
    atol = 0.0 if model is network else _rounding(network, model, shape, dtype)
    generator = torch.Generator().manual_seed(0)
    raw, half = folder / "raw.pt", folder / "normalised.pt"
    with warnings.catch_warnings(), inference():
        warned = _noted_warnings()
        with told_as_export_error(_CANNOT, model):
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                model, drawn(2, shape, dtype, generator), check_trace=False
            )
        _refuse_data_dependence(model, shape, dtype, warned)
        with told_as_export_error(_CANNOT, model):
            traced.save(str(raw), _extra_files={ORIGIN: origin} if origin else {})
    normalise(raw, half)
    raw.unlink()
    # What was written is what is checked, and it has its name once it is right.
    written = torch.jit.load(str(half))  # type: ignore[no-untyped-call]
    hint = ": ".join(filter(None, warned[0])) if warned else ""
    check_traced(model, written, shape, dtype=dtype, atol=atol, hint=hint, with_lines=traced)
    return half.rename(folder / TRACED)


def _rounding(
    network: nn.Module, rounded: nn.Module, shape: tuple[int, ...], dtype: Dtype
) -> float:
    """Return the most that lower precision itself changes of the outputs for a random batch.

    A trace of it that rounds elsewhere, because operations are fused, may be off by as much.
    """
    generator = torch.Generator().manual_seed(1)
    inputs = drawn(max(BATCHES), shape, dtype, generator)
    with inference():
        expected = network(inputs.clone())
        with told_as_export_error(
            "the model cannot compute in bfloat16, set [export] precision to another", rounded
        ):
            # What is NaN in both is no difference.
            return float(torch.nan_to_num(rounded(inputs.clone()) - expected).abs().max())


def check_traced(
    model: nn.Module,
    traced: Any,
    shape: tuple[int, ...],
    batches: Sequence[int] = BATCHES,
    *,
    dtype: Dtype = "float32",
    atol: float = 0.0,
    hint: str = "",
    with_lines: Any = None,
) -> None:
    """Compare both on random inputs of several batch sizes, and of texts at several lengths.

    `atol` is the most that outputs may differ by, beside a ten-thousandth of the largest. Raises
    `ExportError`, which ends with `hint`: what is known of why they may differ. `with_lines` is
    the module as it was traced, which knows the lines of its source, as what was written does not.
    """
    hint = f" ({hint})" if hint else ""
    generator = torch.Generator().manual_seed(1)
    for batch, of_one in product(batches, sizes(shape, dtype)):
        inputs = drawn(batch, of_one, dtype, generator)
        where = f"batch {batch}" + f" and length {of_one[0]}" * (dtype == "int64")
        with inference():
            # Copies, because a model may write into what it is given.
            with told_as_export_error(f"the model fails at {where}", model):
                expected = model(inputs.clone())
            refuse_other_answers(expected, batch)
            try:
                answer = traced(inputs.clone())
            # A trace fails as its operators do, and as TorchScript's interpreter does.
            except Exception as error:
                place, said = _line(with_lines, inputs), str(error).strip().splitlines()[-1]
                raise ExportError(
                    f"{place + ': ' if place else ''}the traced module fails at {where}: does the "
                    f"model bake a batch size into a reshape? {said}{hint}"
                ) from error
        # Of the largest output: an absolute tolerance says nothing of outputs of any size.
        size = float(torch.nan_to_num(expected, nan=0.0, posinf=0.0, neginf=0.0).abs().max())
        if answer.shape != expected.shape or not torch.allclose(
            answer, expected, atol=atol + _RTOL * size, rtol=0.0, equal_nan=True
        ):
            same = answer.shape == expected.shape
            what = (
                f"by up to {float((answer - expected).abs().max()):.3g}"
                if same
                else f"in shape: {tuple(answer.shape)}, not {tuple(expected.shape)}"
            )
            raise ExportError(
                f"the traced module differs from the model at {where} {what}: look for "
                "dropout outside eval mode, a branch on data, or one on torch.jit.is_tracing()"
                f"{hint}"
            )


def _refuse_data_dependence(
    model: nn.Module,
    shape: tuple[int, ...],
    dtype: Dtype,
    warned: list[tuple[str, str]],
) -> None:
    """Refuse a model that decides by its data. torch warns of decisions by sizes as well."""
    if not warned or (error := _decision_by_data(model, shape, dtype)) is None:
        return
    place, (_, text) = place_of(error), warned[0]
    raise ExportError(
        f"{place + ': ' if place else ''}the model decides by its data, which a trace cannot "
        f"follow: {text}: use torch.where in place of a branch, and shapes that no value decides"
    )


def _decision_by_data(
    model: nn.Module, shape: tuple[int, ...], dtype: Dtype
) -> BaseException | None:
    """Return what a forward pass without values raises where it reads one: fake tensors have sizes
    alone.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), inference():
        try:
            model(zeros(2, shape, dtype))
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            return error
        # What fake tensors cannot do, as numpy cannot take them, is no decision.
        except Exception:  # noqa: BLE001
            return None
    return None


def _noted_warnings() -> list[tuple[str, str]]:
    """Return a list that gets where torch warns of the trace, and its sentence, from now on.

    To be called within `warnings.catch_warnings()`. Some warnings come from torch's own Python: the
    line of the network is further out.
    """
    noted: list[tuple[str, str]] = []

    def note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, TracerWarning):
            noted.append((caller(own_only=True), str(message).split(". ")[0]))

    warnings.simplefilter("always")
    warnings.showwarning = note
    return noted


def _line(traced: Any, inputs: torch.Tensor) -> str:
    """Return the line of the source at which a traced module fails; empty where it does not."""
    if traced is None:
        return ""
    try:
        with inference():
            traced(inputs.clone())
    except Exception as error:  # noqa: BLE001
        return place_of(error)
    return ""
