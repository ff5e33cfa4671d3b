"""Which layers cost the most in int8, and how few of them must stay float32. No torch, no ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from marwright.export.quantise.types import Attempt

# How many times outputs are compared with one part of the layers in int8, in all; a model of up to
# half as many layers has each of them measured alone.
MEASUREMENTS = 64
# How many times the metric is measured with layers left out: enough for the half of 250 layers.
ATTEMPTS = 16


def costs_of(
    layers: Sequence[str],
    error_with: Callable[[Sequence[str]], float],
    budget: int = MEASUREMENTS,
) -> dict[str, tuple[float, int]]:
    """Return the error of each layer that is in int8 alone, the costliest first, and with how many
    it was measured.

    `error_with` measures it for some layers. Beyond half the budget, layers are measured in runs of
    neighbours, and the costliest run is halved as long as the budget lasts. The layers of a run
    that is not halved any more share its error, as independent errors of one size do.
    """
    count = min(len(layers), max(1, budget // 2))
    ends = [len(layers) * place // count for place in range(count + 1)]
    runs = [layers[a:b] for a, b in pairwise(ends)]
    measured = [(error_with(run), run) for run in runs]
    left = budget - count
    while left >= 2 and (wide := [pair for pair in measured if len(pair[1]) > 1]):
        # The first of equals, so that the same model gives the same table.
        costliest = max(wide, key=lambda pair: pair[0])
        measured.remove(costliest)
        half = len(costliest[1]) // 2
        parts = costliest[1][:half], costliest[1][half:]
        measured += [(error_with(part), part) for part in parts]
        left -= 2
    shares = [(error / len(run) ** 0.5, run) for error, run in measured]
    shares.sort(key=lambda pair: -pair[0])
    return {layer: (share, len(run)) for share, run in shares for layer in run}


def exclude(
    costliest: Sequence[str],
    drop_without: Callable[[Sequence[str]], float],
    limit: float,
    budget: int = ATTEMPTS,
) -> tuple[list[str], list[Attempt]]:
    """Return the fewest of the costliest layers without which the drop is within the limit.

    They are taken in order: 1, 2, 4 and so on until it is, and then as few as a bisection finds.
    None when all do not do. Also returns every attempt.
    """
    attempts: list[Attempt] = []

    def holds(count: int) -> bool:
        attempts.append(Attempt(excluded=count, drop=drop_without(costliest[:count])))
        return attempts[-1].drop <= limit

    too_few, enough = 0, 0
    while not enough and too_few < len(costliest) and len(attempts) < budget:
        count = min(max(1, 2 * too_few), len(costliest))
        if holds(count):
            enough = count
        else:
            too_few = count
    while enough - too_few > 1 and len(attempts) < budget:
        count = (too_few + enough) // 2
        if holds(count):
            enough = count
        else:
            too_few = count
    return [*costliest[:enough]], attempts
