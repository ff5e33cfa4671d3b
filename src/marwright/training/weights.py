"""Weights as safetensors, which cannot run code; the file says what they read and answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from marwright.runtime.spec import PreprocessSpec, spec_from_dict, spec_to_dict

# One key: safetensors writes several in no order.
_KEY = "marwright"


def save_weights(
    model: nn.Module, file: Path, answers: Sequence[str] = (), spec: PreprocessSpec | None = None
) -> None:
    """Write a network's parameters and buffers as safetensors.

    `answers` are what its outputs stand for, and `spec` is what it reads, where there are such.
    """
    about = None
    if spec is not None:
        said = {"answers": [*answers], "preprocess": spec_to_dict(spec)}
        about = {_KEY: json.dumps(said, sort_keys=True)}
    # Clones, because safetensors takes no two names for one memory, as tied weights have.
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, file, about)


def read_about(file: Path) -> dict[str, Any]:
    """Return the `answers` and the `spec` that a file of `save_weights` holds; nothing of others.

    Raises whatever a file that is something else makes its readers raise.
    """
    with safe_open(file, framework="pt") as opened:
        said = (opened.metadata() or {}).get(_KEY)
    if said is None:
        return {}
    about = json.loads(said)
    return {
        "answers": tuple(map(str, about["answers"])),
        "spec": spec_from_dict(about["preprocess"]),
    }
