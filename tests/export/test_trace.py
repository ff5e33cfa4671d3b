"""A trace follows its model at every batch size, or it is refused with the reason."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from marwright.export.trace import BATCHES, TRACED, check_traced, trace
from marwright.recipe.errors import ExportError
from marwright.recipe.types import Precision
from marwright.training.model import build_model
from tests.projects import ROOT
from tests.training.conftest import image_recipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


def test_a_trace_answers_as_its_model_does(tmp_path: Path) -> None:
    model = build_model(image_recipe(), Path(), (1, 8, 8), 3)
    path = trace(model, (1, 8, 8), tmp_path)
    assert path == tmp_path / TRACED
    # The file as torch wrote it is gone.
    assert list(tmp_path.iterdir()) == [path]
    with zipfile.ZipFile(path) as archive:
        assert "model/data.pkl" in archive.namelist()
        assert not [name for name in archive.namelist() if name.endswith(".debug_pkl")]
    loaded = torch.jit.load(str(path))
    for batch in (1, 2, 5, 64):
        inputs = torch.randn(batch, 1, 8, 8)
        with torch.inference_mode():
            expected = model(inputs)
            for _ in range(3):
                # The first calls specialise the graph.
                assert torch.allclose(loaded(inputs), expected, atol=1e-5)


def test_batches_are_those_that_break_differently() -> None:
    assert {1, 2, 3, 7} <= set(BATCHES)


def test_a_model_in_train_mode_is_traced_in_eval_mode(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9), nn.BatchNorm1d(4)).train()
    loaded = torch.jit.load(str(trace(model, (4,), tmp_path)))
    inputs = torch.randn(3, 4)
    assert torch.equal(loaded(inputs), loaded(inputs))
    assert torch.allclose(loaded(inputs), model.eval()(inputs), atol=1e-6)


TRACE = """
import sys, torch
from pathlib import Path
from marwright.recipe.load import load_recipe
from marwright.training.model import build_model
from marwright.export.trace import trace
recipe = load_recipe(Path("archive/digits.toml"))
torch.manual_seed(0)
trace(build_model(recipe, Path(), (1, 8, 8), 10), (1, 8, 8), Path(sys.argv[1]))
"""


def test_fresh_processes_write_the_same_bytes_into_different_folders(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b" / "quite another"]
    running = []
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        environment = {
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": str(number),
            "TZ": f"UTC{number:+d}",
            "HOME": str(folder),
        }
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


class CountsItsData(nn.Module):
    """As many rows as there are numbers above zero: a shape that data decides."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        found = torch.nonzero(rows > 0)
        if len(found) > 1:
            rows = rows + 1
        return rows * 2


class Centres(nn.Module):
    """Writes into what it is given, as `x -= mean` does."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows -= 0.5
        return rows * 2


class Rooted(nn.Module):
    """NaN for what no sample is: random inputs are below zero, columns of this model are not."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.sqrt()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [Centres, Rooted])
def test_models_that_a_careless_comparison_refuses_are_traced(
    tmp_path: Path, kind: type[nn.Module], precision: Precision
) -> None:
    loaded = torch.jit.load(str(trace(kind(), (4,), tmp_path, precision=precision)))
    inputs = torch.rand(3, 4) + 1
    assert torch.allclose(loaded(inputs.clone()), kind()(inputs.clone()), rtol=2e-2)


# --- models that a trace cannot follow ------------------------------------------------------


class DropoutLeftOn(nn.Module):
    """Dropout by its function, which `eval()` does not reach."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(rows, 0.5, training=True)


class BakedBatch(nn.Module):
    """Makes a number of the batch size, which a trace writes down as it was."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + torch.ones(int(rows.shape[0]), 1)


class QuietlyBakedReshape(nn.Module):
    """Does something else while it is traced, of which torch says nothing."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.reshape(2, 4) if torch.jit.is_tracing() else rows


class QuietlyBakedConstant(nn.Module):
    """A constant of as many rows as were traced, which a single row is spread over."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + torch.zeros(2, 1) if torch.jit.is_tracing() else rows


