"""scikit-learn's breast cancer: 569 biopsies, 30 measurements of cell nuclei, two diagnoses.

Source: W. N. Street, W. H. Wolberg and O. L. Mangasarian, Nuclear Feature Extraction for Breast
Tumor Diagnosis, 1993.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer

from marwright.training.samples import TableSamples


def load() -> TableSamples:
    """Return the mean, the error and the worst of each measurement, in its own units."""
    biopsies = load_breast_cancer()
    return TableSamples(
        rows=biopsies.data.astype(np.float64),
        targets=biopsies.target.astype(np.int64),
        labels=tuple(str(name) for name in biopsies.target_names),
        columns=tuple(name.replace(" ", "_") for name in biopsies.feature_names),
        target="diagnosis",
    )
