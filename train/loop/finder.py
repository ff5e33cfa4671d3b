"""The learning-rate finder: how the loss falls, and then does not, while the rate grows.

After L. N. Smith, Cyclical Learning Rates for Training Neural Networks, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

from recipes.errors import TrainError
from train.record import RatesFound

if TYPE_CHECKING:
    from train.loop.run import Run
    from train.metrics import Pair

STEPS = 100
LEAST, MOST = 1e-6, 10.0
# The share of the past in a smoothed loss, and how far above its best the search is over.
_SMOOTH = 0.9
_LOST = 4.0
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
    losses: list[float] = []
    mean = 0.0
    run.begin_epoch()
    for step, (inputs, targets) in zip(range(STEPS), _endless(run), strict=False):
        rate = LEAST * (MOST / LEAST) ** (step / (STEPS - 1))
        for group, lr in zip(run.optimizer.param_groups, own, strict=True):
            group["lr"] = rate * lr / own[-1]
        loss, _ = run.step(inputs, targets)
        mean = _SMOOTH * mean + (1 - _SMOOTH) * loss
        smoothed = mean / (1 - _SMOOTH ** (step + 1))
        if not math.isfinite(loss) or smoothed > _LOST * min([*losses, smoothed]):
            break
        rates.append(rate)
        losses.append(smoothed)
        progress(step + 1, STEPS, f"rate {rate:.1e} · loss {smoothed:.4f}")
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


def _endless(run: Run) -> Iterator[Pair]:
    for number in count(1):
        yield from run.batches.epoch(number)