class BranchOnData(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.sum() > 0:
            return rows * 2
        return rows


class BranchOnOneItem(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * rows.max().item()


class Growing(nn.Module):
    """Answers another thing at each call, by a counter that a trace keeps as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return rows * self.calls


class Merging(nn.Module):
    """The trace follows it; but it answers for the batch and not for its samples."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.reshape(2, -1)


class InPairs(nn.Module):
    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rows, rows


class InADict(nn.Module):
    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"rows": rows}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            DropoutLeftOn(),
            r"each time in eval mode: tests/export/test_trace\.py:\d+: aten\.be",
        ),
        (BakedBatch(), r"differs from the model at batch 1 in shape: \(2, 4\), not \(1"),
        (QuietlyBakedReshape(), "fails at batch 1: does the model bake a batch size into a resh"),
        (QuietlyBakedConstant(), r"differs from the model at batch 1 in shape: \(2, 4\), not \(1"),
        (BranchOnData(), r"test_trace\.py:\d+: the model decides by its data, which a trace cann"),
        (BranchOnOneItem(), r"test_trace\.py:\d+: the model decides by its data"),
        (CountsItsData(), r"test_trace\.py:\d+: the model decides by its data"),
        (
            Growing(),
            "each time in eval mode: it keeps count of something outside of",
        ),
        (Merging(), r"the model gives no tensor of 3 rows for 3 samples, but one of \(2, 6\)"),
        (InPairs(), "the model gives a tuple, not a tensor: return the outputs alone"),
        (InADict(), "the model gives a dict, not a tensor: return the outputs alone"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_model_that_a_trace_cannot_follow_is_refused(
    tmp_path: Path, model: nn.Module, said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        trace(model, (4,), tmp_path)
    assert not (tmp_path / TRACED).exists()


def test_a_perturbed_weight_is_seen() -> None:
    model = nn.Linear(4, 2).eval()
    traced = torch.jit.trace(model, torch.randn(2, 4))
    check_traced(model, traced, (4,))
    other = nn.Linear(4, 2)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.weight[1, 3] += 1e-3
    with pytest.raises(ExportError, match="differs from the model at batch 1 by up to "):
        check_traced(other.eval(), traced, (4,))


def test_an_answer_of_nan_is_no_agreement() -> None:
    model = nn.Linear(4, 2).requires_grad_(False).eval()
    traced = torch.jit.trace(lambda rows: model(rows) * float("nan"), torch.randn(2, 4))
    with pytest.raises(ExportError, match="at batch 1"):
        check_traced(model, traced, (4,))


def test_another_shape_is_named() -> None:
    model = nn.Linear(4, 2).requires_grad_(False).eval()
    traced = torch.jit.trace(lambda rows: model(rows)[:, :1], torch.randn(2, 4))
    with pytest.raises(ExportError, match=r"at batch 1 in shape: \(1, 1\), not \(1, 2\)"):
        check_traced(model, traced, (4,))


# --- texts ----------------------------------------------------------------------------------


class OfTexts(nn.Module):
    """Texts to the mean of their embeddings, padding masked."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, 3, padding_idx=0)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        there = (ids != 0).unsqueeze(2)
        return (self.embedding(ids) * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


class BakedLength(OfTexts):
    """Makes a number of the length, which a trace writes down as it was."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) / int(ids.shape[1])


class BakedPlaces(OfTexts):
    """Adds what is as long as the text that was traced."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids * torch.ones(int(ids.shape[1]), dtype=torch.int64))


class BranchOnABlank(OfTexts):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if (ids == 33).any():
            return super().forward(ids) * 2
        return super().forward(ids)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trace_of_texts_takes_every_length(tmp_path: Path, precision: Precision) -> None:
    model = OfTexts().eval()
    loaded = torch.jit.load(str(trace(model, (16,), tmp_path, dtype="int64", precision=precision)))
    for batch, length in ((1, 1), (3, 16), (2, 40)):
        ids = torch.randint(1, 257, (batch, length))
        ids[0, (length + 1) // 2 :] = 0
        assert torch.allclose(loaded(ids), model(ids), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (BakedLength(), "differs from the model at batch 1 and length 1 by up to"),
        (BakedPlaces(), r"the traced module fails at batch 1 and length 2: .*size of tensor"),
        (BranchOnABlank(), r"test_trace\.py:\d+: the model decides by its data"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_model_of_texts_that_a_trace_cannot_follow_is_refused(
    tmp_path: Path, model: nn.Module, said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        trace(model, (16,), tmp_path, dtype="int64")
    assert not (tmp_path / TRACED).exists()
