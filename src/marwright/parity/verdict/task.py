"""Whether exports do the task as the checkpoint does: labels, distributions, metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from marwright.parity.types import Agreement, BackendName
from marwright.parity.verdict.tolerance import Floats, rms
from marwright.training.paired import interval

if TYPE_CHECKING:
    from marwright.recipe.types import Task

Labels = NDArray[np.int64]


def flips(
    reference: Floats, outputs: Floats, limit: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows `(n, classes)` have another label, and which of them are forgiven.

    A flip is forgiven when the reference's margin between the two labels is within what both
    outputs may err by: there, float32 itself decides by chance.
    """
    rows = np.arange(len(reference))
    expected, given = reference.argmax(axis=1), outputs.argmax(axis=1)
    flipped, allowed = expected != given, limit[rows, expected] + limit[rows, given]
    return flipped, flipped & (flipped_margin(reference, outputs) <= allowed)


def flipped_margin(reference: Floats, outputs: Floats) -> Floats:
    """Return by row how far the reference's label is above the one that outputs `(n, classes)`
    give; 0 where they give the same.
    """
    rows = np.arange(len(reference))
    margin: Floats = reference.max(axis=1) - reference[rows, outputs.argmax(axis=1)]
    return margin


def allowance(limit: Floats, outputs: Floats, reference: Floats) -> Floats:
    """Return the limit; where there is none, as for int8, what outputs err by on the whole."""
    with np.errstate(invalid="ignore"):
        error = outputs - reference
    return np.where(np.isfinite(limit), limit, rms(error[np.isfinite(error)]))


def agreement(
    backend: BackendName,
    reference: Floats,
    outputs: Floats,
    limit: Floats,
    targets: NDArray[np.generic],
    task: Task,
    seed: int,
) -> Agreement:
    """Compare how two sets of outputs `(n, outputs)` meet the targets: labels `(n,)`, or values
    `(n, 1)` in the units of the outputs.
    """
    metric, score = _METRICS[task]
    truth = targets.reshape(len(targets))

    def drop(rows: NDArray[np.int64]) -> Floats:
        # scipy resamples along the last axis: (resamples, n).
        return score(reference, truth, rows) - score(outputs, truth, rows)

    everything = np.arange(len(truth))[None]
    flipped = forgiven = np.zeros(len(truth), dtype=bool)
    divergence: Floats | None = None
    if task == "classification":
        flipped, forgiven = flips(reference, outputs, allowance(limit, outputs, reference))
        divergence = kl_divergence(reference, outputs)
    spread = float(reference.std())
    return Agreement(
        backend=backend,
        samples=len(truth),
        metric=metric,
        reference=float(score(reference, truth, everything)[0]),
        measured=float(score(outputs, truth, everything)[0]),
        drop=float(drop(everything)[0]),
        interval=interval(drop, len(truth), seed),
        flips=int(flipped.sum()),
        forgiven=int(forgiven.sum()),
        kl_mean=None if divergence is None else float(divergence.mean()),
        kl_max=None if divergence is None else float(divergence.max()),
        max_relative=(
            float(np.abs(outputs - reference).max() / spread)
            if task == "regression" and spread
            else None
        ),
    )


def losses(outputs: Floats, targets: NDArray[np.generic], task: Task) -> Floats:
    """Return the loss of each row, as training has it: cross entropy, or the squared error."""
    if task == "classification":
        rows = np.arange(len(outputs))
        loss: Floats = -log_softmax(outputs, axis=1)[rows, targets.astype(np.int64)]
        return loss
    values = targets.astype(np.float64).reshape(len(targets))
    return np.asarray((outputs[:, 0] - values) ** 2, dtype=np.float64)


def kl_divergence(reference: Floats, outputs: Floats) -> Floats:
    """Return the Kullback-Leibler divergence of each row's softmax from the reference's, nats."""
    expected, given = log_softmax(reference, axis=1), log_softmax(outputs, axis=1)
    divergence: Floats = (np.exp(expected) * (expected - given)).sum(axis=1)
    # Rounding makes a divergence of nothing a little less than nothing.
    return np.maximum(divergence, 0.0)


def _accuracy(outputs: Floats, labels: NDArray[np.generic], rows: NDArray[np.int64]) -> Floats:
    right = (outputs.argmax(axis=1) == labels).astype(np.float64)
    share: Floats = right[rows].mean(axis=1)
    return share


def _r2(outputs: Floats, values: NDArray[np.generic], rows: NDArray[np.int64]) -> Floats:
    truth, given = values.astype(np.float64)[rows], outputs[:, 0][rows]
    spread = ((truth - truth.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    missed = ((truth - given) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 1 - missed / spread, 0.0)


Score = Callable[[Floats, NDArray[np.generic], NDArray[np.int64]], Floats]
# Vectorised over resamples `(resamples, n)`, which scikit-learn's are not.
_METRICS: dict[str, tuple[str, Score]] = {
    "classification": ("accuracy", _accuracy),
    "regression": ("r2", _r2),
}
