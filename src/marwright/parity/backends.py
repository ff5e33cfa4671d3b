"""What is compared, as functions from arrays to arrays: eager torch, TorchScript, onnxruntime."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from marwright.export.onnx_session import open_session, told
from marwright.export.to_onnx import INPUT, OUTPUT
from marwright.parity.float64 import Float64
from marwright.recipe.errors import ParityError
from marwright.runtime.spec import Dtype
from marwright.training.inference import for_inference, inference

# Samples: float32, or int64 of texts.
Array = NDArray[Any]
Outputs = NDArray[np.float64]
# Inputs (n, *shape) -> outputs (n, outputs), flattened behind the batch axis. Raises
# `RuntimeError` with one line when the backend fails.
Run = Callable[[Array], Outputs]

# The calls that TorchScript's executor records and compiles in; handlers/service.py makes them too.
_WARM_UP = 2
# As onnxruntime calls tensors.
_KINDS: dict[Dtype, str] = {"float32": "tensor(float)", "int64": "tensor(int64)"}


def eager_backend(model: nn.Module) -> Run:
    """Return the checkpoint as torch runs it, in eval mode."""
    return _torch_backend(for_inference(model))


def reference_backend(model: nn.Module) -> Run:
    """Return the checkpoint in float64 throughout: constants and casts inside it are lifted too."""
    double = _torch_backend(copy.deepcopy(for_inference(model)).double(), torch.float64)

    def run(inputs: Array) -> Outputs:
        with Float64():  # type: ignore[no-untyped-call]
            return double(inputs)

    return run


def rank_of(model: nn.Module, rows: Array) -> int:
    """Return how many axes a model's outputs have, that of the batch included."""
    with inference():
        outputs: torch.Tensor = for_inference(model)(torch.from_numpy(rows.copy()))
    return outputs.ndim


def traced_backend(path: Path, example: Array, *, rank: int = 2) -> Run:
    """Load a traced module, and warm it up as the handler does.

    Its outputs have `rank` axes. Raises `ParityError` when torch cannot load it.
    """
    try:
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise ParityError(f"{path.name}: torch cannot load it: {_last_line(error)}") from error
    run = _torch_backend(module.eval(), rank=rank)
    for _ in range(_WARM_UP):
        try:
            run(example)
        except RuntimeError:
            # It will fail again where it is compared, and be reported there.
            break
    return run


def _torch_backend(
    model: Any, dtype: torch.dtype = torch.float32, *, rank: int | None = None
) -> Run:
    def run(inputs: Array) -> Outputs:
        with inference():
            try:
                # A copy, because a model may write into what it is given.
                outputs = model(torch.from_numpy(inputs.copy()))
            # Whatever a model of one's own may raise: it goes into the report.
            except Exception as error:
                raise RuntimeError(_last_line(error)) from error
        if not isinstance(outputs, torch.Tensor):
            raise RuntimeError(f"gives a {type(outputs).__name__}, not a tensor")
        if outputs.dtype != dtype:
            raise RuntimeError(f"gives {outputs.dtype}, not {dtype}")
        return _rows(outputs.double().numpy(), len(inputs), rank)

    return run


def onnx_backend(
    path: Path, *, optimised: bool, threads: int, rank: int = 2, dtype: Dtype = "float32"
) -> Run:
    """Load an ONNX file, with all of onnxruntime's optimisations or with none.

    It takes `dtype`, and its outputs, float32, have `rank` axes. Raises `ParityError` when
    onnxruntime cannot load it, missing external data included, and when it has other inputs and
    outputs than clients are promised.
    """
    try:
        session = open_session(path, optimised=optimised, threads=threads)
    # Its exceptions share no public base but this one.
    except Exception as error:
        raise ParityError(f"{path.name}: onnxruntime cannot load it: {told(error)}") from error
    for what, promised, wanted, values in (
        ("takes", INPUT, _KINDS[dtype], session.get_inputs()),
        ("gives", OUTPUT, _KINDS["float32"], session.get_outputs()),
    ):
        found = [(value.name, value.type) for value in values]
        if found != [(promised, wanted)]:
            shown = ", ".join(f"{name}: {kind}" for name, kind in found)
            raise ParityError(f"{path.name} {what} {shown or 'nothing'}, not {promised}: {wanted}")

    def run(inputs: Array) -> Outputs:
        try:
            outputs = session.run([OUTPUT], {INPUT: inputs})[0]
        # What it says goes into the report; the cause may stand in any of its lines.
        except Exception as error:
            raise RuntimeError(told(error)) from error
        return _rows(np.asarray(outputs, dtype=np.float64), len(inputs), rank)

    return run


def _rows(outputs: NDArray[Any], batch: int, rank: int | None) -> Outputs:
    if outputs.ndim == 0 or len(outputs) != batch or rank not in (None, outputs.ndim):
        axes = "" if rank in (None, outputs.ndim) else f", and the checkpoint {rank} axes"
        raise RuntimeError(f"gives shape {outputs.shape} for {batch} rows{axes}")
    return outputs.reshape(batch, -1)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
