"""How much is compared: as much as a model's size allows, the same on every machine.

A limit in seconds would compare other inputs on a slower machine, and give another report.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from marwright.runtime.spec import Dtype
from marwright.training.examples import zeros
from marwright.training.inference import inference

# What the rows of a kind may cost together, in floating-point operations of one forward pass
# each; docs/adr/0009-calibrated-tolerance.md has what they come to.
_HELD_OUT = 2.5e11
_RANDOM = 6e10
_SINGLES = 6e10
_CHUNK = 3e10
_STARTS = 2e10
_STEPS = 12
_BOUNDARY = 6e10
# A quick look spends so much less, and does with fewer rows of what is large.
_QUICK = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Rows of each kind, rows that go through alone, rows that eager torch takes at once, and
    where the worst-case search starts and how far it goes.
    """

    held_out: int
    boundary: int
    random: int
    singles: int
    chunk: int
    starts: int
    steps: int


def budget_of(
    flops: float, *, samples: int = 1024, search: int = 16, quick: bool = False
) -> Budget:
    """Return the budget of a model whose forward pass of one row takes so many operations.

    `samples` and `search` are the recipe's limits. A quick look does not search.
    """
    cost = max(flops, 1.0) * (_QUICK if quick else 1)

    def rows(total: float, least: int, most: int) -> int:
        return min(most, max(-(-least // 2) if quick else least, int(total / cost)))

    return Budget(
        held_out=rows(_HELD_OUT, min(16, samples), samples),
        boundary=rows(_BOUNDARY, 8, 64),
        random=rows(_RANDOM, 8, 64),
        singles=rows(_SINGLES, 8, 64),
        chunk=min(64, max(1, int(_CHUNK / max(flops, 1.0)))),
        starts=0 if quick else rows(_STARTS, min(4, search), search),
        steps=_STEPS,
    )


def flops_of(model: nn.Module, shape: tuple[int, ...], dtype: Dtype = "float32") -> int:
    """Count the operations of matrix products and convolutions in one forward pass of one row."""
    with inference(), FlopCounterMode(display=False) as counter:
        model(zeros(1, shape, dtype))
    return int(counter.get_total_flops())
