"""The ONNX file: a batch axis that is dynamic, the opset that was asked for, and stable bytes."""

from __future__ import annotations

import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from torch import nn

from marwright.export import to_onnx as onnx_export
from marwright.export.to_onnx import ONNX, ORIGIN, copy_with_side_file, export_onnx
from marwright.recipe.errors import ExportError
from marwright.training.models import mlp, small_cnn

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

OPSET = 20


def seeded(build: Any, *arguments: Any, **values: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model: nn.Module = build(*arguments, **values)
    return model


def small_mlp() -> nn.Module:
    return seeded(mlp.build, (4,), 3, hidden=8, dropout=0.5)


def run(path: Path, inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(["output"], {"input": inputs.numpy()})
    return np.asarray(output)


def assert_follows(path: Path, model: nn.Module, shape: tuple[int, ...]) -> None:
    """Hold the file against the model at batches that it was not exported with."""
    for batch in (1, 2, 5):
        inputs = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            expected = model.eval()(inputs).numpy()
        output = run(path, inputs)
        assert output.shape == expected.shape
        assert np.allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "shape", "values"),
    [(mlp.build, (4,), {"hidden": 8}), (small_cnn.build, (1, 8, 8), {"width": 4})],
    ids=["mlp", "small_cnn"],
)
def test_file_follows_the_model_at_every_batch_size(
    tmp_path: Path, build: Any, shape: tuple[int, ...], values: dict[str, int]
) -> None:
    # As training leaves it: dropout and batch norm must not be exported that way.
    model = seeded(build, shape, 3, **values).train()
    path = export_onnx(model, shape, OPSET, tmp_path)
    assert path == tmp_path / ONNX
    assert list(tmp_path.iterdir()) == [path]
    assert_follows(path, model, shape)
    graph = onnx.load(path).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert "Dropout" not in {node.op_type for node in graph.node}


SIZES = {1: ("height", 4, 16), 2: ("width", 6, 12)}


class Averaged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs).mean((2, 3))


@pytest.mark.parametrize("declared", [SIZES, {2: SIZES[2]}, None], ids=["both", "width", "none"])
def test_only_the_sizes_that_were_declared_vary(tmp_path: Path, declared: Any) -> None:
    model = seeded(Averaged)
    path = export_onnx(model, (1, 8, 8), OPSET, tmp_path, dynamic=declared)
    (value,) = onnx.load(path).graph.input
    shape = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
    assert shape == ["batch", 1, *((declared or {}).get(axis, (8,))[0] for axis in (1, 2))]
    for size in ((8, 8), (4, 8), (16, 8), (8, 6), (8, 12)):
        if all(is_size == 8 or axis in (declared or {}) for axis, is_size in enumerate(size, 1)):
            assert_follows(path, model, (1, *size))
        else:
            with pytest.raises(Exception, match="Got invalid dimensions for input"):
                run(path, torch.zeros(2, 1, *size))


class Positioned(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs + torch.arange(8.0)[:, None]).mean((2, 3))


def test_model_that_bakes_a_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as refusal:
        export_onnx(Positioned(), (1, 8, 8), OPSET, tmp_path, dynamic=SIZES)
    assert str(refusal.value) == (
        "input: the height is fixed at 8, and the recipe says 4 to 16: the model bakes a size into "
        "its graph"
    )
    assert list(tmp_path.iterdir()) == []


def test_file_says_which_weights_are_in_it(tmp_path: Path) -> None:
    model = small_mlp()
    for origin, kept in (("ab" * 32, {ORIGIN: "ab" * 32}), ("", {})):
        path = export_onnx(model, (4,), OPSET, tmp_path, origin=origin)
        assert {p.key: p.value for p in onnx.load(path).metadata_props} == kept


def test_opset_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    path = export_onnx(small_mlp(), (4,), 23, tmp_path)
    imports = {entry.domain: entry.version for entry in onnx.load(path).opset_import}
    assert imports[""] == 23


def test_opset_that_the_exporter_silently_replaces_is_refused(tmp_path: Path) -> None:
    """It says nothing and keeps 18 where it knows no way to the opset that was asked for."""
    with pytest.raises(ExportError) as refusal:
        export_onnx(small_mlp(), (4,), 99, tmp_path)
    assert str(refusal.value) == (
        "asked for opset 99, the exporter gave 18: set [export] opset = 18"
    )
    assert list(tmp_path.iterdir()) == []


MODEL_SOURCE = """
import torch
from torch import nn

class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs):
        return torch.cond(
            inputs.sum() > 0, lambda x: self.layer(x), lambda x: -self.layer(x), (inputs,)
        )
"""


