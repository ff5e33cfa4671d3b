"""What a page calls the things that reports name in one word."""

from __future__ import annotations

from marwright.parity.types import BackendName, Check, Kind

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
# Of each metric its name, and what it says.
METRICS = {
    "accuracy": ("Accuracy", "part of the samples that get the right label"),
    "macro_f1": ("F1", "precision and recall in one; the mean of all classes"),
    "macro_precision": (
        "Precision",
        "of what gets a label, the part that it is true of; the mean of all classes",
    ),
    "macro_recall": ("Recall", "of a class, the part that is found; the mean of all classes"),
    "calibration_error": (
        "Calibration error",
        "how far confidence is from accuracy, on average; 0 is best",
    ),
    "auroc": (
        "AUROC",
        "how often a sample of a class ranks above one of another; 0.5 is chance",
    ),
    "r2": (
        "R²",
        "part of the target's variance that is explained; always answering its mean has 0",
    ),
    "mae": ("Mean absolute error", "in the target's units"),
    "rmse": ("Root mean squared error", "in the target's units; large errors count more"),
}


def metric_words(name: str) -> tuple[str, str]:
    """Return what a page calls a metric, and what it says; a new one has its own name."""
    return METRICS.get(name, (name.replace("_", " "), ""))
