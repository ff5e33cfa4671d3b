"""How sure a difference of two sets of answers to the same samples is: the paired bootstrap.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993. Torch-free.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

_RESAMPLES = 999
_CONFIDENCE = 0.95
# Numbers of rows that are drawn at once.
_DRAWN = 2**22

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def interval(statistic: Callable[[Rows], Floats], count: int, seed: int) -> tuple[float, float]:
    """Return the percentile interval, 95 %, of a statistic over so many rows.

    `statistic` maps rows `(resamples, n)` to values `(resamples,)`.
    """
    if count < 2:
        return (0.0, 0.0)
    found = bootstrap(
        (np.arange(count),),
        lambda rows, axis: statistic(np.atleast_2d(rows)).reshape(rows.shape[:-1]),
        n_resamples=_RESAMPLES,
        batch=max(1, _DRAWN // count),
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return (float(found.low), float(found.high))
