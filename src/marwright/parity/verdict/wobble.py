"""What a few units in the last place, in every operation, do to the outputs.

At the edges of the valid range a network can be badly conditioned: there torch errs little by luck
and another library errs fifty times as much, with nothing wrong in either. So the checkpoint runs
with each result moved by as much as a library may err, in one direction over a whole tensor, which
averaging does not undo.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from marwright.parity.backends import Array, Outputs, Run

# Four units in the last place of float32: what polynomials for exp and tanh err by.
_PART = 2.0**-22
# The sum of many squares of this is a float32 still.
_HUGE = 1e15


def wobbling(run: Run, seed: int) -> Run:
    """Return eager torch with every result moved a little, by a part of itself and of the typical
    size of its row; which way, the seed decides.
    """

    def moved(inputs: Array) -> Outputs:
        with _Wobble(seed):
            return run(inputs)

    return moved


class _Wobble(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._chance = np.random.default_rng(seed)

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        # A view is no result, and what is written in place has been read by then.
        if function.is_view or function._schema.is_mutable:  # type: ignore[attr-defined]
            return result
        return tree_map(self._moved, result)

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        part, offset = (_PART * self._chance.choice((-1.0, 1.0), size=2)).tolist()
        # Nobody's zero is anything else, and what masks are made of, infinity or the least number,
        # is not computed.
        size = value.abs()
        moves = (size > 0) & (size < _HUGE)
        # Of each row by itself: rows of a batch have nothing to do with each other. The geometric
        # mean, which a few large numbers in it do not rule.
        if axes := tuple(range(1, value.dim())):
            logs = torch.where(moves, size, 1.0).log().sum(dim=axes, keepdim=True)
            size = (logs / moves.sum(dim=axes, keepdim=True).clamp(min=1)).exp()
        return torch.where(moves, value * (1 + part) + offset * size, value)
