"""An ONNX graph that can be run with any of its values as outputs, and cut."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from marwright.export.onnx_session import open_session, told
from marwright.recipe.errors import ParityError

Array = NDArray[Any]


class OnnxGraph:
    """The graph of an ONNX file: its nodes in order, what makes each value, and its weights.

    `folder` is where external weights lie. Names of `inputs` and `outputs` are in order.
    """

    def __init__(self, proto: ModelProto, folder: Path) -> None:
        self.proto, self.folder = proto, folder
        graph = proto.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.weights: dict[str, TensorProto] = {each.name: each for each in graph.initializer}
        self.inputs = [each.name for each in graph.input if each.name not in self.weights]
        self.outputs = [each.name for each in graph.output]
        self.makers: dict[str, NodeProto] = {
            value: node for node in self.nodes for value in node.output if value
        }
        self._places = {id(node): place for place, node in enumerate(self.nodes)}
        self._types: dict[str, ValueInfoProto] = {
            each.name: each for each in (*graph.input, *graph.output, *graph.value_info)
        }

    @classmethod
    def load(cls, path: Path) -> OnnxGraph:
        """Read a file; external weights stay where they are. Raises `ParityError`."""
        try:
            return cls(onnx.load(path, load_external_data=False), path.parent)
        # protobuf's error has no public name that onnx keeps.
        except Exception as error:
            raise ParityError(f"{path.name}: onnx cannot read it: {told(error)}") from error

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators; 0 where none is imported."""
        imports: dict[str, int] = {each.domain: each.version for each in self.proto.opset_import}
        return imports.get("", imports.get("ai.onnx", 0))

    def weight(self, name: str) -> Array:
        """Return the values of an initialiser. Raises `ParityError` when its file is missing."""
        try:
            return onnx.numpy_helper.to_array(self.weights[name], str(self.folder))
        except (onnx.checker.ValidationError, OSError) as error:
            raise ParityError(f"the weight {name} cannot be read: {told(error)}") from error

    def between(self, value: str, known: Collection[str]) -> tuple[list[NodeProto], list[str]]:
        """Return the nodes that make a value from values that are known, and which these are.

        Nodes are in the graph's order. Its inputs are known; `value` itself is not.
        """
        stop = {*known, *self.inputs} - {value}
        wanted, nodes, sources = [value], set[int](), dict[str, None]()
        while wanted:
            name = wanted.pop()
            if name in stop:
                sources[name] = None
            elif name in self.makers and self._places[id(self.makers[name])] not in nodes:
                nodes.add(self._places[id(self.makers[name])])
                wanted += read_by(self.makers[name])
        return [self.nodes[place] for place in sorted(nodes)], list(sources)

    def cut(self, value: str, known: Collection[str], arrays: Mapping[str, Array]) -> OnnxGraph:
        """Return a graph of its own that makes a value from known ones, with its weights inside.

        Of those that the graph declares no type of, `arrays` tell it.
        """
        nodes, sources = self.between(value, known)
        read = {name for node in nodes for name in read_by(node)}
        graph = onnx.helper.make_graph(
            nodes,
            "slice",
            [self._typed(name, arrays) for name in sources],
            [self._types.get(value, ValueInfoProto(name=value))],
            [
                onnx.numpy_helper.from_array(self.weight(name), name)
                for name in self.weights
                if name in read
            ],
        )
        proto = onnx.helper.make_model(
            graph,
            ir_version=self.proto.ir_version,
            opset_imports=self.proto.opset_import,
            functions=self.proto.functions,
        )
        return OnnxGraph(proto, self.folder)

    def until(self, node: NodeProto) -> OnnxGraph:
        """Return the graph of the nodes before one of them, without outputs."""
        proto = ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.node[self._places[id(node)] :]
        del proto.graph.output[:]
        return OnnxGraph(proto, self.folder)

    def size(self, value: str, batch: int) -> int:
        """Return about how many elements a value has, from its declared shape; 0 if it has none."""
        count = 1
        dims = self._types[value].type.tensor_type.shape.dim if value in self._types else []
        for dim in dims:
            # As in "64*batch".
            factors = [int(each) for each in re.findall(r"\d+", dim.dim_param)]
            count *= batch * math.prod(factors) if dim.dim_param else dim.dim_value
        return count if dims else 0

    def _typed(self, name: str, arrays: Mapping[str, Array]) -> ValueInfoProto:
        if name in self._types:
            return self._types[name]
        array = arrays[name]
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        typed: ValueInfoProto = onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim)
        return typed

    def run(
        self,
        values: Sequence[str],
        feeds: Mapping[str, Array],
        *,
        optimised: bool,
        threads: int,
    ) -> dict[str, Array]:
        """Return values of the graph, by name; its own outputs are computed as well.

        Raises `RuntimeError` with what onnxruntime says, in one line.
        """
        # To onnxruntime, none means all.
        if not values:
            return {}
        graph, own = self.proto.graph, set(self.outputs)
        exposed = [ValueInfoProto(name=value) for value in values if value not in own]
        graph.output.extend(exposed)
        try:
            session = open_session(
                self.proto.SerializeToString(),
                optimised=optimised,
                threads=threads,
                weights=self.folder,
            )
            return dict(zip(values, session.run(list(values), dict(feeds)), strict=True))
        # Its exceptions share no public base but this one.
        except Exception as error:
            raise RuntimeError(told(error)) from error
        finally:
            del graph.output[len(own) :]


def read_by(node: NodeProto) -> list[str]:
    """Return the names of the values that a node reads, those inside its branches included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for body in _bodies(attribute):
            names += _captured(body)
    return names


def label(node: NodeProto) -> str:
    """Return a node's name, or that of what it makes: names are optional in ONNX."""
    return node.name or next((value for value in node.output if value), node.op_type)


def _bodies(attribute: AttributeProto) -> Iterable[GraphProto]:
    return [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs


def _captured(body: GraphProto) -> list[str]:
    made = {value.name for value in (*body.input, *body.initializer)}
    made |= {value for node in body.node for value in node.output}
    read = [name for node in body.node for name in read_by(node)]
    read += [value.name for value in body.output]
    return [name for name in read if name not in made]
