"""`[train] script`: a training loop of a person's own, between the engine's data and its tests.

The engine splits the data, fits the preprocessing and builds the network; the script trains it; the
engine measures what came of it on the test split, which the script never sees.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset

from marwright.project import load_module
from marwright.recipe.errors import MarwrightError, TrainError
from marwright.runtime.spec import PreprocessSpec
from marwright.training.checkpoint import outputs_of
from marwright.training.fitted import Fitted, Kept, Progress
from marwright.training.loop.batches import in_order
from marwright.training.machine import choose_device
from marwright.training.metrics import evaluate
from marwright.training.model import build_model, fill
from marwright.training.places import frames_of, innermost
from marwright.training.record import Epoch
from marwright.training.run import Ready, tensors_of
from marwright.training.samples import ImageSamples, Samples
from marwright.training.stages import stages_of
from marwright.training.tensors import inputs_of, targets_of
from marwright.training.types import Checkpoint

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe

# Samples on which the returned network is held against the one that ships.
_COMPARED = 64
# Of the largest output: on a GPU another batch may be added up in another order.
_CLOSE = 1e-4


class Examples(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A split, as torch's `DataLoader` takes it: `(input, target)` pairs, ready for the network.

    `inputs` are all of them `(N, …)`, float32, or int64 for texts; `targets` int64 `(N,)` labels,
    or float32 `(N, 1)` values, scaled as `[preprocess]` says. `samples.name(indices[i])` and the
    like lead to the i-th as it was before preprocessing.
    """

    def __init__(self, samples: Samples, indices: NDArray[np.int64], spec: PreprocessSpec) -> None:
        self.samples = samples
        self.indices = indices
        self.spec = spec

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._is_decoded_anew:
            return inputs_of(self.samples, self.indices[[place]], self.spec)[0], self.targets[place]
        return self.inputs[place], self.targets[place]

    @cached_property
    def inputs(self) -> torch.Tensor:
        """All inputs, as the network takes them."""
        return inputs_of(self.samples, self.indices, self.spec)

    @cached_property
    def targets(self) -> torch.Tensor:
        """All targets, as a loss takes them."""
        return targets_of(self.samples, self.indices, self.spec)

    @cached_property
    def _is_decoded_anew(self) -> bool:
        # Image files may be more than memory holds.
        if not isinstance(self.samples, ImageSamples):
            return False
        return any(isinstance(self.samples.images[index], Path) for index in self.indices)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """What `train(job)` is given; it returns the trained network.

    network: as `[model]` says, with the weights of `init_from` where there are any. On the CPU.
    train, validation: the splits to train on and to select by.
    device: where to train: a GPU where there is one.
    seed, params: of the recipe. Python, NumPy and torch are seeded already.
    out: a folder of the script's own, for what it wants to go on from after a kill. It is gone once
        training is done.
    parent: the checkpoint of the recipe in `[model] init_from`.
    """

    network: nn.Module
    train: Examples
    validation: Examples
    device: torch.device
    seed: int
    params: Mapping[str, Any]
    out: Path
    parent: Checkpoint | None = None
    _told: _Told = field(repr=False)

    def progress(
        self,
        epoch: int,
        epochs: int,
        *,
        train_loss: float | None = None,
        validation_loss: float | None = None,
        metric: float | None = None,
        learning_rate: float | None = None,
    ) -> None:
        """Tell that an epoch of at most `epochs` is over (from 1), for the bar and the report.

        What is given of every epoch is drawn in the report; the epoch with the least
        `validation_loss` is called the best.
        """
        self._told.add(
            Epoch(
                number=epoch,
                learning_rate=_plain(learning_rate),
                train_loss=_plain(train_loss),
                validation_loss=_plain(validation_loss),
                metric=_plain(metric),
                stages=self._told.stages,
            ),
            epochs,
        )


class _Told:
    """What a script tells of its epochs."""

    def __init__(self, progress: Progress, stages: int) -> None:
        self.epochs: list[Epoch] = []
        self.stages = stages
        self._progress = progress

    def add(self, epoch: Epoch, epochs: int) -> None:
        self.epochs.append(epoch)
        values = {"loss": epoch.train_loss, "validation": epoch.validation_loss,
                  "metric": epoch.metric}  # fmt: skip
        shown = [f"{name} {value:.4f}" for name, value in values.items() if value is not None]
        self._progress(epoch.number, max(epochs, epoch.number), " · ".join(shown))

    @property
    def best(self) -> int:
        """The number of the epoch with the least validation loss, or of the last one."""
        losses = {epoch.number: epoch.validation_loss for epoch in self.epochs}
        known = {number: loss for number, loss in losses.items() if loss is not None}
        if not known:
            return self.epochs[-1].number if self.epochs else 0
        return min(known, key=lambda number: known[number])


