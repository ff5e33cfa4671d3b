"""The wines are 178 rows of three cultivars."""

from __future__ import annotations

import numpy as np

from tests.project.conftest import load


def test_the_wines_are_what_their_source_says() -> None:
    samples = load("train/wine.py").load()
    assert samples.rows.shape == (178, 13)
    assert np.isfinite(samples.rows).all()
    assert samples.labels == ("class_0", "class_1", "class_2")
    assert np.bincount(samples.targets).tolist() == [59, 71, 48]
    assert (samples.columns[0], samples.target) == ("alcohol", "cultivar")
    # In percent, and not scaled.
    assert 11 < samples.rows[:, 0].min() < samples.rows[:, 0].max() < 15
