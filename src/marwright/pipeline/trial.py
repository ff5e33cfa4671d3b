"""The export of a network that has not been trained yet: what cannot ship is not worth an hour.

It is tried in a process of its own, forked from the one that trains: that one keeps its random
numbers, its modules and its memory as they were. What passed is not tried again while nothing has
changed that an export is a function of.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marwright.files import write_bytes
from marwright.pipeline.keys import KeyMaker, digest
from marwright.pipeline.layout import Layout
from marwright.pipeline.steps.onnx import STEP as ONNX_STEP
from marwright.pipeline.steps.trace import STEP as TRACE_STEP
from marwright.recipe.errors import ExportError, MarwrightError, ParityError
from marwright.recipe.extras import require

if TYPE_CHECKING:
    from torch import nn

    from marwright.pipeline.step import Job
    from marwright.recipe.types import Recipe
    from marwright.runtime.spec import PreprocessSpec

# Beside the records of steps; it names the key of what passed.
PASSED = "export_tried"
_ROWS = 3


def try_export(job: Job, network: nn.Module, spec: PreprocessSpec, outputs: int) -> None:
    """Trace, export, load and run an untrained network as its checkpoint will be.

    Raises `ExportError` with what the steps after training would say.
    """
    passed = job.out.parent / "state" / PASSED
    key = _key(job, spec, outputs)
    if passed.exists() and passed.read_text(encoding="utf-8") == key:
        return
    job.progress(0, 1, "trying the export of the untrained network")
    refuse_unexportable(job.recipe, network, spec)
    write_bytes(passed, key.encode())


def refuse_unexportable(
    recipe: Recipe, network: nn.Module, spec: PreprocessSpec, log: Path | None = None
) -> None:
    """Try the export of a network, which stays as it is; what is printed goes to `log`, if any.

    Raises `ExportError` with what the steps after training would say, and `MissingError` where
    they could not run.
    """
    from marwright.export.error import of_factory

    require("onnx", "onnxscript", "onnxruntime")
    with of_factory(recipe):
        if said := _in_a_fork(lambda: tried(network, recipe, spec), log):
            raise ExportError(said)


def _key(job: Job, spec: PreprocessSpec, outputs: int) -> str:
    keys = KeyMaker(Layout(root=job.root))
    parts: dict[str, Any] = {"shape": list(spec.shape), "outputs": outputs}
    for step in (TRACE_STEP, ONNX_STEP):
        parts |= keys.parts(step, job.recipe, {})
    return digest(parts)


def tried(network: nn.Module, recipe: Recipe, spec: PreprocessSpec) -> None:
    """Export a network, which is prepared in place, and hold the exports against it.

    Raises `ExportError` where one of the steps behind training would fail.
    """
    import torch

    from marwright.export.error import told_as_export_error
    from marwright.export.purity import most_apart, refuse_changed, refuse_dependent
    from marwright.export.quantise.graph import layers_of, read_graph
    from marwright.export.to_onnx import export_onnx
    from marwright.export.trace import trace
    from marwright.parity.backends import onnx_backend, reference_backend
    from marwright.training.examples import drawn
    from marwright.training.inference import for_inference

    shape, dtype, export = spec.shape, spec.dtype, recipe.export
    inputs = drawn(_ROWS, shape, dtype, torch.Generator().manual_seed(4))
    with tempfile.TemporaryDirectory() as folder:
        network = refuse_changed(network, for_inference, inputs)
        trace(network, shape, Path(folder), dtype=dtype, precision=export.precision)
        refuse_dependent(network, shape, dtype)
        with told_as_export_error("the gate cannot compute the model in float64", network):
            expected = reference_backend(network)(inputs.numpy())
        path = export_onnx(
            network, shape, export.opset, Path(folder), dtype=dtype, dynamic=recipe.dynamic_axes
        )
        if export.precision == "int8":
            layers_of(read_graph(path))
        try:
            found = onnx_backend(path, optimised=True, threads=1, dtype=dtype)(inputs.numpy())
        except (ParityError, RuntimeError) as error:
            raise ExportError(f"onnxruntime fails: {error}") from error
        if most_apart(torch.from_numpy(expected), torch.from_numpy(found)):
            raise ExportError(
                "the ONNX file answers otherwise than the model: look for a branch on "
                "torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()"
            )


def _in_a_fork(work: Callable[[], None], log: Path | None = None) -> str:
    """Do some work in a copy of this process; returns what it raised, or how it was killed.

    What it prints, and tracebacks, go where this process's do, or to the end of `log`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        # Python warns of locks that other threads hold: torch's are not used in the copy.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        os.close(read_end)
        _end_after(work, write_end, log)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code and not text:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        hint = "; out of memory?" if code == -signal.SIGKILL else ""
        return f"the export of the untrained network {how}{hint}"
    return text


def _end_after(work: Callable[[], None], descriptor: int, log: Path | None) -> None:
    """Do some work in the copy, tell of it, and end without what the original does at its end."""
    code = 1
    # Whatever happens, no other line of the original's is run here.
    try:
        with contextlib.suppress(OSError, AttributeError):
            # Ends with the original (PR_SET_PDEATHSIG, prctl(2)).
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if log is not None:
            with log.open("ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
        _calm_torch()
        work()
        code = 0
    except MarwrightError as error:
        traceback.print_exc()
        os.write(descriptor, str(error).encode())
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        os.write(descriptor, f"the export of the untrained network: {error!r}".encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _calm_torch() -> None:
    import torch

    # A pool of threads is not copied; and the steps behind training ask for no determinism.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
