"""ONNX graphs written by hand, so that what int8 does to them is known, and data for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from marwright.export.quantise.int8 import Samples
from marwright.training.samples import TableSamples
from marwright.training.types import Splits
from tests.specs import numbers

Array = NDArray[np.float32]
# Of the columns a and b of a row.
COLUMNS = 2


def model_of(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, Array],
    *,
    inputs: tuple[int, ...] = (COLUMNS,),
    outputs: tuple[int, ...] = (1,),
) -> ModelProto:
    """Return a checked model from `input` to `output`, both float32 with a dynamic batch axis."""
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *inputs])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", *outputs])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def chain(*matrices: Sequence[Sequence[float]]) -> ModelProto:
    """Return a model of matrix products with zero biases, `layer_0` and so on, and no more."""
    weights = {f"weight_{i}": np.array(rows, dtype=np.float32) for i, rows in enumerate(matrices)}
    weights |= {
        f"bias_{i}": np.zeros(len(rows[0]), dtype=np.float32) for i, rows in enumerate(matrices)
    }
    values = ["input", *(f"value_{i}" for i in range(len(matrices) - 1)), "output"]
    nodes = [
        helper.make_node(
            "Gemm",
            [values[i], f"weight_{i}", f"bias_{i}"],
            [values[i + 1]],
            f"layer_{i}",
        )
        for i in range(len(matrices))
    ]
    sizes = {"inputs": (len(matrices[0]),), "outputs": (len(matrices[-1][0]),)}
    return model_of(nodes, weights, **sizes)


KEEP = [[1.0, 0.0], [0.0, 1.0]]
# A third value, ten thousand times the first, which nobody needs: one scale for all three leaves
# nothing of the others.
WIDEN = [[1.0, 0.0, 1e4], [0.0, 1.0, 0.0]]
STAY_WIDE = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
NARROW = [[1.0], [1.0], [0.0]]
SUM = [[1.0], [1.0]]


def harmless() -> ModelProto:
    """Return a + b in four layers that int8 hardly harms."""
    return chain(KEEP, KEEP, KEEP, SUM)


def outlier() -> ModelProto:
    """Return a + b, one of whose four layers, `layer_3`, reads values of very different sizes."""
    return chain(KEEP, KEEP, WIDEN, NARROW)


def hopeless() -> ModelProto:
    """Return a + b, three of whose four layers read values of very different sizes."""
    return chain(WIDEN, STAY_WIDE, STAY_WIDE, NARROW)


def written(model: ModelProto, folder: Path) -> Path:
    """Write a model to a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def samples_of(train: int = 300, validation: int = 100) -> Samples:
    """Return rows of a and b from -1 to 1, with the target a + b; the test split's are NaN."""
    count = train + validation + 50
    rows = np.random.default_rng(0).uniform(-1, 1, (count, COLUMNS))
    targets = rows.sum(axis=1)
    rows[train + validation :] = np.nan
    table = TableSamples(rows=rows, targets=targets, columns=("a", "b"), target="sum")
    splits = Splits(
        samples=table,
        contents=("",) * len(table),
        train=np.arange(train),
        validation=np.arange(train, train + validation),
        test=np.arange(train + validation, count),
    )
    spec = numbers(
        ("a", "b"), center=(0.0, 0.0), scale=(1.0, 1.0),
        target="sum", target_mean=0.0, target_std=1.0,
    )  # fmt: skip
    return Samples(splits=splits, spec=spec, task="regression")