def model_from(folder: Path) -> nn.Module:
    """Import the same network from a source file in this folder."""
    folder.mkdir()
    (folder / "a_private_place.py").write_text(MODEL_SOURCE)
    spec = spec_from_file_location("a_private_place", folder / "a_private_place.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return seeded(module.Gated)


def test_file_does_not_tell_where_it_was_made(tmp_path: Path) -> None:
    """Two source folders, two target folders, branches with graphs of their own: equal bytes."""
    exported = []
    for name in ("one", "two"):
        model = model_from(tmp_path / name)
        path = export_onnx(model, (4,), OPSET, tmp_path / name)
        exported.append(path.read_bytes())
        assert_follows(path, model, (4,))
    assert exported[0] == exported[1]
    for trace in (b"a_private_place", b".py", b"/", b"stack_trace", b"pkg.torch", b"Gated"):
        assert trace not in exported[0], trace


def test_weights_beyond_the_limit_go_to_one_side_file(tmp_path: Path) -> None:
    model = seeded(mlp.build, (64,), 3, hidden=64)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        export_onnx(model, (64,), OPSET, tmp_path / name, inline_limit=1000)
    one, two = tmp_path / "one", tmp_path / "two"
    assert sorted(path.name for path in one.iterdir()) == [ONNX, f"{ONNX}.data"]
    assert (one / ONNX).stat().st_size < 64 * 64 * 4 < (one / f"{ONNX}.data").stat().st_size
    assert_follows(one / ONNX, model, (64,))
    for name in (ONNX, f"{ONNX}.data"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
        assert str(tmp_path).encode() not in (one / name).read_bytes()


def test_copy_under_another_name_names_its_own_side_file(tmp_path: Path) -> None:
    model = seeded(mlp.build, (64,), 3, hidden=64)
    (tmp_path / "build").mkdir()
    source = export_onnx(model, (64,), OPSET, tmp_path / "build", inline_limit=1000)
    target = tmp_path / "dist" / "tiny-1.0.onnx"
    target.parent.mkdir()
    copy_with_side_file(source, target)
    shutil.rmtree(tmp_path / "build")
    assert sorted(p.name for p in target.parent.iterdir()) == [target.name, f"{target.name}.data"]
    assert_follows(target, model, (64,))


def test_weights_at_the_limit_stay_inside(tmp_path: Path) -> None:
    model = seeded(nn.Linear, 4, 3)
    export_onnx(model, (4,), OPSET, tmp_path, inline_limit=(4 * 3 + 3) * 4)
    assert [path.name for path in tmp_path.iterdir()] == [ONNX]


class Reshaped(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.reshape(2, 4)


class Padded(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + torch.arange(2.0)[:, None]


class Expanded(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.mean(0, keepdim=True).expand(2, 4)


@pytest.mark.parametrize(
    ("model", "value"), [(Reshaped(), "input"), (Padded(), "input"), (Expanded(), "output")]
)
def test_model_that_bakes_its_batch_is_refused(
    tmp_path: Path, model: nn.Module, value: str
) -> None:
    with pytest.raises(ExportError) as refusal:
        export_onnx(model, (4,), OPSET, tmp_path)
    assert str(refusal.value) == (
        f"{value}: the batch axis is fixed at 2: the model bakes a batch size into its graph"
    )
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs if inputs.sum() > 0 else -inputs


def test_model_that_decides_by_its_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot be exported to ONNX: .*data-dependent"):
        export_onnx(Branching(), (4,), OPSET, tmp_path)
    assert list(tmp_path.iterdir()) == []


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Gemini"


def missing_input(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nothing"


def wrong_shape(model: onnx.ModelProto) -> None:
    """Only shape inference can tell."""
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(small_mlp(), (4,), OPSET, tmp_path_factory.mktemp("healthy"))


@pytest.mark.parametrize("damage", [unknown_operator, missing_input, wrong_shape])
def test_file_that_the_checker_refuses_is_no_export(
    healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    save = onnx_ir.save

    def damaged(model: onnx_ir.Model, path: Path, **options: Any) -> None:
        save(model, path, **options)
        proto = onnx.load(path)
        damage(proto)
        onnx.save(proto, path)

    # What the exporter gave once, because it takes its time.
    monkeypatch.setattr(
        onnx_export, "export_program", lambda *_: SimpleNamespace(model=onnx_ir.load(healthy))
    )
    export_onnx(small_mlp(), (4,), OPSET, tmp_path)
    monkeypatch.setattr(onnx_ir, "save", damaged)
    with pytest.raises(ExportError, match=r"^model\.onnx: the ONNX checker refuses it: "):
        export_onnx(small_mlp(), (4,), OPSET, tmp_path)
