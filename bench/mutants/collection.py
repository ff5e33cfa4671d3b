"""All mutants, by name."""

from __future__ import annotations

# Imported for what they register.
from bench.mutants import (
    answers,
    checkpoints,
    onnx_operators,
    onnx_shapes,
    onnx_values,
    reduced,
    traced,
)
from bench.mutants.mutant import MUTANTS

__all__ = [
    "MUTANTS",
    "answers",
    "checkpoints",
    "onnx_operators",
    "onnx_shapes",
    "onnx_values",
    "reduced",
    "traced",
]
