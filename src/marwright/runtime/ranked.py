"""Logits to ranked labels: the answer of every classifier."""

from __future__ import annotations

import torch

from marwright.runtime.service import Loaded


def ranked(logits: torch.Tensor, loaded: Loaded) -> list[dict[str, object]]:
    """Rank the labels of one sample, most probable first; logits are `(len(labels),)`.

    The `top_k` option says how many; never more than there are labels.
    """
    probabilities = torch.softmax(logits.double(), dim=0)
    count = min(int(loaded.options.get("top_k", 5)), len(probabilities))
    best = probabilities.topk(count)
    return [
        {"label": loaded.labels[index], "probability": round(value, 6)}
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
