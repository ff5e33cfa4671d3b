"""One training: a network, what moves its weights, and how far it has come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from msgspec import structs
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.training import together
from marwright.training.fitted import Fitted, State
from marwright.training.loop.average import averaged
from marwright.training.loop.batches import Batches, Split, class_weights, in_order
from marwright.training.loop.memory import is_out_of_memory, peak, release
from marwright.training.loop.optimizer import optimizer_of
from marwright.training.loop.schedule import Schedule
from marwright.training.machine import choose_device
from marwright.training.metrics import Pair, evaluate, loss_of
from marwright.training.model import fill
from marwright.training.record import Epoch
from marwright.training.stages import set_training, stages_of, training_stages

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe

Forward = Callable[[torch.Tensor], torch.Tensor]
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def _known(error: Exception) -> TrainError | None:
    """Return what a person can do about an error of torch's, where that is known."""
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return TrainError(
            f"torch.compile: {str(error).strip().splitlines()[0]}: set [fit] compile = false (on a "
            "CPU it needs a C++ compiler, as g++ is)"
        )
    # By its text: torch has no class of its own for these.
    if "more than 1 value per channel" in str(error):
        return TrainError(
            "a batch norm was given one sample of one pixel at a time: lower [fit] accumulate, "
            "raise batch_size, or take larger samples"
        )
    if "does not have a deterministic implementation" in str(error):
        return TrainError(
            f"{error}\nThe same recipe must give the same weights: set [fit] device = "
            '"cpu", or take another network'
        )
    return None


@dataclass(slots=True)
class Best:
    """The weights that did best on the validation split so far."""

    loss: float = math.inf
    epoch: int = 0
    weights: State = field(default_factory=dict)


