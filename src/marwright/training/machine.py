"""The machine as training uses it: its device, its threads, and the same bits each time."""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from marwright.recipe.errors import TrainError
from marwright.training import together
from marwright.training.inference import without_fast_paths


def set_determinism(seed: int, threads: int) -> None:
    """Seed everything and allow only algorithms that give the same bits again."""
    # cuBLAS reads it when it starts; without it, deterministic algorithms refuse to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Training judges, too: its metric is of the kernels that exports are compared on.
    without_fast_paths()


def choose_device(wanted: str) -> torch.device:
    """Return the device of `[fit] device`. Raises `TrainError` when it is not there."""
    if wanted == "auto":
        return together.own_gpu(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainError(
            'torch sees no CUDA device: set [fit] device = "auto", or see what `make doctor` says'
        )
    return together.own_gpu(torch.device(wanted))
