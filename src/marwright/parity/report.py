"""From what the gate found to `parity.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marwright.parity.compare import Comparison, Found
from marwright.parity.pictures import columns, picture, text
from marwright.parity.types import (
    Agreement,
    BackendName,
    ParityReport,
    Plot,
    Problem,
    Search,
    Worst,
)
from marwright.parity.verdict.case import problems_of
from marwright.parity.verdict.judge import ratios
from marwright.parity.verdict.task import agreement, losses

if TYPE_CHECKING:
    from marwright.runtime.spec import PreprocessSpec

WORST = 8
_POINTS = 400
# Of histograms: powers of ten of the ratio to the limit.
_EDGES = np.linspace(-4, 3, 29)
_SHOWN_OUTPUTS = 10


def report_of(
    gate: Comparison,
    *,
    flops: int,
    targets: NDArray[np.generic] | None = None,
    recorded: float | None = None,
    recorded_losses: NDArray[np.float32] | None = None,
    max_metric_drop: float = 0.5,
    baseline: float | None = None,
    seed: int = 0,
    search: Search | None = None,
    spec: PreprocessSpec | None = None,
    labels: Sequence[str] = (),
) -> ParityReport:
    """Return the report of all that a gate compared.

    `targets` are those of the held-out rows, in the units of the outputs: with them the task
    itself is measured, and held against the metric that training `recorded` of them, and against
    `recorded_losses`, the loss of each. `flops` are those of one row. `max_metric_drop` is in
    points; whatever it is, no export may fall to the `baseline`.
    """
    agreed = [] if targets is None else [*_agreements(gate, targets, seed)]
    problems = [
        *problems_of(gate.faults),
        *_other_metric(agreed, recorded),
        *_other_loss(gate, targets, recorded_losses),
        *_drops(agreed, max_metric_drop),
        *_worthless(agreed, baseline),
    ]
    calibration = gate.judge.calibrations["onnx"]
    yardstick: BackendName = "torchscript" if gate.candidate.precision == "bf16" else "onnx"
    return ParityReport(
        ok=bool(gate.cases) and not problems,
        task=gate.settings.task,
        precision=gate.candidate.precision,
        tolerance=gate.judge.yardsticks[yardstick].tolerance,
        samples=gate.samples,
        signal=calibration.signal,
        noise=calibration.mean_noise,
        size=calibration.size,
        flops=flops,
        limit=gate.judge.usual_limit(yardstick),
        cases=gate.cases,
        problems=problems,
        notes=[*gate.notes, *_notes(gate, agreed, max_metric_drop)],
        labels=list(labels),
        agreement=agreed,
        worst=[_shown(found, spec) for found in worst_of(gate.found)],
        plots=[_plot(gate, name) for name in gate.outputs],
        search=search,
    )


def worst_of(found: Sequence[Found]) -> list[Found]:
    """Return the inputs with NaN or infinity and those with the largest ratios, each once.

    What is quantised has half of the places: where the surest labels flip, and then by its error.
    """
    exact = _worst_first([one for one in found if one.backend != "int8"])
    quantised = _worst_first([one for one in found if one.backend == "int8"])
    exact = exact[: WORST - min(len(quantised), WORST // 2)]
    known = {one.row.tobytes() for one in exact}
    other = [one for one in quantised if one.row.tobytes() not in known]
    both = [*exact, *other[: WORST - len(exact)]]
    return sorted(both, key=lambda one: not one.strange)


def _worst_first(found: Sequence[Found]) -> list[Found]:
    worst: dict[bytes, Found] = {}
    for one in sorted(found, key=_badness, reverse=True):
        worst.setdefault(one.row.tobytes(), one)
    return [*worst.values()]


def _badness(one: Found) -> tuple[bool, float, float, float]:
    return (one.strange, one.ratio, one.margin if one.backend == "int8" else 0.0, one.error)


def _agreements(gate: Comparison, targets: NDArray[np.generic], seed: int) -> list[Agreement]:
    """Compare on rows of which the checkpoint gives numbers; what gives none there has failed."""
    calibrated, task = gate.judge.calibrated, gate.settings.task
    known = np.flatnonzero(np.isfinite(calibrated.reference).all(axis=1) & calibrated.decided)
    reference, truth = calibrated.reference[known], targets[known]
    return [
        agreement(name, reference, found, calibrated.limit[name][known], truth, task, seed)
        for name, outputs in gate.outputs.items()
        if len(found := outputs[known]) and np.isfinite(found).all()
    ]


def _other_metric(agreed: Sequence[Agreement], recorded: float | None) -> list[Problem]:
    """Find a checkpoint that does not do here what training measured of it."""
    if recorded is None or not agreed:
        return []
    measured, metric = agreed[0].reference, agreed[0].metric
    # float64 may decide a close one otherwise.
    if abs(measured - recorded) <= 1.5 / agreed[0].samples:
        return []
    return [
        Problem(
            check="metric",
            backend="checkpoint",
            text=f"{metric} on the test split is {measured:.4f} here, and training recorded "
            f"{recorded:.4f}: the preprocessing, the labels or the weights are not training's",
        )
    ]


def _other_loss(
    gate: Comparison,
    targets: NDArray[np.generic] | None,
    recorded: NDArray[np.float32] | None,
) -> list[Problem]:
    """Find what moves no label and is not training's all the same: a mean that is a little off."""
    usual = gate.judge.calibrations["onnx"].usual
    if recorded is None or targets is None or not usual.any():
        return []
    reference = gate.judge.calibrated.reference[usual]
    measured = float(losses(reference, targets[usual], gate.settings.task).mean())
    expected = float(recorded[usual].mean(dtype=np.float64))
    # What float32 makes of it, on any device.
    if abs(measured - expected) <= 1e-3 * abs(expected) + 2e-6:
        return []
    return [
        Problem(
            check="metric",
            backend="checkpoint",
            text=f"the loss of {int(usual.sum())} test samples is {measured:.6f} here, and "
            f"training recorded {expected:.6f}: the preprocessing, the labels or the weights are "
            "not training's",
        )
    ]


