"""Files of inputs: the worst that the gate found, and those that a project keeps and commits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from marwright.files import replacing
from marwright.recipe.errors import ParityError

Array = NDArray[Any]

# Committed inputs at most; each is tried first at every build.
MOST_KEPT = 64


def read_inputs(file: Path) -> list[Array]:
    """Return the inputs of a file that `write_inputs` wrote, in their order; none without one.

    Raises `ParityError` when it is not such a file.
    """
    if not file.exists():
        return []
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ParityError(f"{file.name}: not a file of inputs: {error}") from error
    return [tensors[name] for name in sorted(tensors)]


def write_inputs(inputs: Iterable[Array], file: Path) -> None:
    """Write inputs, each `(*shape)`, in their order."""
    tensors = {f"{number:04}": np.ascontiguousarray(row) for number, row in enumerate(inputs)}
    with replacing(file) as opened:
        opened.write(save(tensors))


def keep(found: Iterable[Array], file: Path) -> tuple[int, int]:
    """Add inputs to a file of committed ones; returns how many are new, and how many there are.

    Raises `ParityError` when it would hold more than it should.
    """
    kept = read_inputs(file)
    known = {(row.shape, row.tobytes()) for row in kept}
    others = {(row.shape, row.tobytes()): row for row in found}
    new = [row for key, row in others.items() if key not in known]
    if len(kept) + len(new) > MOST_KEPT:
        raise ParityError(
            f"{file.name}: {len(kept)} inputs and {len(new)} new ones; at most {MOST_KEPT} are "
            "kept, because each is tried at every build: remove the file, and keep anew"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_inputs([*kept, *new], file)
    return len(new), len(kept) + len(new)
