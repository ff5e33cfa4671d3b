"""TorchServe handler: rows of a table in, one value a row out.

Answer: `{"predictions":[152.13,97.4]}`, in the units of the target and the order of the rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marwright.runtime.read import read_table
from marwright.runtime.service import Loaded, Service
from marwright.runtime.spec import TableSpec


def row_values(outputs: NDArray[np.float32], loaded: Loaded) -> dict[str, list[float]]:
    """Undo the target's standardisation; outputs are `(N, 1)`. `decimals` rounds the values."""
    assert isinstance(loaded.spec, TableSpec)
    scaled = outputs[:, 0].astype(np.float64)
    # An infinite value is refused where the answer becomes JSON.
    with np.errstate(over="ignore"):
        values = scaled * loaded.spec.target_std + loaded.spec.target_mean
    decimals = int(loaded.options.get("decimals", 4))
    return {"predictions": [round(value, decimals) for value in values.tolist()]}


service = Service(read=read_table, answer=row_values)
handle = service.handle
