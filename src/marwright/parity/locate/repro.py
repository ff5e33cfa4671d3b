"""A folder that shows a divergence by itself: a model, inputs, a script, and how to run it."""

from __future__ import annotations

import math
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.onnx import ONNXProgram

from marwright.export.to_onnx import INLINE_LIMIT
from marwright.parity.locate.deviation import Deviation
from marwright.parity.locate.layers import Trial
from marwright.parity.locate.onnx_graph import OnnxGraph
from marwright.parity.locate.onnx_slice import smallest_slice
from marwright.parity.locate.torchscript import first_wrong, load_traced, method_of
from marwright.parity.locate.traced_call import array
from marwright.parity.types import Divergence
from marwright.recipe.errors import ParityError

_HEAD = '''"""Exits with 1 while the error is there, 0 once it is gone, 2 if it cannot run."""

import sys
from pathlib import Path

try:
    import numpy as np
    import {library}
except ImportError as error:
    print(f"cannot run: {{error}}")
    sys.exit(2)

HERE = Path(__file__).resolve().parent
# What is allowed: root mean square over that of what is expected, and largest over largest.
LIMITS = {limits}
{constants}

def load(name):
    with np.load(HERE / name) as arrays:
        return [arrays[f"arr_{{place}}"] for place in range(len(arrays.files))]


def errors(output, expected):
    output, expected = output.astype(np.float64), expected.astype(np.float64)
    if output.shape != expected.shape:
        print(f"shape {{output.shape}}, not {{expected.shape}}")
        return np.inf, np.inf
    finite = np.isfinite(expected)
    if not np.array_equal(output[~finite], expected[~finite], equal_nan=True) or not np.isfinite(
        output[finite]
    ).all():
        print("NaN or infinity at other places than expected")
        return np.inf, np.inf
    error = np.abs(output[finite] - expected[finite])
    size = np.abs(expected[finite])
    largest = error.max(initial=0) / (size.max(initial=0) or 1e-30)
    return rms(error) / (rms(size) or 1e-30), largest


def rms(values):
    # Scaled first: squares of 1e-200 are zero, and of 1e200 infinite.
    scale = values.max(initial=0)
    return scale * np.sqrt(np.mean((values / scale) ** 2)) if scale else 0.0

'''
_TAIL = """

def main():
    if missing := [name for name in FILES if not (HERE / name).exists()]:
        print(f"cannot run: there is no {' and no '.join(missing)} beside it")
        return 2
    try:
        inputs, references = load("inputs.npz"), load("expected.npz")
    except Exception as error:
        print(f"cannot run: inputs.npz or expected.npz is damaged: {error}")
        return 2
    try:
        outputs = run(inputs)
    except Exception as error:
        print(f"it stops: {error}")
        return 1
    wrong = False
    for output, expected in zip(outputs, references):
        found = errors(output, expected)
        for name, error, limit in zip(("rms", "largest"), found, LIMITS):
            print(f"relative error, {name}: {error:.3g} (allowed: {limit:.3g})")
            wrong = wrong or not error <= limit
    print("wrong" if wrong else "right")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
"""
_RUN_ONNX = """
def run(inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = THREADS
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVEL)
    session = onnxruntime.InferenceSession(
        str(HERE / "model.onnx"), sess_options=options, providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs)))
"""
_RUN_TORCHSCRIPT = """
def tensors(values):
    if isinstance(values, torch.Tensor):
        return [values]
    values = values.values() if isinstance(values, dict) else values
    return [each for value in values for each in tensors(value)]


def run(inputs):
    import warnings

    warnings.simplefilter("ignore")
    model = torch.jit.load(str(HERE / "model.pt"), map_location="cpu").eval()
    with torch.no_grad():
        for _ in range(3):
            arguments = [
                torch.from_numpy(each.copy()).to(getattr(torch, dtype))
                for each, dtype in zip(inputs, DTYPES)
            ]
            outputs = tensors(getattr(model, METHOD)(*arguments))
    return [(each.float() if each.dtype is torch.bfloat16 else each).numpy() for each in outputs]
"""


