"""The checkpoint, node by node: what the ONNX exporter starts from, in float64 and in float32.

The exporter gives the values of an ONNX file the names of the program that it made them from, so
the two can be compared at every node that kept its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import fx
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_map

from marwright.parity.float64 import Float64, lifted
from marwright.parity.locate.deviation import Deviation, deviation

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node of the program: its name, the path of the module it belongs to, its float64
    value, and what float32 makes of it.
    """

    name: str
    module: str
    reference: Array
    float32: Array

    def noise(self) -> Deviation:
        """Return the error of float32."""
        return deviation(self.float32, self.reference)


def value_names(program: torch.onnx.ONNXProgram, outputs: Sequence[str]) -> dict[str, str]:
    """Map the program's nodes that give a tensor to the names of values in an ONNX file.

    They are the same, but for those that the file calls its `outputs`.
    """
    nodes = _graph(program).graph.nodes
    names = {node.name: node.name for node in nodes if _gives_tensor(node)}
    [last] = [node for node in nodes if node.op == "output"]
    made = [node.name for node in last.args[0] if isinstance(node, fx.Node)]
    return names | dict(zip(made, outputs, strict=False))


def walk(program: torch.onnx.ONNXProgram, inputs: NDArray[Any]) -> Iterator[Step]:
    """Run the program on `(n, *shape)` in both precisions at once, one node at a time.

    Values are freed after their last use: do not keep the steps. Shared memory: do not write.
    """
    module = _graph(program)
    arguments = _arguments(program, torch.from_numpy(inputs))
    exact, rounded = _Exact(module), _Interpreter(module)
    exact.args_iter, rounded.args_iter = iter(arguments), iter(arguments)
    for node in module.graph.nodes:
        with torch.no_grad():
            with Float64():  # type: ignore[no-untyped-call]
                reference = exact.step(node)
            float32 = rounded.step(node)
        if _gives_tensor(node):
            yield Step(
                name=node.name,
                module=_module_of(node),
                reference=_array(reference),
                float32=_array(float32),
            )


class _Interpreter(fx.Interpreter):
    def step(self, node: fx.Node) -> Any:
        """Run one node, and forget what nothing will read any more."""
        value = self.env[node] = self.run_node(node)
        for dead in self.user_to_last_uses.get(node, []):
            del self.env[dead]
        return value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        # A dispatch mode has no rule for it, and would not see inside.
        if target is torch.ops.higher_order.cond:
            condition, if_true, if_false, operands = args
            return type(self)(if_true if condition else if_false).run(*operands)
        return super().call_function(target, args, kwargs)


class _Exact(_Interpreter):
    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        # Parameters are lifted here, one operation at a time, and not all at once.
        args, kwargs = tree_map(lifted, (args, kwargs))
        return super().call_function(target, args, kwargs)


def _graph(program: torch.onnx.ONNXProgram) -> fx.GraphModule:
    exported = program.exported_program
    assert exported is not None
    module = exported.graph_module
    assert isinstance(module, fx.GraphModule)
    return module


def _arguments(program: torch.onnx.ONNXProgram, inputs: torch.Tensor) -> list[Any]:
    exported = program.exported_program
    assert exported is not None
    found: list[Any] = []
    for spec in exported.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            found.append(inputs)
        else:
            assert spec.target is not None
            # Buffers that are not saved with a model are among the constants.
            held = spec.target in exported.state_dict
            found.append((exported.state_dict if held else exported.constants)[spec.target])
    return found


def _gives_tensor(node: fx.Node) -> bool:
    return node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor)


def _array(value: torch.Tensor) -> Array:
    value = value.detach()
    # ONNX has no complex numbers: the exporter puts their parts into a last axis.
    value = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    return (value.float() if value.dtype is torch.bfloat16 else value).numpy()


def _module_of(node: fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).removeprefix("L['self'].") if stack else ""
