"""Few samples to learn from: what a data set fixes when it plays a poor one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def few(
    contents: Sequence[bytes], targets: NDArray[np.int64], learned: Mapping[int, int]
) -> list[Literal["test", ""]]:
    """Return the split of each sample: of each target so many to learn from, the others for test.

    They are chosen by the digests of their contents.
    """
    fixed: list[Literal["test", ""]] = ["test"] * len(contents)
    for target, count in learned.items():
        members = np.flatnonzero(targets == target).tolist()
        by_digest = sorted(members, key=lambda index: hashlib.sha256(contents[index]).digest())
        for member in by_digest[:count]:
            fixed[member] = ""
    return fixed
