"""TorchServe handler: an image in, ranked labels with probabilities out.

Answer: `{"predictions":[{"label":"7","probability":0.9981},…]}`, most probable first.
"""

from __future__ import annotations

import torch

from handlers.read import read_image
from handlers.service import Loaded, Service


def ranked_labels(logits: torch.Tensor, loaded: Loaded) -> dict[str, list[dict[str, object]]]:
    """Rank the labels of one image; logits are `(1, len(labels))`.

    The `top_k` option says how many; never more than there are labels.
    """
    probabilities = torch.softmax(logits[0].double(), dim=0)
    count = min(int(loaded.options.get("top_k", 5)), len(probabilities))
    best = probabilities.topk(count)
    return {
        "predictions": [
            {"label": loaded.labels[index], "probability": round(value, 6)}
            for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
    }


service = Service(read=read_image, answer=ranked_labels)
handle = service.handle