def _plain(value: float | None) -> float | None:
    # A tensor of one element is a value, too; one that is not finite is none to draw.
    return None if value is None or not np.isfinite(float(value)) else float(value)


def find_weights(
    ready: Ready,
    recipe: Recipe,
    root: Path,
    progress: Progress,
    parent: Checkpoint | None,
    kept: Kept,
) -> Fitted:
    """Run the script of `[train]` and hold what it returns against the network that ships.

    Raises `TrainError`, with the script's file and line, where it fails, or returns something else
    than its network trained.
    """
    assert recipe.train is not None and kept.folder is not None
    splits, network = ready.opened.splits, ready.network
    told = _Told(progress, len(stages_of(ready.network)))
    before = {name: value.detach().clone() for name, value in network.state_dict().items()}
    device = choose_device(recipe.train.device)
    job = TrainJob(
        network=network,
        train=Examples(splits.samples, splits.train, ready.spec),
        validation=Examples(splits.samples, splits.validation, ready.spec),
        device=device,
        seed=recipe.train.seed,
        params=recipe.train.params,
        out=kept.folder,
        parent=parent,
        _told=told,
    )
    named = recipe.train.run
    where = f"{named.file}: {named.function}()"
    returned = _trained(_run(job, recipe, root), where)
    weights = {name: value.detach().cpu() for name, value in returned.state_dict().items()}
    _require_weights(weights, before, where)
    shipped = build_model(recipe, root, ready.spec.shape, outputs_of(splits))
    fill(shipped, weights)
    shipped.eval()
    _require_same(returned.cpu().eval(), shipped, job.validation, where)
    validation = tensors_of("validation", recipe, splits, ready.spec)
    moved = [name for name, _ in shipped.named_parameters()
             if not torch.equal(weights[name], before[name])]  # fmt: skip
    return Fitted(
        model=shipped,
        epochs=tuple(told.epochs),
        best_epoch=told.best,
        validation_loss=evaluate(shipped, in_order(validation, recipe.fit), recipe.task).loss,
        trained=sum(weights[name].numel() for name in moved),
        device=device.type,
        events=() if moved else (f"{where} left every weight as it was",),
    )


def _run(job: TrainJob, recipe: Recipe, root: Path) -> object:
    assert recipe.train is not None
    named = recipe.train.run
    # A person's own code may raise anything, and may end the process.
    try:
        function = getattr(load_module(named.file, root), named.function)
        return function(job)
    except MarwrightError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        place = innermost(frames_of(error), own_only=True) or named.file
        raise TrainError(f"{place}: {type(error).__name__}: {error}") from error


def _trained(returned: object, where: str) -> nn.Module:
    """Return the network that a script returned, without what it was wrapped in to train it."""
    if returned is None:
        raise TrainError(f"{where} returns nothing: end it with `return job.network`")
    if not isinstance(returned, nn.Module):
        raise TrainError(
            f"{where} returns {type(returned).__name__}, not the trained network: end it with "
            "`return job.network`"
        )
    network = returned
    if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        network = network.module
    # What torch.compile makes of a network.
    compiled = getattr(network, "_orig_mod", None)
    return compiled if isinstance(compiled, nn.Module) else network


def _require_weights(
    weights: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor], where: str
) -> None:
    """Refuse weights that are not those of the network that the recipe declares."""
    build = "[model] factory must build what is trained"
    if missing := sorted(before.keys() - weights.keys()):
        raise TrainError(f"{where} returns a network without {missing[0]}: {build}")
    if more := sorted(weights.keys() - before.keys()):
        raise TrainError(f"{where} returns a network with {more[0]}, and was given none: {build}")
    for name, value in weights.items():
        if value.shape != before[name].shape:
            raise TrainError(
                f"{where} returns {name} of shape {tuple(value.shape)}, and was given "
                f"{tuple(before[name].shape)}: {build}"
            )
        if not bool(torch.isfinite(value).all()):
            raise TrainError(
                f"{where} returns NaN or infinity in {name}: lower the learning rate, or look for "
                "extreme values in the data"
            )


def _require_same(returned: nn.Module, shipped: nn.Module, examples: Examples, where: str) -> None:
    """Refuse a network that answers otherwise than the one that ships with the same weights."""
    pairs = [examples[place][0] for place in range(min(_COMPARED, len(examples)))]
    inputs = torch.stack(pairs)
    with torch.no_grad():
        theirs, ours = returned(inputs), shipped(inputs)
    if not torch.allclose(theirs, ours, rtol=0, atol=_CLOSE * float(ours.abs().max())):
        raise TrainError(
            f"{where} returns a network that answers otherwise than the one that [model] factory "
            f"builds with its weights, by up to {float((theirs - ours).abs().max()):.3g}: what "
            "ships is built anew, so change it in the factory, not in the script"
        )
