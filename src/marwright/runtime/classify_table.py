"""TorchServe handler: rows of a table in, ranked labels with probabilities for each row out.

Answer: `{"predictions":[[{"label":"red","probability":0.9981},…],…]}`, in the order of the rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marwright.runtime.ranked import ranked
from marwright.runtime.read import read_table
from marwright.runtime.service import Loaded, Service


def ranked_rows(
    logits: NDArray[np.float32], loaded: Loaded
) -> dict[str, list[list[dict[str, object]]]]:
    """Rank the labels of each row; logits are `(N, len(labels))`."""
    return {"predictions": [ranked(row, loaded) for row in logits]}


service = Service(read=read_table, answer=ranked_rows)
handle = service.handle
