"""A moving average of the weights, which often does better than the last ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of the network that follows it, with its buffers.

    The decay rises to its value, as otherwise a short training would mostly average its random
    beginning: after `n` updates it is at most (1 + n) / (10 + n).
    """

    def follow(average: Any, current: Any, updates: torch.Tensor | int) -> None:
        # The first call copies; this is for those after it.
        done = int(updates)
        share = 1 - min(decay, (1 + done) / (10 + done))
        for mine, other in zip(average, current, strict=True):
            if mine.is_floating_point():
                mine.lerp_(other, share)
            else:
                mine.copy_(other)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
