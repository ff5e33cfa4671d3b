"""Three loops that train one network on one split: ours, a bare one, Lightning's Trainer.

`python -m bench.loops MODEL EPOCHS ROUNDS` prints the seconds an epoch of each, by round.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

# Read by torch's libraries when they start.
os.environ["OMP_NUM_THREADS"] = "1"

import pytorch_lightning as lightning
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from marwright.recipe.load import load_recipe
from marwright.recipe.types import Recipe, varied
from marwright.training.fit import fit
from marwright.training.loop.batches import EVALUATED, Split
from marwright.training.machine import set_determinism
from marwright.training.metrics import Pair
from marwright.training.run import Ready, prepare, tensors_of

ROOT = Path(__file__).resolve().parents[1]


def main(model: str, epochs: int, rounds: int) -> None:
    """Time each loop in turns; the first epoch of each training does not count."""
    recipe = varied(
        load_recipe(ROOT / "archive" / f"{model}.toml"),
        {
            "augment": {}, "fit.epochs": epochs + 1, "fit.patience": epochs + 1,
            "fit.minimum_metric": "any",
        },
    )  # fmt: skip
    ready = prepare(recipe, ROOT)
    training, validation = (
        tensors_of(name, recipe, ready.opened.splits, ready.spec)
        for name in ("train", "validation")
    )
    loops: dict[str, Callable[[Ready, Split, Split, Recipe], list[float]]] = {
        "ours": ours, "bare": bare, "lightning": lightnings
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            # What makes ours repeatable to the bit is no cost of the others.
            set_determinism(0, 1)
            torch.use_deterministic_algorithms(name == "ours")
            seconds[name].append(median(loop(ready, training, validation, recipe)[1:]))
    print(json.dumps({**seconds, "samples": len(training)}))


def ours(ready: Ready, training: Split, validation: Split, recipe: Recipe) -> list[float]:
    """Return the seconds of each epoch of our own loop."""
    ends = [time.perf_counter()]
    fit(copy.deepcopy(ready.network), training, validation, recipe,
        lambda *_: ends.append(time.perf_counter()))  # fmt: skip
    return _between(ends)


def bare(ready: Ready, training: Split, validation: Split, recipe: Recipe) -> list[float]:
    """Return the seconds of each epoch of a loop as one would write it down."""
    network, loss_of = copy.deepcopy(ready.network), _loss(recipe)
    inputs, targets = training[range(len(training))]
    held, truth = validation[range(len(validation))]
    size, epochs = recipe.fit.batch_size, recipe.fit.epochs
    batches = len(inputs) // size
    optimizer, schedule = _optimizer(network, recipe, batches * epochs)
    # Texts are padded to the longest of all; a batch needs no more than its own longest.
    lengths = (inputs != 0).sum(dim=1) if inputs.dtype == torch.int64 else None
    ends = [time.perf_counter()]
    for _ in range(epochs):
        network.train()
        order, total = torch.randperm(len(inputs)), 0.0
        for start in range(0, batches * size, size):
            chosen = order[start : start + size]
            batch = inputs[chosen]
            if lengths is not None:
                batch = batch[:, : int(lengths[chosen].max())]
            optimizer.zero_grad()
            loss = loss_of(network(batch), targets[chosen])
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item()
        network.eval()
        with torch.inference_mode():
            for start in range(0, len(held), EVALUATED):
                answers = network(held[start : start + EVALUATED])
                total += loss_of(answers, truth[start : start + EVALUATED]).item()
        ends.append(time.perf_counter())
    return _between(ends)


def lightnings(ready: Ready, training: Split, validation: Split, recipe: Recipe) -> list[float]:
    """Return the seconds of each epoch of Lightning's Trainer, over our own loader."""
    chosen = BatchSampler(RandomSampler(training), recipe.fit.batch_size, drop_last=True)
    batches = DataLoader(training, sampler=chosen, batch_size=None)
    held_out = DataLoader(_Whole(validation), batch_size=None)
    module = _Module(copy.deepcopy(ready.network), recipe, len(chosen) * recipe.fit.epochs)
    with warnings.catch_warnings():
        # Of loaders without workers, and that nothing is logged.
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=recipe.fit.epochs, accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(module, batches, held_out)
    return _between(module.ends)


class _Whole(torch.utils.data.IterableDataset[Pair]):
    """A split in order, in the batches that ours evaluates."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._split)


class _Module(lightning.LightningModule):
    """The network as Lightning wants it."""

    def __init__(self, network: nn.Module, recipe: Recipe, steps: int) -> None:
        super().__init__()
        self.network, self._recipe, self._steps = network, recipe, steps
        self._loss_of = _loss(recipe)
        self.ends: list[float] = []

    def training_step(self, batch: Pair, _: int) -> torch.Tensor:
        return self._loss_of(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Pair, _: int) -> torch.Tensor:
        return self._loss_of(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer, schedule = _optimizer(self.network, self._recipe, self._steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_train_start(self) -> None:
        self.ends.append(time.perf_counter())

    def on_train_epoch_end(self) -> None:
        # After the evaluation, which belongs to the epoch.
        self.ends.append(time.perf_counter())


def _loss(recipe: Recipe) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    if recipe.task == "regression":
        return functional.mse_loss
    return nn.CrossEntropyLoss(label_smoothing=recipe.fit.label_smoothing)


def _optimizer(
    network: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    fit = recipe.fit
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=fit.learning_rate, weight_decay=fit.weight_decay
    )
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


def _between(ends: list[float]) -> list[float]:
    return [end - start for start, end in pairwise(ends)]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
