"""Trace a trained model to TorchScript: the payload of an archive.

TorchScript is deprecated and still what TorchServe loads without the model's source; see
docs/adr/0004-torchscript.md.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.jit._trace import TracerWarning

from recipes.errors import ExportError
from train.torchscript import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

TRACED = "model.pt"
# One, which broadcasting hides; the one that was traced; an odd one; and more than were traced.
BATCHES = (1, 2, 3, 7)
# Both sides are float32 on the same kernels; fusion may reorder a sum.
_ATOL, _RTOL = 1e-5, 1e-4


def trace(model: nn.Module, shape: tuple[int, ...], folder: Path) -> Path:
    """Trace a model of `(N, *shape)` float32 inputs and write `model.pt`, byte-stable.

    To be called in a fresh process: names inside a traced module count earlier traces. Raises
    `ExportError` where the trace does not follow the model at every batch size.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        try:
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                model, torch.randn(2, *shape, generator=generator), check_trace=False
            )
        except (RuntimeError, TypeError, ValueError) as error:
            raise ExportError(f"the model cannot be traced: {error}") from error
    _refuse_data_dependence(caught)
    check_traced(model, traced, shape)
    raw, path = folder / "raw.pt", folder / TRACED
    traced.save(str(raw))
    normalise(raw, path)
    raw.unlink()
    check_traced(model, torch.jit.load(str(path)), shape)  # type: ignore[no-untyped-call]
    return path


def check_traced(
    model: nn.Module, traced: Any, shape: tuple[int, ...], batches: Sequence[int] = BATCHES
) -> None:
    """Compare both on random inputs of several batch sizes. Raises `ExportError`."""
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        inputs = torch.randn(batch, *shape, generator=generator)
        with torch.inference_mode():
            expected = model(inputs)
            if not isinstance(expected, torch.Tensor) or expected.shape[:1] != (batch,):
                raise ExportError(f"the model gives no tensor of {batch} rows for {batch} samples")
            try:
                answer = traced(inputs)
            except RuntimeError as error:
                raise ExportError(
                    f"the traced module fails at batch {batch}: does the model bake a batch size "
                    f"into a reshape? {str(error).strip().splitlines()[-1]}"
                ) from error
        if answer.shape != expected.shape or not torch.allclose(
            answer, expected, atol=_ATOL, rtol=_RTOL
        ):
            same = answer.shape == expected.shape
            what = (
                f"by up to {float((answer - expected).abs().max()):.3g}"
                if same
                else f"in shape: {tuple(answer.shape)}, not {tuple(expected.shape)}"
            )
            raise ExportError(
                f"the traced module differs from the model at batch {batch} {what}: look for "
                "dropout outside eval mode, or a branch on data"
            )


def _refuse_data_dependence(caught: list[warnings.WarningMessage]) -> None:
    for warning in caught:
        if issubclass(warning.category, TracerWarning):
            place = f"{Path(warning.filename).name}:{warning.lineno}"
            text = str(warning.message).split(". ")[0]
            raise ExportError(
                f"{place}: the model decides by its data, which a trace cannot follow: {text}"
            )
