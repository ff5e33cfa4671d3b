"""Everything that is worth knowing of a model's answers on the test split, by torchmetrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from marwright.recipe.errors import TrainError
from marwright.runtime.spec import PreprocessSpec, TableSpec
from marwright.training.metrics import Evaluation
from marwright.training.record import Bin, Classified, ClassScore, Predicted

# Bins of equal width of the expected calibration error (Guo et al., On Calibration of Modern
# Neural Networks, 2017, use as many).
BINS = 15
# Pairs of target and answer that a report draws.
_PAIRS = 2000


def scores(
    tested: Evaluation, labels: Sequence[str], spec: PreprocessSpec
) -> tuple[dict[str, float], Classified | Predicted]:
    """Return the metrics on a split, the main one first, and what is behind them.

    Raises `TrainError` when one is NaN or infinite.
    """
    for name, value in (("loss", tested.loss), ("metric", tested.metric)):
        if not math.isfinite(value):
            raise TrainError(
                f"the {name} on the test split is {value}: look for extreme values in it"
            )
    return classified(tested, labels) if labels else predicted(tested, spec)


def classified(tested: Evaluation, labels: Sequence[str]) -> tuple[dict[str, float], Classified]:
    """Return a classifier's metrics, the main one first, and what is behind them.

    Means over classes are of those that have test samples.
    """
    count, truth = len(labels), tested.targets
    probabilities = torch.softmax(tested.outputs.double(), dim=1)
    answers = probabilities.argmax(dim=1)
    precision, recall, f1 = (
        score(answers, truth, count, average="none").double()
        for score in (multiclass_precision, multiclass_recall, multiclass_f1_score)
    )
    samples = torch.bincount(truth, minlength=count)
    present = samples > 0
    metrics = {
        "accuracy": float(multiclass_accuracy(answers, truth, count, average="micro")),
        "macro_f1": float(f1[present].mean()),
        "macro_precision": float(precision[present].mean()),
        "macro_recall": float(recall[present].mean()),
        "calibration_error": float(
            multiclass_calibration_error(probabilities, truth, count, n_bins=BINS)
        ),
    }
    # Of a class without test samples there is no curve.
    if present.all():
        metrics["auroc"] = float(multiclass_auroc(probabilities, truth, count))
    confusion = multiclass_confusion_matrix(answers, truth, count)
    classes = [
        ClassScore(
            label=label,
            samples=int(samples[place]),
            precision=_rounded(precision[place]),
            recall=_rounded(recall[place]),
            f1=_rounded(f1[place]),
        )
        for place, label in enumerate(labels)
    ]
    return metrics, Classified(
        classes=classes, confusion=confusion.tolist(), calibration=_bins(probabilities, truth)
    )


def predicted(tested: Evaluation, spec: PreprocessSpec) -> tuple[dict[str, float], Predicted]:
    """Return a regression's metrics in its target's own units, and pairs of target and answer."""
    assert isinstance(spec, TableSpec)
    truth, answers = (
        values[:, 0].double() * spec.target_std + spec.target_mean
        for values in (tested.targets, tested.outputs)
    )
    metrics = {
        "r2": float(r2_score(answers, truth)),
        "mae": float(mean_absolute_error(answers, truth)),
        "rmse": float(mean_squared_error(answers, truth, squared=False)),
    }
    step = -(-len(truth) // _PAIRS)
    pairs = zip(truth[::step].tolist(), answers[::step].tolist(), strict=True)
    return metrics, Predicted(
        # In all their digits: what is drawn of them is their difference.
        target=spec.target,
        pairs=[*pairs],
    )


def _bins(probabilities: torch.Tensor, truth: torch.Tensor) -> list[Bin]:
    """Return those bins of confidence that hold samples, from the least to the most confident."""
    confidence, answers = probabilities.max(dim=1)
    places = (confidence * BINS).ceil().clamp(1, BINS).long() - 1
    right = (answers == truth).double()
    bins = []
    for place in sorted(set(places.tolist())):
        chosen = places == place
        bins.append(
            Bin(
                samples=int(chosen.sum()),
                confidence=_rounded(confidence[chosen].mean()),
                accuracy=_rounded(right[chosen].mean()),
            )
        )
    return bins


def _rounded(value: torch.Tensor) -> float:
    return round(float(value), 6)
