"""The learning-rate finder: how the loss falls, and then does not, while the rate grows.

After L. N. Smith, Cyclical Learning Rates for Training Neural Networks, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from statistics import median
from typing import TYPE_CHECKING

from marwright.recipe.errors import TrainError
from marwright.training.record import RatesFound

if TYPE_CHECKING:
    from marwright.training.loop.run import Run
    from marwright.training.metrics import Pair

STEPS = 100
LEAST, MOST = 1e-6, 10.0
# The share of the past in a smoothed loss, and how many batches around one it is the median of:
# a single batch says nothing, the first one as little as any other.
_SMOOTH, _AROUND = 0.9, 5
# How far above its best the search is over, and how many batches tell what it began with.
_LOST, _BEGINNING = 4.0, 10
_APART = 5
# Where the loss is at its least it is about to rise; a tenth of that is what is taken.
_SAFE = 0.1


def find_rate(run: Run, progress: Callable[[int, int, str], None]) -> RatesFound:
    """Train for a moment with a growing rate. The run is spoilt by it.

    Stages keep their proportion. Raises `TrainError` when memory runs out, and where there is
    nothing to see.
    """
    own = [group["lr"] for group in run.optimizer.param_groups]
    rates: list[float] = []
    raw: list[float] = []
    losses: list[float] = []
    run.begin_epoch()
    for step, (inputs, targets) in zip(range(STEPS), _endless(run), strict=False):
        rate = LEAST * (MOST / LEAST) ** (step / (STEPS - 1))
        for group, lr in zip(run.optimizer.param_groups, own, strict=True):
            group["lr"] = rate * lr / own[-1]
        loss, _ = run.step(inputs, targets)
        smoothed = _smoothed([*raw, loss]) if math.isfinite(loss) else []
        if not smoothed or _is_lost(smoothed, raw):
            break
        raw.append(loss)
        losses = smoothed
        rates.append(rate)
        progress(step + 1, STEPS, f"rate {rate:.1e} · loss {losses[-1]:.4f}")
    if len(losses) <= _APART:
        raise TrainError(
            f"the loss is not finite, or rises at once: {len(losses)} batches with a rate from "
            f"{LEAST:.0e} on say nothing; look for extreme values in the data"
        )
    # Over some steps: from one to the next it falls by chance.
    falls = [losses[n + _APART] - losses[n] for n in range(len(losses) - _APART)]
    steepest = rates[falls.index(min(falls))]
    lowest = rates[losses.index(min(losses))]
    return RatesFound(
        rates=rates,
        losses=losses,
        steepest=steepest,
        suggested=float(f"{max(LEAST, _SAFE * lowest):.1e}"),
    )


def _smoothed(raw: list[float]) -> list[float]:
    """Return a running mean of medians, in which no single batch stands out."""
    around = _AROUND // 2
    mean, smoothed = median(raw[:_BEGINNING]), []
    for place in range(len(raw)):
        middle = median(raw[max(0, place - around) : place + around + 1])
        mean = _SMOOTH * mean + (1 - _SMOOTH) * middle
        smoothed.append(mean)
    return smoothed


def _is_lost(smoothed: list[float], raw: list[float]) -> bool:
    """Whether the loss is far above its best, and above what it was at first."""
    if len(raw) < _BEGINNING:
        return False
    return smoothed[-1] > max(_LOST * min(smoothed), median(raw[:_BEGINNING]))


def _endless(run: Run) -> Iterator[Pair]:
    for number in count(1):
        yield from run.batches.epoch(number)
