"""How far an export may be from float64: so many times as far as eager torch is.

An absolute tolerance says nothing of outputs that may be 1e-19 or 1e12 in size. What float32 can do
for this model on these inputs is measured, by running the checkpoint in both precisions, and an
export may err a few times as much. docs/adr/0009-calibrated-tolerance.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marwright.parity.types import Tolerance

Floats = NDArray[np.float64]

# An error that is so many times what is usual is no rounding, but what rounding decided.
UNLIKE = 50.0
# From the root mean square of a row's errors to the larger ones among them.
_SPREAD = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What eager torch does on rows of real data, by output.

    usual: which rows it is taken from `(n,)`. noise: largest error `(outputs,)`; typical: the
    usual one. magnitude: largest absolute value `(outputs,)`; size: that of all outputs. signal and
    mean_noise: root mean squares of how outputs vary over the rows, and of the error.
    """

    usual: NDArray[np.bool_]
    noise: Floats
    typical: Floats
    magnitude: Floats
    size: float
    signal: float
    mean_noise: float


def error_of(reference: Floats, runs: Sequence[Floats]) -> Floats:
    """Return the largest error of some runs of eager torch, by element `(n, outputs)`.

    Zero where the reference or a run is not finite.
    """
    with np.errstate(invalid="ignore"):
        errors = np.abs(np.stack([run - reference for run in runs]))
    largest: Floats = np.where(np.isfinite(errors), errors, 0.0).max(axis=0)
    return largest


def calibrate(
    reference: Floats,
    error: Floats,
    decided: NDArray[np.bool_] | None = None,
    *,
    one_unit: bool = False,
) -> Calibration:
    """Measure what float32 does on rows `(n, outputs)`.

    Outputs of `one_unit`, as logits are, share what is typical: some of them may be zero on every
    row but one, and say nothing by themselves.

    Rows that are not finite or not `decided` are left out, and so are rows on which it errs far
    more than on most: that rounding decides there, as which side of a threshold they are on, says
    nothing of other rows.
    """
    usual = np.asarray(np.isfinite(reference).all(axis=1))
    if decided is not None:
        usual &= decided
    if usual.any():
        typical = _typical(reference[usual], error[usual], one_unit=one_unit)
        usual &= (error <= UNLIKE * typical).all(axis=1)
    reference, error = reference[usual], error[usual]
    if not len(reference):
        reference = error = np.zeros((1, error.shape[1]))
    magnitude = np.abs(reference).max(axis=0)
    return Calibration(
        usual=usual,
        noise=error.max(axis=0),
        typical=_typical(reference, error, one_unit=one_unit),
        magnitude=magnitude,
        size=float(magnitude.max()),
        signal=rms(reference - reference.mean(axis=0)),
        mean_noise=rms(error),
    )


def _typical(reference: Floats, error: Floats, *, one_unit: bool) -> Floats:
    """Return the median error by output, or what rounds the largest where most are exact."""
    exact = np.finfo(np.float32).eps * np.abs(reference).max(axis=0)
    typical: Floats = np.maximum(np.median(error, axis=0), exact)
    if one_unit:
        typical = np.maximum(typical, np.median([rms(row) for row in error]))
    return typical


def limits(
    reference: Floats, error: Floats, calibration: Calibration, tolerance: Tolerance
) -> Floats:
    """Return the largest error that is allowed, by element `(n, outputs)`.

    `error` is eager torch's own on these rows. By luck it is small in one output of a row on which
    float32 errs much, so what counts is how much it errs on the row as a whole, too. Where outputs
    are larger than on real data, as they are at the edges of the valid range, so is what float32
    does to them.
    """
    magnitude = np.abs(np.where(np.isfinite(reference), reference, 0.0))
    size = magnitude.max(axis=1, keepdims=True)
    grown = np.maximum(1.0, size / calibration.size) if calibration.size else 1.0
    typical = np.broadcast_to(calibration.typical, error.shape)
    times = np.divide(error, typical, out=np.zeros_like(error), where=typical > 0)
    row = _SPREAD * typical * np.array([[rms(of_row)] for of_row in times])
    noise = np.maximum(np.maximum(error, row), calibration.noise * grown)
    limit: Floats = tolerance.k * noise
    return limit + tolerance.floor * np.maximum(magnitude, calibration.magnitude)


def rms(values: Floats) -> float:
    """Return the root mean square; NaN and infinity are not expected."""
    # Scaled first: squares of 1e-200 are zero, and of 1e200 infinite.
    scale = float(np.abs(values).max(initial=0.0))
    return scale * float(np.sqrt(np.mean((values / scale) ** 2))) if scale else 0.0
