"""Which split a sample belongs to: decided by its own content, so that it never moves.

A sample's hash is a uniform number from 0 to 1; the shares of the recipe cut that interval.
Adding samples moves none of the others, equal samples always fall into one split (so an exact
duplicate cannot leak), and each class is divided in about the same proportions.
"""

from __future__ import annotations

import hashlib

import numpy as np

from recipes.errors import DataError
from train.types import Samples, SplitName, Splits


def split_of(content: bytes, *, validation: float, test: float, salt: str) -> SplitName:
    """Return the split of a sample; `validation` and `test` are shares from 0 to 1."""
    digest = hashlib.sha256(salt.encode() + b"\0" + content).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"


def split(samples: Samples, *, validation: float, test: float, salt: str) -> Splits:
    """Divide samples into train, validation and test. Raises `DataError` if one is empty."""
    names = [
        split_of(samples.content(i), validation=validation, test=test, salt=salt)
        for i in range(len(samples))
    ]
    chosen = {
        name: np.array([i for i, n in enumerate(names) if n == name], dtype=np.int64)
        for name in ("train", "validation", "test")
    }
    for name, indices in chosen.items():
        # Batch norm needs two samples, and a metric of one sample says nothing.
        if len(indices) < 2:
            raise DataError(
                f"the {name} split holds {len(indices)} of {len(samples)} samples: add samples, "
                "or change [data] validation or test"
            )
    return Splits(samples=samples, **chosen)
