"""The training loop: early stopping on the validation loss, the best weights restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from marwright.training.fitted import Fitted, Kept, Progress, State
from marwright.training.loop.batches import Split
from marwright.training.loop.run import Run
from marwright.training.metrics import named
from marwright.training.run import Ready, tensors_of

if TYPE_CHECKING:
    from pathlib import Path

    from marwright.recipe.types import Recipe
    from marwright.training.types import Checkpoint


def find_weights(
    ready: Ready,
    recipe: Recipe,
    root: Path,
    progress: Progress,
    parent: Checkpoint | None,
    kept: Kept,
) -> Fitted:
    """Train by the recipe's `[fit]`."""
    training, validation = (
        tensors_of(name, recipe, ready.opened.splits, ready.spec)
        for name in ("train", "validation")
    )
    return fit(
        ready.network, training, validation, recipe, progress, resumed=kept.state, keep=kept.keep
    )


def fit(
    network: nn.Module,
    training: Split,
    validation: Split,
    recipe: Recipe,
    progress: Progress,
    *,
    resumed: State | None = None,
    keep: Callable[[State], None] = lambda _: None,
) -> Fitted:
    """Train on one split and select on the other; the test split is no argument.

    `keep` is called with all that it takes to go on after each epoch, and what it was last given
    is `resumed` after a kill: the weights are the same as if there had been none. Raises
    `TrainError` when the loss is NaN or infinite, naming epoch, batch and the key to change, and
    when memory runs out.
    """
    run = Run(network, training, recipe)
    if resumed is not None:
        run.load_state_dict(resumed)
        progress(len(run.epochs), recipe.fit.epochs, f"goes on after epoch {len(run.epochs)}")
    while not run.is_over:
        run.train_epoch()
        run.evaluate(validation)
        last = run.epochs[-1]
        shown = f"loss {last.train_loss:.4f} · validation {last.validation_loss:.4f}"
        if last.metric is not None:
            shown += f" · {named(last.metric, recipe.task)}"
        progress(last.number, recipe.fit.epochs, shown)
        keep(run.state_dict())
    return run.finish()
