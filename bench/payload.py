"""Payloads to measure with: `python -m bench.payload FILE BYTES`.

TorchScript modules, with random float32 weights that do not shrink.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path


def write_payload(path: Path, size: int) -> Path:
    """Save a module of about `size` bytes, in a process of its own.

    Linux counts the memory of a process to those that it starts, and this one takes much.
    """
    subprocess.run([sys.executable, "-m", __name__, str(path), str(size)], check=True)
    return path


def save(path: str, size: int) -> None:
    """Save a module with about `size` bytes of weights; it adds the first one to its input."""
    import torch

    class Weights(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            values = torch.randn(size // 4, generator=torch.Generator().manual_seed(0))
            self.values = torch.nn.Parameter(values, requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.values[0]

    with warnings.catch_warnings():
        # Deprecated in torch 2.15, and what TorchServe loads.
        warnings.simplefilter("ignore", FutureWarning)
        traced = torch.jit.trace(Weights(), torch.zeros(2, 1))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)


if __name__ == "__main__":
    save(sys.argv[1], int(sys.argv[2]))
