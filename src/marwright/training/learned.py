"""Which samples a model has learned of, handed on to the models that start from its weights.

A held-out sample says nothing of a model that was trained on it, be it before, under another
recipe that divides the same data otherwise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from marwright.training.types import NOTHING, Learned, Splits

LEARNED = "learned.safetensors"


def learned_of(splits: Splits, before: Learned) -> Learned:
    """Return what a model of these splits learns of, and has learned of before."""
    return Learned(
        np.union1d(_short(splits, splits.train), before.train),
        np.union1d(_short(splits, splits.validation), before.validation),
    )


def known_before(splits: Splits, before: Learned) -> NDArray[np.int64]:
    """Return the held-out samples that are none any more, test first.

    Of validation only those that weights were fitted to: it may choose twice.
    """
    fitted = np.isin(_short(splits, splits.validation), before.train)
    seen = np.isin(_short(splits, splits.test), np.union1d(before.train, before.validation))
    return np.concatenate([splits.test[seen], splits.validation[fitted]])


def _short(splits: Splits, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    return np.array([int(splits.contents[i][:16], 16) for i in indices], dtype=np.uint64)


def write_learned(learned: Learned, file: Path) -> None:
    """Write it as safetensors."""
    save_file({"train": learned.train, "validation": learned.validation}, file)


def read_learned(file: Path | None) -> Learned:
    """Read what `write_learned` wrote; nothing without a file."""
    if file is None:
        return NOTHING
    found = load_file(file)
    return Learned(found["train"], found["validation"])
