"""How far a value is from its float64 reference, and how far float32 explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Where a reference is zero throughout, an error is large beside it, and still a number.
_LEAST = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """Two relative errors: root mean square over that of the reference, which a fault all over
    moves, and largest over largest, which one in a single element moves.

    Infinite where the value has another shape, or NaN or infinity at other places.
    """

    rms: float
    largest: float

    def within(self, limit: Deviation) -> bool:
        """Return whether neither error is above the limit's."""
        return self.rms <= limit.rms and self.largest <= limit.largest

    def limit(self, k: float, floor: float) -> Deviation:
        """Return what is allowed where this is the error of float32: `k` times it, and `floor`."""
        return Deviation(rms=k * self.rms + floor, largest=k * self.largest + floor)

    def largest_of(self, other: Deviation) -> Deviation:
        """Return the larger of both errors, each by itself."""
        return Deviation(rms=max(self.rms, other.rms), largest=max(self.largest, other.largest))

    def reported(self) -> float:
        """Return the root mean square for a report: JSON has no infinity, so that is -1."""
        return self.rms if np.isfinite(self.rms) else -1.0


NONE = Deviation(rms=0.0, largest=0.0)
UNLIKE = Deviation(rms=float("inf"), largest=float("inf"))


def deviation(value: NDArray[Any], reference: NDArray[Any]) -> Deviation:
    """Measure a value of any number type against its reference, of any shape."""
    if value.shape != reference.shape:
        return UNLIKE
    value, reference = value.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(value)
    if not finite.all() or not np.isfinite(reference).all():
        same = (value == reference) | (np.isnan(value) & np.isnan(reference))
        if not (same | (finite & np.isfinite(reference))).all():
            return UNLIKE
        value, reference = value[finite], reference[finite]
    error, size = np.abs(value - reference), np.abs(reference)
    return Deviation(
        rms=_rms(error) / (_rms(size) or _LEAST),
        largest=float(error.max(initial=0.0)) / (float(size.max(initial=0.0)) or _LEAST),
    )


def _rms(values: NDArray[np.float64]) -> float:
    # Scaled first: squares of 1e-200 are zero, and of 1e200 infinite.
    largest = float(values.max(initial=0.0))
    return largest * float(np.sqrt(np.mean(np.square(values / largest)))) if largest else 0.0