def write_onnx_repro(
    folder: Path,
    divergence: Divergence,
    program: ONNXProgram,
    path: Path,
    inputs: NDArray[Any],
    *,
    k: float,
    floor: float,
    threads: int,
) -> None:
    """Write a folder that shows what `locate_onnx` found, from the same arguments.

    It has the smallest part of the file `path` that is wrong by itself. A folder that is there
    is replaced. Raises `ParityError` when the file cannot be read.
    """
    trial = Trial(
        program=program, graph=OnnxGraph.load(path), inputs=inputs,
        optimised=divergence.backend != "onnx", threads=threads,
    )  # fmt: skip
    part = smallest_slice(trial, divergence.node, k, floor)
    _start(folder)
    weights = sum(len(each.raw_data) for each in part.graph.proto.graph.initializer)
    onnx.save(part.graph.proto, folder / "model.onnx", save_as_external_data=weights > INLINE_LIMIT)
    level = "ORT_ENABLE_ALL" if trial.optimised else "ORT_DISABLE_ALL"
    _write(
        folder,
        _script(folder, "onnxruntime", part.limit, _RUN_ONNX, THREADS=threads, LEVEL=level),
        [part.feeds[name] for name in part.graph.inputs],
        [part.expected],
    )
    count, total = len(part.graph.nodes), len(trial.graph.nodes)
    what = (
        f"{count} of the {total} nodes of {path.name}, from {', '.join(part.graph.inputs)} to "
        f"{part.graph.outputs[0]}"
    )
    if not part.reproduces:
        what += "; this does not show the error by itself, and no smaller part did"
    fed = "the checkpoint's values in float64, rounded to the types that the model reads"
    packages = ("onnxruntime", "onnx", "torch")
    _explain(folder, divergence, "model.onnx", what, fed, part.limit, packages)


def write_torchscript_repro(
    folder: Path,
    divergence: Divergence,
    eager: nn.Module,
    path: Path,
    inputs: NDArray[Any],
    *,
    k: float,
    floor: float,
) -> None:
    """Write a folder that shows what `locate_torchscript` found, from the same arguments.

    It has the traced module that is wrong, alone. A folder that is there is replaced. Raises
    `ParityError` when the file cannot be read, or nothing is wrong.
    """
    wrong = first_wrong(eager, load_traced(path), inputs, k=k, floor=floor)
    if wrong is None:
        raise ParityError(f"{divergence.node} was wrong once, and is right when asked again")
    _start(folder)
    # Loaded again: what is left in training mode has changed its own statistics by now.
    module = dict(load_traced(path).named_modules(remove_duplicate=False))[wrong.path]
    torch.jit.save(module, str(folder / "model.pt"))
    limit, arguments = wrong.noise.limit(k, floor), wrong.answer.arguments
    dtypes = tuple(str(each.dtype).removeprefix("torch.") for each in arguments)
    script = _script(
        folder,
        "torch",
        limit,
        _RUN_TORCHSCRIPT,
        METHOD=method_of(wrong.call),
        DTYPES=dtypes,
    )
    _write(folder, script, [array(each) for each in arguments], wrong.answer.references)
    what = f"{divergence.node} of {path.name}, alone"
    types = ", ".join(dict.fromkeys(dtypes))
    fed = f"the checkpoint's own inputs of that module, in {types}"
    if "bfloat16" in dtypes:
        fed += " (stored as float32, as numpy has no bfloat16)"
    _explain(folder, divergence, "model.pt", what, fed, limit, ("torch",))


def _script(folder: Path, library: str, limit: Deviation, run: str, **constants: Any) -> str:
    """Return the script of a folder that has its model already."""
    files = (*sorted(each.name for each in folder.iterdir()), "inputs.npz", "expected.npz")
    constants = {"FILES": files, **constants}
    lines = "".join(f"{name} = {value!r}\n" for name, value in constants.items())
    limits = f"({_literal(limit.rms)}, {_literal(limit.largest)})"
    return _HEAD.format(library=library, limits=limits, constants=lines) + run + _TAIL


def _literal(value: float) -> str:
    """Return a number as Python reads it: infinity has no literal."""
    return repr(value) if math.isfinite(value) else f'float("{value}")'


def _start(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _write(
    folder: Path,
    script: str,
    inputs: Sequence[NDArray[Any]],
    expected: Sequence[NDArray[Any]],
) -> None:
    np.savez(folder / "inputs.npz", *inputs)
    np.savez(folder / "expected.npz", *expected)
    (folder / "repro.py").write_text(script, encoding="utf-8")


def _explain(
    folder: Path,
    divergence: Divergence,
    model: str,
    what: str,
    fed: str,
    limit: Deviation,
    packages: Sequence[str],
) -> None:
    made_with = [f"{name} {version(name)}" for name in ("numpy", *packages)]
    before, after = _shown(divergence.before), _shown(divergence.after)
    text = f"""{divergence.node} ({divergence.op}) in {divergence.backend}

{divergence.how}.
Relative error (root mean square): {before} before it, {after} after it.
Allowed, from what eager torch errs there: {limit.rms:.3g}.

Run: python repro.py
It needs numpy and {packages[0]}, prints the error, and exits with 1 while it is there, with 0
once it is gone, and with 2 if it cannot run.

{model}: {what}.
inputs.npz: what goes in: {fed}.
expected.npz: what the checkpoint makes of them in float64.

Made with Python {platform.python_version()}, {", ".join(made_with)}, on {platform.machine()}.
"""
    (folder / "README.txt").write_text(text, encoding="utf-8")


def _shown(error: float) -> str:
    return f"{error:.3g}" if error >= 0 else "not measurable"
