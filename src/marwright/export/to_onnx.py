"""Export a checkpoint to ONNX: dynamic batch axis, the declared opset, byte-stable."""

from __future__ import annotations

import inspect
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
import torch
from torch import nn

from marwright.export.error import told_as_export_error
from marwright.export.onnx_session import named_node, open_session, told
from marwright.recipe.errors import ExportError
from marwright.training.examples import zeros
from marwright.training.inference import for_inference, inference
from marwright.training.places import frames_in, innermost, noting_lines

if TYPE_CHECKING:
    from marwright.runtime.spec import Dtype

ONNX = "model.onnx"
# The names of its one input and its one output.
INPUT, OUTPUT = "input", "output"
# The key of a file's metadata that says which weights are in it.
ORIGIN = "marwright.weights"
# A protobuf message cannot exceed 2 GiB; what else is in the file needs room too.
INLINE_LIMIT = 2**31 - 64 * 2**20


def export_onnx(
    model: nn.Module,
    shape: tuple[int, ...],
    opset: int,
    folder: Path,
    *,
    dtype: Dtype = "float32",
    dynamic: Mapping[int, tuple[str, int, int]] | None = None,
    origin: str = "",
    inline_limit: int = INLINE_LIMIT,
) -> Path:
    """Write `model.onnx`, from `input` `(batch, *shape)` to `output` float32 `(batch, outputs)`.

    `dynamic` names further axes of a sample that may vary, with the least and the most of each.
    `origin` is the SHA-256 of the checkpoint's weights, and is kept in the file's metadata. The
    weights are inside; above `inline_limit` bytes they are in one `model.onnx.data` beside it.
    Raises `ExportError` when the exporter fails, gives another opset, or loses a dynamic axis,
    and when the ONNX checker refuses the file.
    """
    exported = export_program(model, shape, opset, dynamic or {}, dtype).model
    places = {node.name or "": _place(node) for node in exported.graph.all_nodes()}
    for graph in (exported.graph, *(f.graph for f in exported.functions.values())):
        _strip(graph)
    exported.metadata_props.clear()
    if origin:
        exported.metadata_props[ORIGIN] = origin
    exported.doc_string = None
    _check_declared(exported, opset, dynamic or {})
    path = folder / ONNX
    initializers = exported.graph.initializers.values()
    weights = sum(value.const_value.nbytes for value in initializers if value.const_value)
    side_file = f"{ONNX}.data" if weights > inline_limit else None
    ir.save(exported, path, external_data=side_file)
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        said = told(error)
        place = places.get(named_node(said), "")
        raise ExportError(
            f"{place + ': ' if place else ''}{ONNX}: the ONNX checker refuses it: {said}: compute "
            "it from other operators, in float32"
        ) from error
    _check_loads(path, places)
    return path


def _place(node: ir.Node) -> str:
    """Return the operator of torch's that a node was made for, and its line in the source."""
    operator = node.metadata_props.get("pkg.torch.onnx.fx_node", "")
    found = re.search(r"torch\.ops\.(\w+\.\w+)", operator)
    place = innermost(frames_in(node.metadata_props.get("pkg.torch.onnx.stack_trace", "")))
    return ": ".join(each for each in (place, found[1] if found else "") if each)


def _check_loads(path: Path, places: Mapping[str, str]) -> None:
    """Load the file as it is judged and served. Raises `ExportError` where onnxruntime cannot."""
    for optimised in (False, True):
        try:
            open_session(path, optimised=optimised, threads=1)
        # Its exceptions share no public base but this one.
        except Exception as error:
            said = told(error)
            place = places.get(named_node(said), "")
            raise ExportError(
                f"{place + ': ' if place else ''}onnxruntime cannot run what the model exports to: "
                f"{said}: compute it from other operators, in float32"
            ) from error


def export_program(
    model: nn.Module,
    shape: tuple[int, ...],
    opset: int,
    dynamic: Mapping[int, tuple[str, int, int]],
    dtype: Dtype = "float32",
) -> torch.onnx.ONNXProgram:
    """Return what torch's exporter makes of a model. Raises `ExportError` when it fails."""
    model = for_inference(model)
    axes: dict[int, Any] = {0: torch.export.Dim("batch")}
    for axis, (name, least, most) in dynamic.items():
        axes[axis + 1] = torch.export.Dim(name, min=least, max=most)
    with warnings.catch_warnings():
        # The exporter's own use of what torch deprecates is not for our users to mend.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # Of torch's own recurrent layers, which keep a list of their parameters.
        for said in (
            r"The tensor attributes .*\._flat_weights",
            r"The \.grad attribute of a Tensor",
        ):
            warnings.filterwarnings("ignore", said, UserWarning)
        warnings.filterwarnings("ignore", r"The tensor attribute .* assigned during export")
        cannot = "the model cannot be exported to ONNX"
        with inference(), noting_lines(), told_as_export_error(cannot, model):
            program = torch.onnx.export(
                model,
                (zeros(2, shape, dtype),),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=_dynamic_shapes(model, axes),
                verbose=False,
            )
    assert program is not None
    return program


def _dynamic_shapes(model: nn.Module, axes: dict[int, Any]) -> tuple[Any, ...]:
    """Return the axes that vary, as a `forward(self, *inputs)` wants them where it is one."""
    first = next(iter(inspect.signature(model.forward).parameters.values()), None)
    several = first is not None and first.kind is inspect.Parameter.VAR_POSITIONAL
    return ((axes,),) if several else (axes,)


def _strip(graph: ir.Graph) -> None:
    """Remove stack traces and source paths, which differ from folder to folder."""
    graph.metadata_props.clear()
    graph.doc_string = None
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None


def _check_declared(
    exported: ir.Model, opset: int, dynamic: Mapping[int, tuple[str, int, int]]
) -> None:
    actual = exported.graph.opset_imports.get("", 0)
    if actual != opset:
        raise ExportError(
            f"asked for opset {opset}, the exporter gave {actual}: set [export] opset = {actual}"
        )
    for value in (*exported.graph.inputs, *exported.graph.outputs):
        if value.shape is None or not value.shape.is_dynamic(0):
            raise ExportError(
                f"{value.name}: the batch axis is fixed at {value.shape and value.shape[0]}: the "
                "model bakes a batch size into its graph"
            )
    if (given := [value.dtype for value in exported.graph.outputs]) != [ir.DataType.FLOAT]:
        kinds = ", ".join(str(kind) for kind in given) or "nothing"
        raise ExportError(
            f"the model gives {kinds}, and exports promise one float32 tensor: return that alone, "
            "with .float()"
        )
    for axis, (name, least, most) in dynamic.items():
        [value] = exported.graph.inputs
        assert value.shape is not None
        if not value.shape.is_dynamic(axis + 1):
            raise ExportError(
                f"{value.name}: the {name} is fixed at {value.shape[axis + 1]}, and the recipe "
                f"says {least} to {most}: the model bakes a size into its graph"
            )


def copy_with_side_file(source: Path, target: Path) -> None:
    """Copy an ONNX file whose weights lie beside it, as `target` and `<target>.data`.

    The file names its side file, so a copy under another name has to name another one.
    """
    side_file = target.with_name(f"{target.name}.data")
    model = onnx.load(source, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = side_file.name
    shutil.copyfile(source.with_name(f"{source.name}.data"), side_file)
    onnx.save(model, target)