def _drops(agreed: Sequence[Agreement], most: float) -> list[Problem]:
    return [
        Problem(
            check="metric",
            backend=one.backend,
            text=f"{one.metric} is {one.measured:.4f}, of the checkpoint {one.reference:.4f}: "
            f"{100 * one.drop:.2f} points less, and {most:g} are allowed (95 % of the bootstrap: "
            f"{100 * one.interval[0]:.2f} to {100 * one.interval[1]:.2f})",
        )
        for one in agreed
        if not 100 * one.drop <= most
    ]


def _worthless(agreed: Sequence[Agreement], baseline: float | None) -> list[Problem]:
    """Find exports that are no better than answering without looking, of a checkpoint that is."""
    if baseline is None:
        return []
    return [
        Problem(
            check="metric",
            backend=one.backend,
            text=f"{one.metric} is {one.measured:.4f}, not above the baseline, {baseline:.4f}; of "
            f"the checkpoint it is {one.reference:.4f}: lower [parity] max_metric_drop, or set "
            '[export] precision = "fp32"',
        )
        for one in agreed
        if not one.measured > baseline and one.reference > baseline
    ]


def _notes(gate: Comparison, agreed: Sequence[Agreement], most: float) -> list[str]:
    notes = []
    if undecided := [*dict.fromkeys(gate.judge.undecided)]:
        notes.append(
            f"{len(undecided)} inputs are not judged, because rounding decides what the "
            f"checkpoint's output is: {', '.join(undecided[:5])}"
        )
    for what, error in gate.judge.failing.items():
        notes.append(f"{what} are not compared, because the checkpoint itself fails: {error}")
    calibrated, usual = gate.judge.calibrated, gate.judge.calibrations["onnx"].usual
    broken = ~np.isfinite(calibrated.reference).all(axis=1) & calibrated.decided
    if broken.any():
        notes.append(f"the checkpoint itself gives NaN or infinity for {int(broken.sum())} rows")
    if (apart := calibrated.decided & ~broken & ~usual).any():
        names = [calibrated.group.names[row] for row in np.flatnonzero(apart)]
        notes.append(
            f"float32 errs so much more on {len(names)} rows than on most that they count for "
            f"themselves only: {', '.join(names[:5])}"
        )
    for one in agreed:
        half = 50 * (one.interval[1] - one.interval[0])
        if one.metric == "accuracy":
            # The rule of three: of what none of n rows shows, there may be 3 in n (95 %), and
            # the bootstrap of no change is no interval.
            half = max(half, 300 / one.samples)
        reduced = one.backend == "int8" or gate.candidate.precision == "bf16"
        if reduced and one.backend in ("int8", "torchscript") and half > most:
            notes.append(
                f"{one.backend}: {one.samples} held-out samples are too few to tell a drop of "
                f"{most:g} points: they show one of {100 * one.drop:.2f}, give or take {half:.2f}"
            )
    return notes


def _shown(found: Found, spec: PreprocessSpec | None) -> Worst:
    with np.errstate(invalid="ignore"):
        error = np.abs(found.output - found.reference)
    worst_first = np.argsort(np.nan_to_num(error, nan=np.inf, posinf=np.inf))[::-1]
    elements = np.sort(worst_first[:_SHOWN_OUTPUTS])
    known = bool(np.isfinite(error).any())
    return Worst(
        kind=found.kind,
        backend=found.backend,
        batch=found.batch,
        name=found.name,
        ratio=found.ratio if known else -1.0,
        max_error=found.error if known else -1.0,
        strange=found.strange,
        margin=found.margin,
        elements=elements.tolist(),
        reference=_nullable(found.reference[elements]),
        output=_nullable(found.output[elements]),
        png="" if spec is None else picture(found.row, spec),
        values={} if spec is None else columns(found.row, spec),
        text="" if spec is None else text(found.row, spec),
    )


def _plot(gate: Comparison, name: BackendName) -> Plot:
    calibrated, outputs = gate.judge.calibrated, gate.outputs[name]
    reference, limit = calibrated.reference, calibrated.limit[name]
    finite = np.isfinite(reference) & np.isfinite(outputs)
    error = np.abs(outputs[finite] - reference[finite])
    if name == "int8":
        # It has no limit; how its errors lie within what outputs vary by says as much.
        allowed = np.full_like(error, gate.judge.calibrations[name].signal)
    else:
        allowed = limit[finite]
    ratio = ratios(error, allowed)
    powers = np.log10(np.maximum(ratio, 10.0 ** _EDGES[0]))
    counts, _ = np.histogram(np.clip(powers, _EDGES[0], _EDGES[-1]), bins=_EDGES)
    places = np.unique(np.linspace(0, error.size - 1, min(_POINTS, error.size)).astype(int))
    return Plot(
        backend=name,
        reference=_plain(reference[finite][places]),
        output=_plain(outputs[finite][places]),
        edges=_EDGES.tolist(),
        counts=counts.tolist(),
    )


def _nullable(values: NDArray[np.float64]) -> list[float | None]:
    """Return numbers, and None where there is none: JSON has no NaN and no infinity."""
    return [_shortened(v) if math.isfinite(v) else None for v in values.tolist()]


def _plain(values: NDArray[np.float64]) -> list[float]:
    return [_shortened(v) for v in values.tolist()]


def _shortened(value: float) -> float:
    """Return a number to more digits than float32 has: differences are looked at too."""
    return float(f"{value:.12g}")
