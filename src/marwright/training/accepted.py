"""Whether a model is worth shipping: its metric against its baseline and the recipe's minimum.

Torch-free: training asks it, and packing asks it again of what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from marwright.recipe.types import MAIN_METRIC

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe, Task

# What it takes to ship a model that is no better than its baseline.
ANY = "any"
_ALWAYS: dict[Task, str] = {
    "classification": "always answering the most frequent label of the training split",
    "regression": "always answering the mean of the training split",
}
# Metrics are kept in so many digits, and judged as they are kept.
DIGITS = 6


class Figures(Protocol):
    """What is judged: `Measured`, or a checkpoint's `Meta`."""

    @property
    def metrics(self) -> dict[str, float]: ...  # noqa: D102
    @property
    def baseline(self) -> dict[str, float]: ...  # noqa: D102
    @property
    def gain(self) -> tuple[float, float] | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Metrics of the test split, the main one first, and the same of the baseline.

    `gain` is the 95 % interval of the main metric less that of the baseline.
    """

    metrics: dict[str, float]
    baseline: dict[str, float]
    gain: tuple[float, float] | None


def beside_baseline(task: Task, figures: Figures) -> str:
    """Return the main metric as people read it, with its baseline where that is known."""
    name = MAIN_METRIC[task]
    baseline = figures.baseline.get(name)
    beside = "" if baseline is None else f" (baseline {baseline:.4f})"
    return f"{name} {figures.metrics[name]:.4f}{beside}"


def refusal(recipe: Recipe, found: Figures, samples: int) -> str:
    """Say why a model must not ship, and what to do; nothing of one that may.

    Its first clause says why in short. `samples` are those of the test split. Written so that NaN
    does not pass.
    """
    wanted, name = recipe.training.minimum_metric, MAIN_METRIC[recipe.task]
    section = f"[{recipe.training_section}]"
    if wanted == ANY:
        return ""
    value, baseline = found.metrics.get(name, float("nan")), found.baseline.get(name)
    if wanted is not None and not value >= round(float(wanted), DIGITS):
        return (
            f"{name} {value:.4f} on the test split, below {section} minimum_metric = {wanted:g}"
            f"{'' if baseline is None else f'; its baseline is {baseline:.4f}'}"
        )
    if baseline is None or found.gain is None:
        return (
            f"{name} {value:.4f} on the test split, and its baseline was not measured: train it "
            f'again, or set {section} minimum_metric = "{ANY}"'
        )
    low, high = found.gain
    if low > 0 and value > baseline:
        return ""
    what = (
        f"{name} {value:.4f} on the test split is not above its baseline, {baseline:.4f}"
        if not value > baseline
        else f"{name} {value:.4f} on the test split may be above its baseline, {baseline:.4f}, by "
        "chance"
    )
    # Where it is above, more samples would tell.
    small = "the test split is small: add samples, or raise [data] test; " * (value > baseline)
    always = _ALWAYS[recipe.task]
    return (
        f"{what}: {always} has that, and the 95 % interval of the difference is {low:+.4f} to "
        f"{high:+.4f} on {samples} test samples; {small}train it longer or otherwise, "
        f'or set {section} minimum_metric = "{ANY}" to ship it all the same'
    )
