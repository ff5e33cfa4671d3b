"""How sure a share is that was measured on some samples only."""

from __future__ import annotations

import math
from statistics import NormalDist

# Deviations of a normal distribution within which 95 % of it lies.
_Z = NormalDist().inv_cdf(0.975)


def wilson(some: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was `some` of `of` samples; all of it for none.

    Wilson, Probable inference, the law of succession, and statistical inference (1927): unlike the
    usual one, it holds for few samples and for shares near 0 and 1.
    """
    if not of:
        return 0.0, 1.0
    share, spread = some / of, _Z * _Z / of
    middle = share + spread / 2
    reach = _Z * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    low, high = ((middle + side) / (1 + spread) for side in (-reach, reach))
    # Where all or none are, rounding must not make it more or less.
    return (low if some else 0.0), (high if some < of else 1.0)
