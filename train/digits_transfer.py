"""Five more digits from 20 samples each, by a network that has learned five others.

First the new head learns over a frozen body, then all of it, the body at a lower rate.
`python train/digits_transfer.py` trains it, traces it, and says what it made.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.utils.data import DataLoader

import marwright
from marwright import TrainJob


def train(job: TrainJob) -> nn.Module:
    """Train the head for `head_epochs`, then everything; keep the epoch with the least loss."""
    network = job.network.to(job.device)
    head = network.get_submodule("fc")
    epochs, head_epochs = job.params["epochs"], job.params["head_epochs"]
    rate = job.params["learning_rate"]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for parameter in head.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.05)
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    batches = DataLoader(job.train, batch_size=job.params["batch_size"], shuffle=True)
    best_loss, best = math.inf, copy.deepcopy(network.state_dict())
    for epoch in range(1, epochs + 1):
        is_frozen = epoch <= head_epochs
        if epoch == head_epochs + 1:
            body = [p for name, p in network.named_parameters() if not name.startswith("fc.")]
            for parameter in body:
                parameter.requires_grad_(True)
            optimizer.add_param_group({"params": body, "lr": rate * job.params["body_rate"]})
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs - head_epochs)
        # A frozen body keeps the statistics of its batch norms, too.
        network.train(not is_frozen)
        head.train()
        total = 0.0
        for inputs, labels in batches:
            moved = torch.roll(inputs, torch.randint(-2, 3, (2,)).tolist(), dims=(2, 3))
            optimizer.zero_grad()
            outputs = network(moved.to(job.device))
            loss = nn.functional.cross_entropy(outputs, labels.to(job.device))
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        if scheduler is not None:
            scheduler.step()

        network.eval()
        with torch.no_grad():
            outputs = network(job.validation.inputs.to(job.device)).cpu()
        targets = job.validation.targets
        validation_loss = nn.functional.cross_entropy(outputs, targets).item()
        accuracy = (outputs.argmax(dim=1) == targets).float().mean().item()
        job.progress(
            epoch, epochs, train_loss=total / len(job.train), validation_loss=validation_loss,
            metric=accuracy, learning_rate=optimizer.param_groups[0]["lr"],
        )  # fmt: skip
        if validation_loss < best_loss:
            best_loss, best = validation_loss, copy.deepcopy(network.state_dict())
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    network.load_state_dict(best)
    return network


marwright.train(__file__)
