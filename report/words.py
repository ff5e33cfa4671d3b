"""What a page calls the things that a parity report names in one word."""

from __future__ import annotations

from archive.parity.types import BackendName, Check, Kind

BACKENDS: dict[BackendName | str, str] = {
    "torchscript": "TorchScript",
    "onnx": "ONNX",
    "onnx optimised": "optimised ONNX",
    "int8": "int8 ONNX",
    "checkpoint": "checkpoint",
}
KINDS: dict[Kind, str] = {
    "regression": "kept from earlier searches",
    "held-out": "of the test split",
    "boundary": "at the edges of the valid range",
    "random": "drawn from the valid range",
    "shapes": "drawn at other sizes",
    "worst": "found by the worst-case search",
}
CHECKS: dict[Check, str] = {
    "origin": "not made from this checkpoint",
    "runs": "does not run",
    "power": "the comparison would say nothing",
    "finite": "NaN or infinity in other places",
    "tolerance": "further from the reference than allowed",
    "invariance": "a row's answer depends on its batch",
    "labels": "gives other labels",
    "metric": "does the task worse",
    "precision": "computes in another precision",
}
