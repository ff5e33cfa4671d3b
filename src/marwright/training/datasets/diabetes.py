"""scikit-learn's diabetes study: 442 patients, ten measurements, progression after a year.

Source: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least Angle Regression, 2004.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes

from marwright.training.samples import TableSamples


def load() -> TableSamples:
    """Return the measurements in their own units (age in years, blood pressure in mmHg, …)."""
    diabetes = load_diabetes(scaled=False)
    return TableSamples(
        rows=diabetes.data.astype(np.float64),
        targets=diabetes.target.astype(np.float64),
        columns=tuple(diabetes.feature_names),
        target="progression",
    )
