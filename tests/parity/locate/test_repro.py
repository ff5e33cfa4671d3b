"""The folder runs by itself: it fails while the fault is there, and not when it is mended."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, numpy_helper

from marwright.export.to_onnx import export_onnx
from marwright.parity.locate.deviation import UNLIKE, Deviation
from marwright.parity.locate.onnx_node import OnnxBackend, locate_onnx
from marwright.parity.locate.repro import write_onnx_repro, write_torchscript_repro
from marwright.parity.locate.torchscript import locate_torchscript
from marwright.parity.types import Divergence
from marwright.recipe.errors import ParityError
from tests.parity.locate.exported import (
    FLOOR,
    OPSET,
    SHAPE,
    K,
    program,
    reweigh,
    rows,
    seeded,
    small,
    written,
)
from tests.parity.locate.test_fused import almost_gelu, inputs
from tests.parity.locate.test_onnx_node import batch_of_one, nudge, root, unpadded
from tests.parity.locate.test_torchscript import Odd, Train, traced, with_nudge

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def run(folder: Path, elsewhere: Path, *options: str) -> tuple[int, str]:
    """Run it in another place, where nothing of the project can be imported."""
    shutil.rmtree(elsewhere, ignore_errors=True)
    shutil.copytree(folder, elsewhere)
    ran = subprocess.run(
        [sys.executable, "-I", *options, "-W", "error", "repro.py"],
        cwd=elsewhere, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


def onnx_repro(
    tmp_path: Path, fault: Callable[[ModelProto], None], backend: OnnxBackend = "onnx"
) -> Path:
    options = {"k": K, "floor": FLOOR, "threads": 1}
    path = written(tmp_path, fault)
    found = locate_onnx(program(), path, rows(), backend=backend, **options)
    assert found is not None
    folder = tmp_path / "repro"
    write_onnx_repro(folder, found, program(), path, rows(), **options)
    assert sorted(each.name for each in folder.iterdir()) == [
        "README.txt", "expected.npz", "inputs.npz", "model.onnx", "repro.py"
    ]  # fmt: skip
    return folder


@pytest.mark.parametrize("backend", ["onnx", "onnx optimised"])
def test_onnx_slice_fails_until_it_is_mended(tmp_path: Path, backend: OnnxBackend) -> None:
    folder = onnx_repro(tmp_path, nudge, backend)
    script = (folder / "repro.py").read_text()
    assert ("ORT_ENABLE_ALL" if "optimised" in backend else "ORT_DISABLE_ALL") in script
    assert "torch" not in script
    code, output = run(folder, tmp_path / "elsewhere")
    assert code == 1
    assert output.startswith("relative error, rms: 0.000")
    assert output.endswith("wrong\n")
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    healthy = {each.name: each for each in onnx.load(written(tmp_path)).graph.initializer}
    values = numpy_helper.to_array(healthy["first.conv.weight"])
    reweigh(model, "first.conv.weight", lambda _: values)
    onnx.save(model, folder / "model.onnx")
    code, output = run(folder, tmp_path / "elsewhere")
    assert code == 0
    assert output.endswith("right\n")


def test_readme_says_what_it_is(tmp_path: Path) -> None:
    text = (onnx_repro(tmp_path, nudge) / "README.txt").read_text()
    assert text.startswith("node_Conv_")
    assert "initialiser first.conv.weight is not the checkpoint's" in text
    assert "Run: python repro.py\n" in text
    assert "model.onnx: 1 of the 19 nodes of model.onnx, from conv2d to getitem." in text
    assert "\ninputs.npz: what goes in: the checkpoint's values in float64, rounded to" in text
    assert "with 0\nonce it is gone, and with 2 if it cannot run.\n" in text
    assert f"numpy {np.__version__}, onnxruntime " in text
    assert str(tmp_path) not in text


def test_onnx_slice_that_stops(tmp_path: Path) -> None:
    code, output = run(onnx_repro(tmp_path, batch_of_one), tmp_path / "elsewhere")
    assert code == 1
    assert output.startswith("it stops: [ONNXRuntimeError]")


def test_onnx_slice_of_another_shape(tmp_path: Path) -> None:
    code, output = run(onnx_repro(tmp_path, unpadded), tmp_path / "elsewhere")
    assert code == 1
    assert output.startswith("shape (3, 4, 6, 6), not (3, 4, 8, 8)\n")


def test_onnx_slice_with_nan(tmp_path: Path) -> None:
    code, output = run(onnx_repro(tmp_path, root), tmp_path / "elsewhere")
    assert code == 1
    assert output.startswith("NaN or infinity at other places than expected\n")


def test_what_cannot_run_is_no_fault(tmp_path: Path) -> None:
    folder, elsewhere = onnx_repro(tmp_path, nudge), tmp_path / "elsewhere"
    # Without the packages of this installation.
    assert run(folder, elsewhere, "-S") == (2, "cannot run: No module named 'numpy'\n")
    (folder / "expected.npz").write_bytes(b"")
    code, output = run(folder, elsewhere)
    assert (code, output.count("\n")) == (2, 1)
    assert output.startswith("cannot run: inputs.npz or expected.npz is damaged: ")
    for name in ("model.onnx", "inputs.npz"):
        (folder / name).unlink()
    said = "cannot run: there is no model.onnx and no inputs.npz beside it\n"
    assert run(folder, elsewhere) == (2, said)


def test_weights_beside_the_model_are_missed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marwright.parity.locate.repro.INLINE_LIMIT", 0)
    monkeypatch.setattr(onnx, "save", partial(onnx.save, size_threshold=0))
    options = {"k": K, "floor": FLOOR, "threads": 1}
    path = written(tmp_path, nudge)
    found = locate_onnx(program(), path, rows(), backend="onnx", **options)
    assert found is not None
    folder, elsewhere = tmp_path / "repro", tmp_path / "elsewhere"
    write_onnx_repro(folder, found, program(), path, rows(), **options)
    assert run(folder, elsewhere)[0] == 1
    known = ("README.txt", "expected.npz", "inputs.npz", "model.onnx", "repro.py")
    [weights] = [each for each in folder.iterdir() if each.name not in known]
    weights.unlink()
    said = f"cannot run: there is no {weights.name} beside it\n"
    assert run(folder, elsewhere) == (2, said)


def test_limits_that_are_infinite_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So are those of a node after which float32 itself has NaN at other places."""
    monkeypatch.setattr(Deviation, "limit", lambda *_: UNLIKE)
    path, folder = written(tmp_path, nudge), tmp_path / "repro"
    divergence = Divergence(
        backend="onnx", node="node_Conv_0", op="Conv", inputs=[[3, 4]], output=[3, 4],
        before=0.0, after=1.0, how="it alone",
    )  # fmt: skip
    write_onnx_repro(folder, divergence, program(), path, rows(), k=K, floor=FLOOR, threads=1)
    code, output = run(folder, tmp_path / "elsewhere")
    assert (code, output.splitlines()[-1]) == (0, "right")
    assert "(allowed: inf)" in output


