"""TorchServe handler: a text in, ranked labels with probabilities out.

Answer: `{"predictions":[{"label":"fr","probability":0.9981},…]}`, most probable first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marwright.runtime.ranked import ranked
from marwright.runtime.read import read_text
from marwright.runtime.service import Loaded, Service


def ranked_labels(
    logits: NDArray[np.float32], loaded: Loaded
) -> dict[str, list[dict[str, object]]]:
    """Rank the labels of one text; logits are `(1, len(labels))`."""
    return {"predictions": ranked(logits[0], loaded)}


service = Service(read=read_text, answer=ranked_labels)
handle = service.handle
