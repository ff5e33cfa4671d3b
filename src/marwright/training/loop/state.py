"""What a training that was killed goes on from: a file that is worth something to one key only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch

if TYPE_CHECKING:
    from marwright.training.fitted import State


def write_state(file: BinaryIO, key: str, state: State) -> None:
    """Write a state, bound to a key."""
    torch.save({"key": key, "state": state}, file)


def read_state(path: Path, key: str) -> State | None:
    """Return the state that was written under this key; None without one.

    It holds tensors and plain values only, and nothing in it is run. One that cannot be read is
    none: training then begins anew.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged bytes can make torch raise anything.
    except Exception:  # noqa: BLE001
        return None
    if not isinstance(found, dict) or found.get("key") != key:
        return None
    state: State = found["state"]
    return state
