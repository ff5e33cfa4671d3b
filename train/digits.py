"""Handwritten digits: centred by their ink, shifted while training, rare classes drawn more often.

`python train/digits.py` trains the network, traces it, and says what it made.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

import marwright
from marwright import ImageSamples, TrainJob


def load() -> ImageSamples:
    """Return scikit-learn's 1,797 digits of 8×8 pixels, white on black, centred."""
    from sklearn.datasets import load_digits

    # The handler's too, so that what is served is what was trained on.
    from handlers.ink import centred

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return ImageSamples(
        images=[centred(image) for image in images],
        targets=digits.target.astype(np.int64),
        labels=tuple(str(digit) for digit in range(10)),
        names=[f"digit {number}" for number in range(len(images))],
    )


class Shifted(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images, each moved by up to a pixel, another way each time; edges are repeated."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs = nn.functional.pad(inputs, (1, 1, 1, 1), mode="replicate")
        self.targets = targets
        self.height, self.width = inputs.shape[2:]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        down, right = torch.randint(3, (2,)).tolist()
        image = self.inputs[place, :, down : down + self.height, right : right + self.width]
        return image, self.targets[place]


def train(job: TrainJob) -> nn.Module:
    """Minimise cross entropy over one rise and fall of the learning rate; keep the best epoch."""
    epochs, batch_size = job.params["epochs"], job.params["batch_size"]
    network = job.network.to(job.device)
    targets = job.train.targets
    weights = 1 / torch.bincount(targets).float()[targets]
    sampler = WeightedRandomSampler(weights.tolist(), len(targets))
    batches = DataLoader(
        Shifted(job.train.inputs, targets), batch_size=batch_size, sampler=sampler, drop_last=True
    )
    rate = job.params["learning_rate"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=epochs * len(batches)
    )
    best_loss, best = math.inf, copy.deepcopy(network.state_dict())
    for epoch in range(1, epochs + 1):
        network.train()
        total = 0.0
        for inputs, labels in batches:
            optimizer.zero_grad()
            outputs = network(inputs.to(job.device))
            loss = nn.functional.cross_entropy(outputs, labels.to(job.device))
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()

        validation_loss, accuracy = evaluate(network, job)
        job.progress(
            epoch, epochs, train_loss=total / len(batches), validation_loss=validation_loss,
            metric=accuracy, learning_rate=scheduler.get_last_lr()[0],
        )  # fmt: skip
        if validation_loss < best_loss:
            best_loss, best = validation_loss, copy.deepcopy(network.state_dict())
    network.load_state_dict(best)
    return network


@torch.no_grad()
def evaluate(network: nn.Module, job: TrainJob) -> tuple[float, float]:
    """Return the loss and the accuracy on the validation split."""
    network.eval()
    outputs = network(job.validation.inputs.to(job.device)).cpu()
    targets = job.validation.targets
    right = (outputs.argmax(dim=1) == targets).float().mean()
    return nn.functional.cross_entropy(outputs, targets).item(), right.item()


marwright.train(__file__)
