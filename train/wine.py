"""scikit-learn's wines: 178 chemical analyses, 13 measurements, three cultivars.

Source: M. Forina et al., PARVUS, 1988; Wine, UCI.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_wine

from marwright import TableSamples
from marwright.training.few import few


def load(*, learned: list[int] | None = None) -> TableSamples:
    """Return the measurements in their own units (alcohol in percent, proline in mg/l, …).

    `learned` says how many of each cultivar are there to learn from; all others are for the test.
    """
    wine = load_wine()
    rows, targets = wine.data.astype(np.float64), wine.target.astype(np.int64)
    contents = [row.tobytes() for row in rows]
    return TableSamples(
        rows=rows,
        targets=targets,
        labels=tuple(str(name) for name in wine.target_names),
        columns=tuple(wine.feature_names),
        target="cultivar",
        fixed=() if learned is None else few(contents, targets, dict(enumerate(learned))),
    )
