"""Logits to ranked labels: the answer of every classifier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marwright.runtime.service import Loaded


def ranked(logits: NDArray[np.float32], loaded: Loaded) -> list[dict[str, object]]:
    """Rank the labels of one sample, most probable first; logits are `(len(labels),)`.

    The `top_k` option says how many; never more than there are labels.
    """
    exact = logits.astype(np.float64)
    shares = np.exp(exact - exact.max())
    probabilities = shares / shares.sum()
    best = np.argsort(-probabilities, kind="stable")[: int(loaded.options.get("top_k", 5))]
    return [
        {"label": loaded.labels[index], "probability": round(probabilities[index].item(), 6)}
        for index in best.tolist()
    ]
