"""The whole gate over one model: inputs chosen, compared, searched, and the report of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marwright.export.trace import BATCHES
from marwright.parity.backends import Array
from marwright.parity.budget import Budget, budget_of, flops_of
from marwright.parity.compare import Candidate, Comparison, Progress, Settings
from marwright.parity.explain import explain
from marwright.parity.inputs import Domain, Group, boundary, drawn, other_shapes
from marwright.parity.report import report_of, worst_of
from marwright.parity.search import Field, search
from marwright.parity.types import BackendName, ParityReport, Search, Tolerance
from marwright.parity.verdict.tolerance import Floats, rms
from marwright.recipe.errors import ParityError

if TYPE_CHECKING:
    from marwright.recipe.types import Parity, Task
    from marwright.runtime.spec import PreprocessSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is known of a model beside its files.

    `real` are held-out samples, preprocessed, or what stands for them; `targets` belong to them,
    in the units of the outputs; `recorded` is the metric that training measured on them, `baseline`
    what an export must be above, and `losses` the loss of each. `kept` are the committed worst
    inputs, which go first. `largest` is the largest batch that a server may put together.
    """

    task: Task
    domain: Domain
    real: Group
    kept: tuple[Group, ...] = ()
    targets: NDArray[np.generic] | None = None
    recorded: float | None = None
    baseline: float | None = None
    losses: NDArray[np.float32] | None = None
    spec: PreprocessSpec | None = None
    labels: tuple[str, ...] = ()
    serving: int = 7
    largest: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A report, and the worst inputs of it, each `(*shape)`, the worst first."""

    report: ParityReport
    worst: tuple[Array, ...]


def run_gate(
    candidate: Candidate,
    subject: Subject,
    declared: Parity,
    *,
    threads: int = 1,
    quick: bool = False,
    repro: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Outcome:
    """Hold a candidate against its checkpoint. A quick look does not search, and looks inside
    only when something is wrong. What is wrong is written to the folder `repro`, to be run alone.

    Raises `ParityError` without held-out samples.
    """
    if not len(subject.real.rows):
        raise ParityError("there are no held-out samples to compare")
    flops = flops_of(candidate.eager, subject.domain.shape, subject.domain.dtype)
    budget = budget_of(flops, samples=declared.samples, search=declared.search, quick=quick)
    places = spread(len(subject.real.rows), budget.held_out)
    # The first of them are looked at more closely, and a data set may be in the order of labels.
    np.random.default_rng(declared.seed).shuffle(places)
    real = subject.real.at(places)
    targets = None if subject.targets is None else subject.targets[places]
    settings = Settings(
        tolerance=Tolerance(k=declared.k, floor=declared.floor, reason=declared.reason),
        k_bf16=declared.k_bf16,
        task=subject.task,
        batches=(2,) if quick else (*BATCHES, subject.largest),
        serving=subject.serving,
        singles=budget.singles,
        chunk=budget.chunk,
        threads=threads,
    )
    progress(0, 1, "the checkpoint in float64")
    gate = Comparison(candidate, real, settings)
    gate.compare(_groups(subject, real, budget, declared.seed), progress)
    searched: Search | None = None
    if budget.starts and not gate.faults:
        progress(1, 2, "searching for worse inputs")
        try:
            found, searched = _search(gate, subject, budget, declared.seed)
            gate.compare([found], progress)
        except RuntimeError as error:
            gate.notes.append(f"no search, because the checkpoint has no gradient: {error}")
    report = report_of(
        gate,
        flops=flops,
        targets=targets,
        # Of a part of the split, a metric says too little.
        recorded=subject.recorded if len(places) == len(subject.real.rows) else None,
        recorded_losses=None if subject.losses is None else subject.losses[places],
        max_metric_drop=declared.max_metric_drop,
        baseline=subject.baseline,
        seed=declared.seed,
        search=searched,
        spec=subject.spec,
        labels=subject.labels,
    )
    if not (quick and report.ok):
        progress(2, 3, "error by layer")
        report = explain(report, gate, repro=repro)
    return Outcome(report=report, worst=tuple(found.row for found in worst_of(gate.found)))


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return at most so many places out of `count`, spread over all of them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _groups(subject: Subject, real: Group, budget: Budget, seed: int) -> list[Group]:
    """Return the inputs to compare: what once went wrong comes first."""
    edges = boundary(subject.domain)
    return [
        *subject.kept,
        real,
        edges.at(np.arange(min(len(edges.rows), budget.boundary))),
        drawn(subject.domain, budget.random, seed, real.rows),
        *other_shapes(subject.domain, seed),
    ]


def _search(gate: Comparison, subject: Subject, budget: Budget, seed: int) -> tuple[Group, Search]:
    """Search from the real rows on which the checkpoint is least sure, and from others."""
    expected, classification = gate.judge.calibrated, subject.task == "classification"
    count = min(budget.starts, len(expected.group.rows))
    chosen: list[int] = []
    if classification:
        ranked = np.sort(expected.reference, axis=1)
        chosen += np.argsort(ranked[:, -1] - ranked[:, -2])[: count // 2].tolist()
    others = [p for p in spread(len(expected.group.rows), count).tolist() if p not in chosen]
    chosen += others[: count - len(chosen)]
    return search(
        Field(
            eager=gate.candidate.eager,
            backends={name: gate.load(name) for name in gate.judge.calibrations},
            noise={name: _noise(gate, name) for name in gate.judge.calibrations},
            domain=subject.domain,
            classification=classification,
            serving=subject.serving,
        ),
        expected.group.at(np.array(sorted(chosen))),
        budget.steps,
        seed,
    )


def _noise(gate: Comparison, name: BackendName) -> Floats:
    """Return by how much a backend may be off on real rows, by output; int8 by how much it is."""
    if name != "int8":
        return gate.judge.calibrations[name].noise
    error = np.nan_to_num(gate.outputs[name] - gate.judge.calibrated.reference)
    return np.array([rms(column) for column in error.T])
