"""scikit-learn's irises: 150 flowers, four measurements in cm, three species.

Source: R. A. Fisher, The Use of Multiple Measurements in Taxonomic Problems, 1936.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_iris

from marwright.training.samples import TableSamples


def load() -> TableSamples:
    """Return the measurements; one flower is in it twice."""
    iris = load_iris()
    return TableSamples(
        rows=iris.data.astype(np.float64),
        targets=iris.target.astype(np.int64),
        labels=tuple(str(name) for name in iris.target_names),
        columns=tuple(name.removesuffix(" (cm)").replace(" ", "_") for name in iris.feature_names),
        target="species",
    )
