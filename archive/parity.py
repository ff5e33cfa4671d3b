"""The gate between export and archive: every backend agrees with the checkpoint, or no archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from archive.types import ParityCase, ParityReport
from recipes.errors import ParityError

Array = NDArray[np.float32]
Backend = Callable[[Array], Array]

# The sizes that break differently: alone, the traced one, an odd one, and more than traced.
BATCHES = (1, 2, 3, 7)
# Single rows are the slow case, and the last hundreds of them say nothing new.
_MOST_CALLS = 64


def compare(
    model: nn.Module,
    traced: Path,
    onnx: Path,
    inputs: Array,
    *,
    atol: float,
    rtol: float,
    classification: bool,
    batches: tuple[int, ...] = BATCHES,
) -> ParityReport:
    """Compare TorchScript and onnxruntime with the eager model over real inputs `(N, …)`.

    An output agrees when `|output - reference| <= atol + rtol * |reference|`, and NaN and
    infinity stand at the same places. Raises `ParityError` for a file that cannot be loaded, and
    without inputs.
    """
    if not len(inputs):
        raise ParityError("there are no held-out samples to compare")
    eager = _torch_backend(model.eval())
    reference = np.concatenate([eager(part) for part in _parts(inputs, 64)])
    cases = []
    backends: tuple[tuple[Literal["torchscript", "onnxruntime"], Backend], ...] = (
        ("torchscript", _torch_backend(_load_traced(traced))),
        ("onnxruntime", _onnx_backend(onnx)),
    )
    for name, run in backends:
        for batch in batches:
            chosen = _chosen(len(inputs), batch)
            cases.append(
                _case(name, run, inputs, reference, chosen, batch, atol, rtol, classification)
            )
    return ParityReport(
        atol=atol,
        rtol=rtol,
        samples=len(inputs),
        cases=cases,
        ok=all(case.ok for case in cases),
    )


def _chosen(samples: int, batch: int) -> NDArray[np.int64]:
    """Return which samples are compared at a batch size: whole batches, at most `_MOST_CALLS`.

    A remainder would be another batch size than the case says, so the last batch is filled up
    with the first samples.
    """
    calls = min(-(-samples // batch), _MOST_CALLS)
    return np.arange(calls * batch, dtype=np.int64) % samples


def _case(
    backend: Literal["torchscript", "onnxruntime"],
    run: Backend,
    inputs: Array,
    reference: Array,
    chosen: NDArray[np.int64],
    batch: int,
    atol: float,
    rtol: float,
    classification: bool,
) -> ParityCase:
    inputs, reference = inputs[chosen], reference[chosen]

    def failed(problem: str, worst: int = 0) -> ParityCase:
        return ParityCase(
            backend=backend, batch=batch, samples=len(inputs), max_abs=-1.0, max_rel=-1.0,
            flips=0, worst_sample=worst, ok=False, problem=problem,
        )  # fmt: skip

    try:
        outputs = np.concatenate([run(part) for part in _parts(inputs, batch)])
    # ValueError: outputs that have no batch axis cannot be put together.
    except (RuntimeError, ValueError) as error:
        return failed(f"fails to run: {_last_line(error)}")
    if outputs.shape != reference.shape:
        return failed(f"gives shape {outputs.shape}, not {reference.shape}")
    finite = np.isfinite(reference) & np.isfinite(outputs)
    same = (outputs == reference) | (np.isnan(outputs) & np.isnan(reference))
    strange = (~finite & ~same).reshape(len(inputs), -1).any(axis=1)
    if strange.any():
        where = int(chosen[strange.argmax()])
        return failed("NaN or infinity at other places than the checkpoint's", worst=where)
    # In float64: the difference of two float32 can be infinite there, and infinity is not JSON.
    expected = np.where(finite, reference, 0.0).astype(np.float64)
    difference = np.abs(np.where(finite, outputs, 0.0) - expected)
    magnitude = np.abs(expected)
    excess = (difference - (atol + rtol * magnitude)).reshape(len(inputs), -1).max(axis=1)
    relative = difference / np.maximum(magnitude, np.finfo(np.float32).tiny)
    flips = 0
    if classification:
        flips = int((outputs.argmax(axis=1) != reference.argmax(axis=1)).sum())
    return ParityCase(
        backend=backend,
        batch=batch,
        samples=len(inputs),
        max_abs=float(difference.max()),
        max_rel=float(relative.max()),
        flips=flips,
        worst_sample=int(chosen[excess.argmax()]),
        ok=bool(excess.max() <= 0),
        problem="" if excess.max() <= 0 else "differs by more than the tolerance",
    )


def _parts(inputs: Array, batch: int) -> list[Array]:
    return [inputs[start : start + batch] for start in range(0, len(inputs), batch)]


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _load_traced(path: Path) -> Any:
    try:
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise ParityError(f"{path.name}: torch cannot load it: {_last_line(error)}") from error
    return module.eval()


def _torch_backend(model: Any) -> Backend:
    def run(inputs: Array) -> Array:
        with torch.inference_mode():
            return model(torch.from_numpy(inputs)).numpy()  # type: ignore[no-any-return]

    return run


def _onnx_backend(path: Path) -> Backend:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    # Its exceptions share no public base but this one.
    except Exception as error:
        raise ParityError(f"{path.name}: onnxruntime cannot load it: {error}") from error
    name = session.get_inputs()[0].name

    def run(inputs: Array) -> Array:
        try:
            return session.run(None, {name: inputs})[0]  # type: ignore[no-any-return]
        # What it says goes into the report; the cause may stand in any of its lines.
        except Exception as error:
            raise RuntimeError(" ".join(str(error).split())) from error

    return run