def test_onnx_slice_that_is_fused_away(tmp_path: Path) -> None:
    """Without optimisations it is right."""
    options = {"k": K, "floor": FLOOR, "threads": 1}
    model, made_from = almost_gelu()
    path = export_onnx(model, (4,), OPSET, tmp_path)
    found = locate_onnx(made_from, path, inputs(), backend="onnx optimised", **options)
    assert found is not None
    folder = tmp_path / "repro"
    write_onnx_repro(folder, found, made_from, path, inputs(), **options)
    assert run(folder, tmp_path / "elsewhere")[0] == 1
    script = (folder / "repro.py").read_text()
    (folder / "repro.py").write_text(script.replace("ORT_ENABLE_ALL", "ORT_DISABLE_ALL"))
    assert run(folder, tmp_path / "elsewhere")[0] == 0


def torchscript_repro(
    tmp_path: Path, model: torch.nn.Module, other: torch.nn.Module, shape: tuple[int, ...]
) -> Path:
    path, folder = traced(tmp_path, other, shape), tmp_path / "repro"
    options = {"k": K, "floor": FLOOR}
    with torch.random.fork_rng():
        found = locate_torchscript(model, path, rows(3, shape), **options)
        assert found is not None
        write_torchscript_repro(folder, found, model, path, rows(3, shape), **options)
    return folder


