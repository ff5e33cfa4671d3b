"""The whole gate over one model: what it tries, in which order, and what it makes of a trap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from marwright.archive.types import to_json
from marwright.export.to_onnx import export_onnx
from marwright.parity.compare import Candidate
from marwright.parity.gate import Outcome, Subject, run_gate, spread
from marwright.parity.inputs import Domain, Group
from marwright.parity.types import ParityReport
from marwright.recipe.errors import ParityError
from marwright.recipe.types import Parity
from tests.archive.proven import one_thread
from tests.parity.locate.exported import (
    SHAPE,
    node_of,
    nudged,
    reweigh,
    rows,
    seeded,
    small,
    written,
)

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

FEW = Parity(samples=24, search=4)
REAL = Group(kind="held-out", rows=0.5 * rows(40), names=tuple(f"sample {n}" for n in range(40)))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    folder = tmp_path_factory.mktemp("healthy")
    return Candidate(
        eager=small(),
        yardstick=small(),
        traced=saved(torch.jit.trace(small(), torch.zeros(2, *SHAPE), check_trace=False), folder),
        onnx=written(folder),
    )


def saved(module: Any, folder: Path) -> Path:
    torch.jit.save(module, str(folder / "model.pt"))
    return folder / "model.pt"


def subject(**values: Any) -> Subject:
    targets = small()(torch.from_numpy(REAL.rows)).detach().numpy().argmax(axis=1)
    given: dict[str, Any] = {
        "task": "classification",
        "domain": Domain(shape=SHAPE, low=np.float32([[[-2]]]), high=np.float32([[[2]]])),
        "real": REAL, "targets": targets, "labels": ("x", "y", "z"), "serving": 4, "largest": 8,
        **values,
    }  # fmt: skip
    return Subject(**given)


def checks(outcome: Outcome) -> set[tuple[str, str]]:
    return {(problem.backend, problem.check) for problem in outcome.report.problems}


@pytest.fixture(scope="module")
def whole(files: Candidate) -> Outcome:
    return run_gate(files, subject(), FEW)


def test_a_healthy_model_passes_all_of_it(whole: Outcome) -> None:
    report = whole.report
    assert report.ok
    assert (report.problems, report.notes, report.divergence) == ([], [], None)
    assert list(report.samples) == ["held-out", "boundary", "random", "worst"]
    assert report.samples["held-out"] == 24
    held_out = {case.batch for case in report.cases if case.kind == "held-out"}
    # Those that break differently, that of the server, and the largest that it may make.
    assert held_out == {1, 2, 3, 4, 7, 8}
    assert report.search is not None
    assert (report.search.starts, report.search.steps, report.search.seed) == (4, 12, 0)
    assert len(report.agreement) == 3
    assert len(report.layers) > 10
    assert report.flops > 0
    assert report.tolerance == msgspec.convert({"k": 8.0, "floor": 1e-6}, type(report.tolerance))
    assert msgspec.json.decode(to_json(report), type=ParityReport) == report


def test_the_worst_inputs_are_those_of_the_report(whole: Outcome) -> None:
    assert len(whole.worst) == len(whole.report.worst) > 0
    assert all(row.shape == SHAPE for row in whole.worst)
    # All are far from their limits, and even so some are worse than others.
    ratios = [one.ratio for one in whole.report.worst]
    assert ratios == sorted(ratios, reverse=True)
    assert 0 < ratios[-1] < ratios[0] < 1


def test_same_seed_same_report_and_another_draws_others(files: Candidate, whole: Outcome) -> None:
    again = run_gate(files, subject(), FEW)
    assert to_json(again.report) == to_json(whole.report)
    assert [a.tobytes() for a in again.worst] == [b.tobytes() for b in whole.worst]
    declared = msgspec.structs.replace(FEW, seed=1)
    other = run_gate(files, subject(), declared, quick=True).report
    random, others = (
        [case.max_error for case in report.cases if case.kind == "random"]
        for report in (run_gate(files, subject(), FEW, quick=True).report, other)
    )
    assert random != others


def test_a_quick_look_does_not_search(files: Candidate) -> None:
    report = run_gate(files, subject(), FEW, quick=True).report
    assert report.ok
    assert report.search is None
    assert list(report.samples) == ["held-out", "boundary", "random"]
    assert {case.batch for case in report.cases if case.kind == "held-out"} == {1, 2, 4}
    assert report.layers == []


def test_a_recipe_may_do_without_a_search_and_with_fewer_samples(files: Candidate) -> None:
    declared = msgspec.structs.replace(FEW, search=0, samples=5)
    report = run_gate(files, subject(), declared, quick=True).report
    assert report.samples["held-out"] == 5
    assert report.search is None


def test_without_samples_nothing_is_proven(files: Candidate) -> None:
    nothing = replace(REAL, rows=REAL.rows[:0], names=())
    with pytest.raises(ParityError, match="there are no held-out samples to compare"):
        run_gate(files, subject(real=nothing, targets=None), FEW)


def test_progress_is_told(files: Candidate) -> None:
    told: list[str] = []
    run_gate(files, subject(), FEW, quick=True, progress=lambda *state: told.append(state[2]))
    assert told[0] == "the checkpoint in float64"
    assert "onnx optimised: random at batch 4" in told


def test_samples_are_spread_over_the_split() -> None:
    assert spread(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert spread(100, 3).tolist() == [0, 49, 99]
    assert spread(1, 4).tolist() == [0]
    assert len(set(spread(1000, 64).tolist())) == 64


# Faults


def test_a_fault_names_its_node_and_leaves_a_folder_that_shows_it(
    files: Candidate, tmp_path: Path
) -> None:
    bad = written(tmp_path, lambda model: reweigh(model, node_of(model, "Gemm").input[1], nudged))
    repro = tmp_path / "repro"
    outcome = run_gate(replace(files, onnx=bad), subject(), FEW, quick=True, repro=repro)
    assert {("onnx", "tolerance"), ("onnx optimised", "tolerance")} <= checks(outcome)
    assert {backend for backend, _ in checks(outcome)} == {"onnx", "onnx optimised"}
    assert outcome.report.divergence is not None
    assert outcome.report.divergence.op == "Gemm"
    assert outcome.report.divergence.backend == "onnx"
    assert (repro / "repro.py").is_file()
    assert outcome.report.worst[0].ratio > 1


class Trapped(nn.Module):
    """A branch that only images take that are bright or dark all over."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.jit.trace(small(), torch.zeros(2, *SHAPE), check_trace=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        far = (images.abs().flatten(1).mean(1, keepdim=True) > 1.9).float()
        return self.inner(images) + 4.6 * far


