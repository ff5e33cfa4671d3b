"""The training loop: early stopping on the validation loss, the best weights restored."""

from __future__ import annotations

import copy
import math
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from recipes.errors import TrainError
from train.metrics import evaluate, loss_of

if TYPE_CHECKING:
    from recipes.types import Fit, Recipe

# (epochs done, epochs at most, what to show beside the bar)
Progress = Callable[[int, int, str], None]
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained model on the CPU in eval mode, and how training went. Epochs count from 1."""

    model: nn.Module
    epochs: int
    best_epoch: int
    validation_loss: float
    device: str


class TrainingSet(Dataset[Pair]):
    """Inputs and targets, fetched a whole batch at once and augmented on the way."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, shift: int) -> None:
        self.inputs = inputs
        self.targets = targets
        self.shift = shift

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: list[int]) -> Pair:
        inputs = self.inputs[indices]
        if self.shift:
            inputs = shifted(inputs, self.shift)
        return inputs, self.targets[indices]


def shifted(images: torch.Tensor, most: int) -> torch.Tensor:
    """Move each image of `(N, C, H, W)` by up to `most` pixels a side; edges are repeated."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    top = torch.randint(0, 2 * most + 1, (count, 1))
    left = torch.randint(0, 2 * most + 1, (count, 1))
    rows = (top + torch.arange(height))[:, None, :, None]
    columns = (left + torch.arange(width))[:, None, None, :]
    numbers = torch.arange(count)[:, None, None, None]
    channels = torch.arange(images.shape[1])[None, :, None, None]
    return padded[numbers, channels, rows, columns]


def set_determinism(seed: int, threads: int) -> None:
    """Seed everything and allow only algorithms that give the same bits again."""
    # cuBLAS reads it when it starts; without it, deterministic algorithms refuse to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def choose_device(wanted: str) -> torch.device:
    """Return the device of `[fit] device`. Raises `TrainError` when it is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainError(
            'torch sees no CUDA device: set [fit] device = "auto", or see what `make doctor` says'
        )
    return torch.device(wanted)


def fit(
    model: nn.Module, training: Pair, validation: Pair, recipe: Recipe, progress: Progress
) -> Fitted:
    """Train on one split and select on the other; the test split is no argument.

    Inputs are `(N, …)`; targets int64 `(N,)` or float32 `(N, 1)`. Raises `TrainError` when the
    loss is NaN or infinite, naming epoch, batch and the key to change.
    """
    options, task = recipe.fit, recipe.task
    device = choose_device(options.device)
    model.to(device)
    held_out = (validation[0].to(device), validation[1].to(device))
    batches = _loader(*training, options)
    optimizer = _optimizer(model, options)
    scheduler = _scheduler(optimizer, options, len(batches))
    loss_function = loss_of(task)
    best_loss, best_epoch, best_state = math.inf, 0, copy.deepcopy(model.state_dict())
    epoch = 0
    for epoch in range(1, options.epochs + 1):
        model.train()
        total = 0.0
        for number, (inputs, targets) in enumerate(_on(device, batches), start=1):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_function(model(inputs), targets)
            value = loss.item()
            _check_finite(value, f"epoch {epoch}, batch {number} of {len(batches)}", options)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += value
        seen = evaluate(model, *held_out, task)
        _check_finite(seen.loss, f"the validation split after epoch {epoch}", options)
        name, value = next(iter(seen.metrics.items()))
        progress(
            epoch,
            options.epochs,
            f"loss {total / len(batches):.4f} · validation {seen.loss:.4f} · {name} {value:.4f}",
        )
        if seen.loss < best_loss:
            best_loss, best_epoch = seen.loss, epoch
            best_state = copy.deepcopy(model.state_dict())
        elif epoch - best_epoch >= options.patience:
            break
    model.load_state_dict(best_state)
    return Fitted(
        model=model.cpu().eval(),
        epochs=epoch,
        best_epoch=best_epoch,
        validation_loss=best_loss,
        device=device.type,
    )


def _loader(inputs: torch.Tensor, targets: torch.Tensor, options: Fit) -> DataLoader[Pair]:
    data = TrainingSet(inputs, targets, options.shift)
    order = RandomSampler(data, generator=torch.Generator().manual_seed(options.seed))
    # A last batch of one sample would stop batch norm; each epoch drops other samples.
    sampler = BatchSampler(order, options.batch_size, drop_last=len(data) > options.batch_size)
    return DataLoader(data, sampler=sampler, batch_size=None)


def _on(device: torch.device, batches: DataLoader[Pair]) -> Iterator[Pair]:
    for inputs, targets in batches:
        yield inputs.to(device), targets.to(device)


def _optimizer(model: nn.Module, options: Fit) -> torch.optim.Optimizer:
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=options.learning_rate,
            momentum=0.9,
            weight_decay=options.weight_decay,
        )
    return torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )


def _scheduler(
    optimizer: torch.optim.Optimizer, options: Fit, batches: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule that is stepped once a batch."""
    steps = options.epochs * batches
    if options.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=options.learning_rate, total_steps=steps
        )
    if options.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _check_finite(loss: float, where: str, options: Fit) -> None:
    if not math.isfinite(loss):
        raise TrainError(
            f"the loss is {loss} in {where}: lower [fit] learning_rate "
            f"(now {options.learning_rate:g}), or look for extreme values in the data"
        )
