"""Disease progression from ten measurements: a network of 10 → 5 → 1, and its training loop.

`python train/diabetes.py` trains it, traces it, and says what it made.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.utils.data import DataLoader

import marwright
from marwright import TrainJob


def build(shape: tuple[int, ...], outputs: int, *, hidden: int = 5) -> nn.Module:
    """Return a network from `(N, *shape)` rows to `(N, outputs)` values."""
    return nn.Sequential(nn.Linear(shape[0], hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def train(job: TrainJob) -> nn.Module:
    """Minimise the squared error; stop when the validation loss has not fallen for a while."""
    epochs, patience = job.params["epochs"], job.params["patience"]
    network = job.network.to(job.device)
    batches = DataLoader(job.train, batch_size=job.params["batch_size"], shuffle=True)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=job.params["learning_rate"],
        weight_decay=job.params["weight_decay"],
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loss_function = nn.MSELoss()
    best_loss, best_epoch, best = math.inf, 0, copy.deepcopy(network.state_dict())
    for epoch in range(1, epochs + 1):
        network.train()
        total = 0.0
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = loss_function(network(inputs.to(job.device)), targets.to(job.device))
            loss.backward()
            optimizer.step()
            total += loss.item() * len(inputs)
        scheduler.step()

        network.eval()
        with torch.no_grad():
            outputs = network(job.validation.inputs.to(job.device)).cpu()
        validation_loss = loss_function(outputs, job.validation.targets).item()
        job.progress(
            epoch, epochs, train_loss=total / len(job.train), validation_loss=validation_loss,
            learning_rate=scheduler.get_last_lr()[0],
        )  # fmt: skip
        if validation_loss < best_loss:
            best_loss, best_epoch = validation_loss, epoch
            best = copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= patience:
            break
    network.load_state_dict(best)
    return network


marwright.train(__file__)
