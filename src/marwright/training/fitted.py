"""What a training came to, whoever trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from marwright.training.record import Epoch

# A value that `torch.save` writes and `torch.load(weights_only=True)` reads.
State = dict[str, Any]
# (epochs done, epochs at most, what to show beside the bar)
Progress = Callable[[int, int, str], None]


def _keep_nothing(_: State) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What survives a kill: `state` is what was last given to `keep`, and `folder` is a script's.

    The weights are the same as if there had been no kill.
    """

    state: State | None = None
    keep: Callable[[State], None] = _keep_nothing
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained model on the CPU in eval mode, and how training went. Epochs count from 1.

    `trained` counts the numbers in it that training could move, or moved; `events` are what a
    person should know of it besides.
    """

    model: nn.Module
    epochs: tuple[Epoch, ...]
    best_epoch: int
    validation_loss: float
    trained: int
    device: str
    events: tuple[str, ...] = ()