def test_traced_module_fails_until_it_is_mended(tmp_path: Path) -> None:
    other = with_nudge(small(), "second.conv.weight")
    folder = torchscript_repro(tmp_path, small(), other, SHAPE)
    assert sorted(each.name for each in folder.iterdir()) == [
        "README.txt", "expected.npz", "inputs.npz", "model.pt", "repro.py"
    ]  # fmt: skip
    assert "onnx" not in (folder / "repro.py").read_text()
    assert "model.pt: second.conv of model.pt, alone." in (folder / "README.txt").read_text()
    code, output = run(folder, tmp_path / "elsewhere")
    assert (code, output.splitlines()[-1]) == (1, "wrong")
    healthy = torch.jit.load(traced(tmp_path, small(), SHAPE))
    torch.jit.save(healthy.second.conv, folder / "model.pt")
    code, output = run(folder, tmp_path / "elsewhere")
    assert (code, output.splitlines()[-1]) == (0, "right")


def test_inputs_of_a_traced_module_are_the_checkpoints_own(tmp_path: Path) -> None:
    class Wide(torch.nn.Module):
        """Float32 outside; a layer in bfloat16, which gets what the first one gives."""

        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4)
            self.second = torch.nn.Linear(4, 4).bfloat16()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(inputs).bfloat16()).float()

    model = seeded(Wide)
    folder = torchscript_repro(tmp_path, model, with_nudge(model, "second.weight"), (4,))
    text = (folder / "README.txt").read_text()
    own = (
        "inputs.npz: what goes in: the checkpoint's own inputs of that module, in bfloat16 (stored"
    )
    assert f"\n{own} as float32, as numpy has no bfloat16).\n" in text
    assert "Allowed, from what eager torch errs there: " in text
    with torch.inference_mode():
        given = model.first(torch.from_numpy(rows(3, (4,)))).bfloat16().float().numpy()
    with np.load(folder / "inputs.npz") as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], given)
    assert run(folder, tmp_path / "elsewhere")[0] == 1


def test_arguments_are_in_the_order_of_the_trace(tmp_path: Path) -> None:
    """The module is wrong by its own forward; its inputs come swapped in the trace."""
    model, other = seeded(Odd), seeded(Odd)
    other.pair.forward = lambda one, two, both: (1.5 * (other.pair.linear(two) - one), one)
    folder = torchscript_repro(tmp_path, model, other, (4,))
    assert "pair (Pair)" in (folder / "README.txt").read_text()
    code, output = run(folder, tmp_path / "elsewhere")
    assert code == 1
    assert output.startswith("relative error, rms: 0.5 ")


def test_healthy_trace_has_no_repro(tmp_path: Path) -> None:
    path, options = (
        traced(tmp_path, with_nudge(small(), "stem.weight"), SHAPE),
        {"k": K, "floor": FLOOR},
    )
    found = locate_torchscript(small(), path, rows(), **options)
    assert found is not None
    traced(tmp_path, small(), SHAPE)
    with pytest.raises(ParityError, match=r"^stem was wrong once"):
        write_torchscript_repro(tmp_path / "repro", found, small(), path, rows(), **options)
    assert not (tmp_path / "repro").exists()


def test_random_trace_fails(tmp_path: Path) -> None:
    other = seeded(Train)
    other.layers[3].train()
    folder = torchscript_repro(tmp_path, seeded(Train), other, (4,))
    assert "dropout in training mode" in (folder / "README.txt").read_text()
    assert run(folder, tmp_path / "elsewhere")[0] == 1
