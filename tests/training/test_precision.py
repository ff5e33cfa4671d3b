"""bf16 computes in bfloat16 behind float32, as closely as that allows; the rest is the network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from marwright.export.trace import BATCHES, TRACED, check_traced, trace
from marwright.recipe.errors import ExportError
from marwright.training.models import small_cnn
from marwright.training.precision import in_precision
from tests.projects import ROOT

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

SHAPE = (1, 8, 8)
# bfloat16 has 8 bits: half of the last one is the most that one rounding is off by.
ROUNDING = 2.0**-9


@pytest.fixture
def network() -> nn.Module:
    """A network whose batch norms have seen data, in eval mode."""
    model = small_cnn.build(SHAPE, 3, width=8)
    for _ in range(5):
        model(torch.randn(32, *SHAPE) * 3 + 1)
    return model.eval()


@torch.inference_mode()
def error_of(model: nn.Module, network: nn.Module) -> float:
    """Return the root mean square of a model's errors over that of the network's outputs."""
    inputs = torch.randn(200, *SHAPE, generator=torch.Generator().manual_seed(7))
    expected = network(inputs)
    return float(((model(inputs) - expected).square().mean() / expected.square().mean()).sqrt())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_precisions_are_the_network_itself(network: nn.Module, precision: str) -> None:
    assert in_precision(network, precision) is network


def test_bf16_is_a_copy_with_weights_of_bfloat16(network: nn.Module) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inputs = torch.randn(4, *SHAPE)
    expected = network(inputs)
    rounded = in_precision(network, "bf16")
    kinds = {type(m): {p.dtype for p in m.parameters()} for m in rounded.modules()
             if isinstance(m, (nn.Conv2d, nn.Linear, nn.BatchNorm2d))}  # fmt: skip
    assert kinds == {
        nn.Conv2d: {torch.bfloat16},
        nn.Linear: {torch.bfloat16},
        nn.BatchNorm2d: {torch.float32},
    }
    assert torch.equal(network(inputs), expected)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_it_differs_by_what_bfloat16_explains_and_no_more(network: nn.Module) -> None:
    error = error_of(in_precision(network, "bf16"), network)
    # Values and weights of five layers are rounded, each by a third of that in the mean.
    assert ROUNDING / 3 < error < 3 * ROUNDING


def test_batch_norms_keep_statistics_that_bfloat16_cannot_hold() -> None:
    norm = nn.BatchNorm1d(2).eval().requires_grad_(False)
    norm.running_mean = torch.full((2,), 1000.4)
    inputs = torch.full((1, 2), 1000.0)
    assert float(in_precision(norm, "bf16")(inputs)[0, 0]) == pytest.approx(-0.4, rel=0.01)
    # What it would be otherwise: 1000.4 becomes 1000.
    assert abs(float(norm.bfloat16()(inputs.bfloat16())[0, 0])) < 1e-4


def test_dropout_is_off_and_normal_modules_are_left_in_their_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9)).train()
    rounded = in_precision(model, "bf16")
    inputs = torch.randn(3, 4)
    assert torch.equal(rounded(inputs), rounded(inputs))
    assert model.training


# --- traced --------------------------------------------------------------------------------


def test_weights_take_half_the_room(tmp_path: Path) -> None:
    (tmp_path / "fp32").mkdir()
    wide = nn.Linear(300, 300)
    exact = trace(wide, (300,), tmp_path / "fp32").stat().st_size
    assert trace(wide, (300,), tmp_path, precision="bf16").stat().st_size < 0.55 * exact


def test_a_traced_module_takes_and_gives_float32_at_all_batches(
    network: nn.Module, tmp_path: Path
) -> None:
    path = trace(network, SHAPE, tmp_path, precision="bf16")
    assert [*tmp_path.iterdir()] == [path]
    loaded, eager = torch.jit.load(str(path)), in_precision(network, "bf16")
    for batch in (*BATCHES, 64):
        inputs = torch.randn(batch, *SHAPE)
        with torch.inference_mode():
            expected = eager(inputs)
            for _ in range(3):
                # The first calls specialise the graph.
                outputs = loaded(inputs)
                assert outputs.dtype == torch.float32
                assert outputs.shape == (batch, 3)
                assert torch.allclose(outputs, expected, atol=4 * ROUNDING, rtol=4 * ROUNDING)
            assert not torch.equal(outputs, network(inputs))


def test_a_trace_of_float32_passes_for_none_of_bf16(network: nn.Module, tmp_path: Path) -> None:
    exact = torch.jit.load(str(trace(network, SHAPE, tmp_path)))
    with pytest.raises(ExportError, match="differs from the model at batch 1 by up to "):
        check_traced(in_precision(network, "bf16"), exact, SHAPE)


def test_a_trace_that_is_off_by_more_than_the_rounding_is_refused(
    network: nn.Module, tmp_path: Path
) -> None:
    class Perturbing(nn.Module):
        """Adds a twentieth to what it gives while it is traced."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.network(inputs)
            return outputs * 1.05 if torch.jit.is_tracing() else outputs

    with pytest.raises(ExportError, match="differs from the model at batch"):
        trace(Perturbing(), SHAPE, tmp_path, precision="bf16")
    assert not (tmp_path / TRACED).exists()


class OfFloat32(nn.Module):
    """Makes a float32 matrix of its own, which bfloat16 cannot be multiplied with."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ torch.eye(4)


def test_a_model_that_cannot_compute_in_bfloat16_is_refused(tmp_path: Path) -> None:
    said = r"the model cannot compute in bfloat16, set \[export\] precision to another: "
    with pytest.raises(ExportError, match=said):
        trace(OfFloat32(), (4,), tmp_path, precision="bf16")


TRACE = """
import sys, torch
from pathlib import Path
from marwright.training.models import small_cnn
from marwright.export.trace import trace
torch.manual_seed(0)
trace(small_cnn.build((1, 8, 8), 3, width=4), (1, 8, 8), Path(sys.argv[1]), precision="bf16")
"""


def test_fresh_processes_write_the_same_bytes_into_different_folders(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b" / "quite another"]
    running = []
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(number), "HOME": str(folder)}
        running.append(
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", TRACE, str(folder)],
                cwd=ROOT, env=environment, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    for process in running:
        assert process.communicate()[1] == b""
        assert process.returncode == 0
    first, second = ((folder / TRACED).read_bytes() for folder in folders)
    assert first == second


def test_integers_stay_what_they_are() -> None:
    """In bfloat16 256 and 257 are the same number."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(300, 1)
            with torch.no_grad():
                self.embedding.weight.copy_(torch.arange(300.0)[:, None])

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            assert ids.dtype == torch.int64
            return self.embedding(ids - 255).flatten(1)

    ids = torch.tensor([[256, 257, 258]])
    assert in_precision(Named(), "bf16")(ids).tolist() == [[1.0, 2.0, 3.0]]