class Run:
    """One training: a network, what moves its weights, and how far it has come."""

    def __init__(self, network: nn.Module, training: Split, recipe: Recipe) -> None:
        self._recipe, self._fit = recipe, recipe.fit
        self.device = choose_device(self._fit.device)
        if self._fit.precision == "fp16" and self.device.type != "cuda":
            raise TrainError('[fit] precision = "fp16" needs a GPU: take "bf16" or "fp32"')
        if len(training) < together.size():
            raise TrainError(
                f"{len(training)} training samples for [fit] processes = {together.size()}: each "
                "needs one at least"
            )
        network, note = together.with_synchronised_norms(network.to(self.device), self.device)
        self.events: list[str] = [note] if note else []
        self._network = network
        self.stages = stages_of(network)
        self._training = 0
        self._shared: Forward = network
        self._forward: Forward = network
        self._average = averaged(network, self._fit.ema) if self._fit.ema else None
        self.batches = Batches(training, self._fit, self.device)
        weights = None
        if self._fit.imbalance == "loss":
            weights = class_weights(training.targets)
        self._loss = loss_of(
            recipe.task, label_smoothing=self._fit.label_smoothing, weights=weights
        ).to(self.device)
        self.optimizer = optimizer_of(self.stages, recipe)
        self._schedule = Schedule(self.optimizer, self._fit, len(self.batches))
        self._scaler = torch.amp.GradScaler(enabled=self._fit.precision == "fp16")
        kind = _TYPES.get(self._fit.precision)
        self._autocast = torch.autocast(self.device.type, kind) if kind else nullcontext()
        self._parts = self._fit.accumulate
        self._has_batch_norms = any(stage.batch_norms for stage in self.stages)
        self._best = Best()
        self.epochs: list[Epoch] = []

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or no better one has come for long enough."""
        done = len(self.epochs)
        return done >= self._fit.epochs or (
            done > 0 and done - self._best.epoch >= self._fit.patience
        )

    def begin_epoch(self) -> int:
        """Put the network into the mode of the next epoch; returns how many stages train."""
        training = training_stages(self._recipe.transfer, len(self.stages), len(self.epochs) + 1)
        frozen = self._recipe.transfer.batch_norm == "frozen"
        set_training(self._network, self.stages, training, frozen=frozen)
        if training != self._training:
            self._training = training
            self._shared = self._forward = together.shared(self._network, self.device)
        if self._fit.compile:
            # Which kernels torch takes for a shape depends on the shapes that it has seen: a run
            # that goes on must have seen the same.
            torch.compiler.reset()
            self._forward = torch.compile(self._shared)
        return training

    def train_epoch(self) -> None:
        """Go through the training split once, and note what came of it in `epochs`."""
        number, training, total = len(self.epochs) + 1, self.begin_epoch(), 0.0
        for count, (inputs, targets) in enumerate(self.batches.epoch(number), start=1):
            loss, moved = self.step(inputs, targets)
            self._check_finite(loss, f"epoch {number}, batch {count} of {len(self.batches)}")
            if moved:
                self._schedule.step()
            total += loss
        self.epochs.append(
            Epoch(
                number=number,
                learning_rate=self.optimizer.param_groups[-1]["lr"],
                train_loss=together.mean(total / len(self.batches)),
                validation_loss=math.nan,
                metric=math.nan,
                stages=training,
            )
        )

    def evaluate(self, validation: Split) -> None:
        """Measure what the last epoch led to, and keep the weights if they are the best."""
        chosen = self._average or self._network
        measured = math.nan, math.nan
        if together.rank() == 0:
            seen = evaluate(chosen, in_order(validation, self._fit), self._recipe.task)
            measured = seen.loss, seen.metric
        # Of the first process only: each has statistics of its own, and all must stop together.
        loss, metric = together.of_first(measured)
        number = len(self.epochs)
        self._check_finite(loss, f"the validation split after epoch {number}")
        self.epochs[-1] = structs.replace(self.epochs[-1], validation_loss=loss, metric=metric)
        self._schedule.end_epoch(loss)
        if loss < self._best.loss:
            weights = (self._average.module if self._average else self._network).state_dict()
            self._best = Best(
                loss=loss,
                epoch=number,
                weights={name: value.detach().clone() for name, value in weights.items()},
            )

    def step(self, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, bool]:
        """Take one step of the optimizer on a batch; returns its loss, and whether weights moved.

        A loss that is not finite moves nothing. Raises `TrainError` for what a recipe can mend.
        """
        while True:
            try:
                loss = self._find_gradients(inputs, targets)
                break
            except (RuntimeError, ValueError, MemoryError) as error:
                if is_out_of_memory(error):
                    self._make_room(len(targets), error)
                elif (known := _known(error)) is not None:
                    raise known from error
                else:
                    raise
        moved = False
        if math.isfinite(loss):
            try:
                moved = self._move()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # Some weights may have moved, and fewer samples at a time do not help here.
                raise TrainError(
                    f"out of memory while weights were moved (peak {peak(self.device)}): take a "
                    'smaller network, or optimizer = "sgd", which keeps less of each weight'
                ) from error
        return loss, moved

    def _find_gradients(self, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        total, count = 0.0, min(self._parts, len(targets))
        parts: Iterable[Pair] = [(inputs, targets)]
        if count > 1:
            parts = zip(inputs.tensor_split(count), targets.tensor_split(count), strict=True)
        for number, (part, wanted) in enumerate(parts, start=1):
            # Processes that train together tell each other the sum of all parts, once.
            with nullcontext() if number == count else together.unshared(self._shared):
                loss = self._loss_of(part, wanted) / len(targets)
                total += loss.item()
                if not math.isfinite(total):
                    return total
                torch.autograd.backward(self._scaler.scale(loss))
        return total

    def _move(self) -> bool:
        if self._fit.clip:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._network.parameters(), self._fit.clip)
        scale = self._scaler.get_scale()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._scaler.get_scale() < scale:
            # In fp16 a gradient was infinite: it goes on with a smaller scale.
            return False
        if self._average is not None:
            self._average.update_parameters(self._network)
        return True

    def _loss_of(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with self._autocast:
            outputs = self._forward(inputs)
            if not isinstance(outputs, torch.Tensor):
                raise TrainError(
                    f"{self._recipe.model.file}: in training the network gives a "
                    f"{type(outputs).__name__}, not one tensor (heads in the middle must be off)"
                )
            loss: torch.Tensor = self._loss(outputs, targets)
        return loss

    def _make_room(self, batch: int, error: BaseException) -> None:
        """Split batches into twice as many parts. Raises `TrainError` where that may not be."""
        part = math.ceil(batch / self._parts)
        told = f"out of memory with {part} samples at a time (peak {peak(self.device)})"
        # A batch norm needs two samples at least.
        parts = min(2 * self._parts, batch // 2 if self._has_batch_norms else batch)
        if self._fit.out_of_memory == "stop" or parts <= self._parts:
            help = (
                f"set [fit] accumulate = {parts}"
                if parts > self._parts
                else "it cannot be fewer: take a smaller network or smaller samples"
            )
            halve = ', or out_of_memory = "halve"' if together.size() == 1 else ""
            raise TrainError(f"{told}: {help}{halve if parts > self._parts else ''}") from error
        self._parts = parts
        self.events.append(f"{told}: batches went through in {self._parts} parts from then on")
        self.optimizer.zero_grad(set_to_none=True)
        release(self.device)

    def _check_finite(self, loss: float, where: str) -> None:
        if not math.isfinite(loss):
            raise TrainError(
                f"the loss is {loss} in {where}: lower [fit] learning_rate "
                f"(now {self._fit.learning_rate:g}), or look for extreme values in the data"
            )

    def state_dict(self) -> State:
        """Return what it takes to go on after the last epoch.

        All chance of an epoch comes from the seed and its number, so no generator is in it.
        """
        return {
            "network": self._network.state_dict(),
            "average": self._average.state_dict() if self._average else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "parts": self._parts,
            "best": {
                "loss": self._best.loss,
                "epoch": self._best.epoch,
                "weights": self._best.weights,
            },
            "epochs": [structs.asdict(epoch) for epoch in self.epochs],
            "events": self.events,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from there."""
        self._network.load_state_dict(state["network"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self._parts = state["parts"]
        self._best = Best(**state["best"])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.events = list(state["events"])

    def finish(self) -> Fitted:
        """Return the network with its best weights."""
        fill(self._network, together.of_first(self._best.weights))
        # Later epochs moved weights that were not kept.
        moved = max(epoch.stages for epoch in self.epochs[: self._best.epoch])
        set_training(self._network, self.stages, len(self.stages), frozen=False)
        return Fitted(
            model=self._network.cpu().eval(),
            epochs=tuple(self.epochs),
            best_epoch=self._best.epoch,
            validation_loss=self._best.loss,
            trained=sum(stage.trainable for stage in self.stages[len(self.stages) - moved :]),
            device=self.device.type,
            events=tuple(self.events),
        )