def test_a_branch_on_saturated_images_is_caught_at_the_edge(
    files: Candidate, tmp_path: Path
) -> None:
    module = torch.jit.script(Trapped().eval())
    outcome = run_gate(replace(files, traced=saved(module, tmp_path)), subject(), FEW, quick=True)
    assert ("torchscript", "tolerance") in checks(outcome)
    failed = {case.kind for case in outcome.report.cases if not case.ok}
    assert failed == {"boundary"}


class Linear(nn.Module):
    """A regression, and one that is off where its output is larger than any row makes it."""

    def __init__(self, trap: float = float("inf")) -> None:
        super().__init__()
        self.layer, self.trap = nn.Linear(40, 1), trap

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = self.layer(inputs)
        return outputs + (outputs.abs() > self.trap).float()


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, Subject]:
    """A regression whose traced module has a trap; its other exports have none."""
    folder = tmp_path_factory.mktemp("regression")
    model, trapped = seeded(Linear), seeded(lambda: Linear(1.9))
    high = np.ones(40, np.float32)
    values = np.random.default_rng(0).normal(size=(40, 40)).clip(-3, 3).astype(np.float32) * 0.3
    held = Candidate(
        eager=model,
        yardstick=model,
        traced=saved(torch.jit.script(trapped), folder),
        onnx=export_onnx(model, (40,), 20, folder),
    )
    given = subject(
        task="regression",
        domain=Domain(shape=(40,), low=-high, high=high),
        real=Group(kind="held-out", rows=values, names=tuple(f"sample {n}" for n in range(40))),
        targets=model(torch.from_numpy(values)).detach().numpy(),
        labels=(),
    )
    return held, given


def test_a_trap_that_only_the_search_finds_is_committed_and_tried_first(
    regression: tuple[Candidate, Subject],
) -> None:
    held, given = regression
    # Neither edges nor random rows come near it.
    assert run_gate(held, given, FEW, quick=True).report.ok
    outcome = run_gate(held, given, FEW)
    assert checks(outcome) == {("torchscript", "tolerance")}
    assert {case.kind for case in outcome.report.cases if not case.ok} == {"worst"}
    assert "worst inputs at batch" in outcome.report.problems[0].text
    assert outcome.report.worst[0].name.startswith("found from sample ")
    assert outcome.report.worst[0].max_error == pytest.approx(1.0, rel=1e-5)
    # From then on it is found without a search.
    kept = Group(
        kind="regression", rows=np.stack(outcome.worst[:2]), names=("committed 0", "committed 1")
    )
    again = run_gate(held, replace(given, kept=(kept,)), FEW, quick=True)
    assert next(iter(again.report.samples)) == "regression"
    assert again.report.cases[0].kind == "regression"
    assert {case.kind for case in again.report.cases if not case.ok} == {"regression"}
    assert again.report.worst[0].name in kept.names
    # A model that failed already is not searched.
    assert run_gate(held, replace(given, kept=(kept,)), FEW).report.search is None


class Pooled(nn.Module):
    """Images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).mean((2, 3))


class Flat(nn.Module):
    """Images of 64 pixels, whatever its exporter is told."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))


def test_every_size_that_was_declared_is_tried(tmp_path: Path) -> None:
    sizes = {1: ("height", 4, 16), 2: ("width", 6, 12)}
    model, fixed = seeded(Pooled), seeded(Flat)
    traced = torch.jit.trace(model, torch.zeros(2, *SHAPE), check_trace=False)
    held = Candidate(
        eager=model,
        yardstick=model,
        traced=saved(traced, tmp_path),
        onnx=export_onnx(model, SHAPE, 20, tmp_path, dynamic=sizes),
        dynamic=sizes,
    )
    ends = {axis: (least, most) for axis, (_, least, most) in sizes.items()}
    given = subject(targets=None)
    given = replace(given, domain=replace(given.domain, dynamic=ends))
    report = run_gate(held, given, FEW, quick=True).report
    assert report.ok
    tried = {tuple(case.shape) for case in report.cases if case.kind == "shapes"}
    assert {case.batch for case in report.cases if case.kind == "shapes"} == {1, 3}
    assert {(1, 4, 8), (1, 16, 8), (1, 8, 6), (1, 8, 12), (1, 4, 6), (1, 16, 12)} <= tried
    # The exporter says that these axes vary, and they do not.
    (tmp_path / "flat").mkdir()
    lost = export_onnx(fixed, SHAPE, 20, tmp_path / "flat", dynamic=sizes)
    outcome = run_gate(replace(held, onnx=lost), given, FEW, quick=True)
    assert ("onnx", "runs") in checks(outcome)
    failed = [p.text for p in outcome.report.problems if p.check == "runs"]
    assert any(text.startswith("shapes inputs of 1×") for text in failed)
