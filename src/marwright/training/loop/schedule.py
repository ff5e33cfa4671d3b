"""The learning rate over time: torch's schedulers, put together as a recipe says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

if TYPE_CHECKING:
    from marwright.recipe.types import Fit

# What a warm-up begins with, of the learning rate.
_COLD = 0.01


class Schedule:
    """Sets the learning rates of an optimizer's groups: `step` after each batch, `end_epoch`."""

    def __init__(self, optimizer: Optimizer, fit: Fit, batches: int) -> None:
        self._done = 0
        self._warm = max(1, round(fit.warmup * batches)) if fit.warmup else 0
        steps = fit.epochs * batches
        # The rates that a scheduler starts from are those that it finds: first all of them, then
        # the warm-up, which leaves them as they were when it ends.
        self._main = _main(optimizer, fit, steps - self._warm, batches)
        self._plateau = (
            ReduceLROnPlateau(
                # Of its patience, torch waits out one epoch more; what is better, `Best` decides.
                optimizer,
                factor=fit.step_factor,
                patience=fit.step_epochs - 1,
                threshold=0.0,
            )
            if fit.schedule == "plateau"
            else None
        )
        self._warmup = (
            LinearLR(optimizer, start_factor=_COLD, total_iters=self._warm) if self._warm else None
        )

    def step(self) -> None:
        """Go on by one batch."""
        self._done += 1
        if self._warmup is not None and self._done <= self._warm:
            self._warmup.step()
        elif self._main is not None:
            self._main.step()

    def end_epoch(self, validation_loss: float) -> None:
        """Take note of what an epoch led to."""
        if self._plateau is not None and self._done > self._warm:
            self._plateau.step(validation_loss)

    def state_dict(self) -> dict[str, Any]:
        """Return what it takes to go on from here."""
        return {
            name: part.state_dict()
            for name, part in self._parts().items()
        } | {"done": self._done}  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._done = state["done"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, LRScheduler | ReduceLROnPlateau]:
        parts = {"main": self._main, "plateau": self._plateau, "warmup": self._warmup}
        return {name: part for name, part in parts.items() if part is not None}


def _main(optimizer: Optimizer, fit: Fit, steps: int, batches: int) -> LRScheduler | None:
    if fit.schedule == "one_cycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        # That of SGD is the recipe's; Adam's goes the other way, as the rate does.
        cycled = fit.optimizer != "sgd"
        return OneCycleLR(optimizer, max_lr=rates, total_steps=steps, cycle_momentum=cycled)
    if fit.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    if fit.schedule == "step":
        return StepLR(optimizer, step_size=fit.step_epochs * batches, gamma=fit.step_factor)
    return None
