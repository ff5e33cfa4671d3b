"""TorchServe handler: measurements in, the progression after a year out, with its unit and range.

Answer: `{"predictions":[152.1],"intervals":[[59.9,244.3]],"unit":"…"}`, one of each for every row:
nine of ten patients are within their interval, by the recipe's `rmse`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marwright.runtime.predict_table import row_values
from marwright.runtime.read import read_table
from marwright.runtime.service import Loaded, Service

UNIT = "points of disease progression, one year after baseline"
# Of a normal distribution: 90 % of it are within so many standard deviations.
_NINE_OF_TEN = 1.645


def with_intervals(outputs: NDArray[np.float32], loaded: Loaded) -> dict[str, object]:
    """Return the values of rows `(N, 1)` in the target's own unit, and what they may be off by."""
    values = row_values(outputs, loaded)["predictions"]
    half = _NINE_OF_TEN * float(loaded.options["rmse"])
    intervals = [[round(value - half, 1), round(value + half, 1)] for value in values]
    return {"predictions": values, "intervals": intervals, "unit": UNIT}


service = Service(read=read_table, answer=with_intervals)
handle = service.handle
