"""Training: selected on validation, stopped in time, the same again, and never on NaN."""

from __future__ import annotations

import hashlib
import inspect
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.recipe.types import Fit, Recipe
from marwright.training.data import open_dataset
from marwright.training.fit import fit
from marwright.training.fitted import Fitted
from marwright.training.loop.batches import Split, Tensors
from marwright.training.machine import set_determinism
from marwright.training.metrics import Evaluation, evaluate
from marwright.training.model import build_model
from marwright.training.preprocess import fit_preprocess
from marwright.training.run import tensors_of
from tests.training.conftest import (
    ModuleMaker,
    image_recipe,
    image_samples,
    table_recipe,
    table_samples,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

Pair = tuple[torch.Tensor, torch.Tensor]


def quiet(*_: object) -> None:
    """A progress that shows nothing."""


def pair(count: int = 40, seed: int = 0) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 3, generator=generator)
    return inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5]])


def rows(count: int = 40, seed: int = 0) -> Split:
    return Tensors(*pair(count, seed))


def trained(recipe: Recipe, model: nn.Module | None = None, **splits: Split) -> Fitted:
    set_determinism(recipe.fit.seed, recipe.fit.threads)
    model = build_model(recipe, Path(), (3,), 1) if model is None else model
    training, validation = splits.get("training", rows()), splits.get("validation", rows(16, 1))
    return fit(model, training, validation, recipe, quiet)


def learnt(recipe: Recipe, outputs: int) -> tuple[Fitted, Evaluation]:
    splits = open_dataset(recipe, Path()).splits
    spec = fit_preprocess(recipe, splits)
    training, validation, test = (
        tensors_of(name, recipe, splits, spec) for name in ("train", "validation", "test")
    )
    network = build_model(recipe, Path(), spec.shape, outputs)
    fitted = fit(network, training, validation, recipe, quiet)
    return fitted, evaluate(fitted.model, test, recipe.task)


def digest(model: nn.Module) -> str:
    whole = hashlib.sha256()
    for name, value in model.state_dict().items():
        whole.update(name.encode() + value.numpy().tobytes())
    return whole.hexdigest()


# --- what it learns -------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "constant"])
def test_a_line_is_learnt(optimizer: str, schedule: str) -> None:
    recipe = table_recipe(
        epochs=40,
        optimizer=optimizer,
        schedule=schedule,
        learning_rate=0.1,
        weight_decay=0,
        patience=40,
        batch_size=8,
    )
    fitted = trained(recipe, nn.Linear(3, 1))
    assert fitted.validation_loss < 1e-2


def test_a_network_with_batch_norm_and_dropout_learns_images(make_module: ModuleMaker) -> None:
    make_module("marwright.training.datasets.tiny", load=lambda: image_samples(120))
    recipe = image_recipe(epochs=6, learning_rate=1e-2, batch_size=16)
    set_determinism(0, 1)
    fitted, tested = learnt(recipe, 2)
    assert tested.metric >= 0.95
    norms = [m for m in fitted.model.modules() if isinstance(m, nn.BatchNorm2d)]
    # Its statistics were gathered, and come with the best weights.
    assert all(norm.running_mean is not None and norm.running_mean.any() for norm in norms)


def test_rows_in_their_own_units_are_learnt(make_module: ModuleMaker) -> None:
    make_module("marwright.training.datasets.tiny", load=lambda: table_samples(150))
    recipe = table_recipe(epochs=60, learning_rate=2e-2, patience=60)
    set_determinism(0, 1)
    _, tested = learnt(recipe, 1)
    assert tested.metric > 0.9


# --- selection ------------------------------------------------------------------------------


def test_the_test_split_is_no_argument() -> None:
    parameters = inspect.signature(fit).parameters
    assert [name for name in parameters if "test" in name] == []
    # One split each, and nothing through which the rest could be reached.
    assert parameters["training"].annotation == parameters["validation"].annotation == "Split"


class Weight(nn.Module):
    """One number, whatever the input: where it stands is what was learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(inputs), 1)


def passing_by(epochs: int = 50, patience: int = 3) -> tuple[Fitted, list[float]]:
    """Train towards 1, past the validation split's 0.35; returns the losses seen, too."""
    recipe = table_recipe(
        epochs=epochs,
        patience=patience,
        optimizer="sgd",
        schedule="constant",
        learning_rate=0.02,
        weight_decay=0,
        batch_size=32,
    )
    losses = []

    def progress(_: int, __: int, text: str) -> None:
        losses.append(float(re.findall(r"validation (\S+)", text)[0]))

    inputs, ones = torch.zeros(32, 1), torch.ones(32, 1)
    fitted = fit(
        Weight(), Tensors(inputs, ones), Tensors(inputs[:8], ones[:8] * 0.35), recipe, progress
    )
    return fitted, losses


def test_training_stops_early_with_the_best_weights() -> None:
    fitted, losses = passing_by()
    assert len(fitted.epochs) == len(losses) < 50
    assert fitted.best_epoch == losses.index(min(losses)) + 1
    assert len(fitted.epochs) == fitted.best_epoch + 3
    assert fitted.validation_loss == pytest.approx(min(losses), abs=1e-4)
    # The weights are those of the best epoch, and not those of the last.
    inputs, target = torch.zeros(8, 1), torch.full((8, 1), 0.35)
    again = evaluate(fitted.model, Tensors(inputs, target), "regression").loss
    assert again == fitted.validation_loss
    assert losses[-1] > 4 * min(losses)


def test_patience_is_counted_from_the_best_epoch() -> None:
    for patience in (1, 5):
        fitted, _ = passing_by(patience=patience)
        assert len(fitted.epochs) - fitted.best_epoch == patience


def test_the_last_epoch_is_the_recipes() -> None:
    fitted, losses = passing_by(epochs=2)
    assert (len(fitted.epochs), fitted.best_epoch, len(losses)) == (2, 2, 2)


def test_the_model_comes_back_in_eval_mode_on_the_cpu() -> None:
    fitted = trained(table_recipe(epochs=1))
    assert not any(module.training for module in fitted.model.modules())
    assert {p.device.type for p in fitted.model.parameters()} == {"cpu"}
    assert fitted.device == "cpu"


def test_the_best_weights_are_no_longer_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    # A state dict is a view: without a copy, the best weights would go on changing.
    fitted, _ = passing_by()
    before = digest(fitted.model)
    passing_by()
    assert digest(fitted.model) == before


# --- modes and gradients --------------------------------------------------------------------


class Watched(nn.Module):
    """A linear layer that writes down how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.calls: list[tuple[bool, bool, int]] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls.append((self.training, torch.is_grad_enabled(), len(inputs)))
        return self.linear(inputs)


def test_epochs_train_in_train_mode_and_are_measured_in_eval_mode() -> None:
    model = Watched().eval()
    trained(table_recipe(epochs=2, batch_size=16), model)
    # 40 samples: two whole batches, the remainder dropped; then the 16 of validation.
    epoch = [(True, True, 16), (True, True, 16), (False, False, 16)]
    assert model.calls == epoch * 2


def test_a_batch_larger_than_the_data_is_all_of_it() -> None:
    model = Watched()
    trained(table_recipe(epochs=1, batch_size=64), model)
    assert model.calls[0] == (True, True, 40)


@pytest.mark.parametrize(
    ("count", "sizes"), [(32, [16, 16]), (33, [16, 16]), (17, [16]), (16, [16])]
)
def test_no_batch_holds_a_single_sample(count: int, sizes: list[int]) -> None:
    model = Watched()
    trained(table_recipe(epochs=1, batch_size=16), model, training=rows(count))
    assert [size for training, _, size in model.calls if training] == sizes


def test_another_epoch_drops_other_samples_and_has_another_order() -> None:
    seen: list[list[float]] = []

    class Remembers(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(inputs[:, 0].tolist())
            return super().forward(inputs)

    trained(table_recipe(epochs=2, batch_size=16), Remembers(3, 1))
    first, second = seen[0] + seen[1], seen[2] + seen[3]
    assert first != second
    assert set(first) != set(second)
    assert len(set(first)) == len(set(second)) == 32


def test_gradients_are_zeroed_between_batches() -> None:
    # One parameter with a constant gradient of 1: three steps of plain descent without momentum's
    # help would go 1, 2, 3 steps far if gradients were added up.
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.zeros(1))
            self.gradients: list[float] = []
            self.value.register_hook(self.remember)

        def remember(self, gradient: torch.Tensor) -> None:
            self.gradients.append(float(gradient))
            if self.value.grad is not None:
                self.gradients.append(math.nan)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.value.expand(len(inputs), 1)

    model = Constant()
    recipe = table_recipe(epochs=1, batch_size=10, learning_rate=1e-6)
    trained(recipe, model, training=Tensors(torch.zeros(40, 3), torch.ones(40, 1)))
    assert model.gradients == pytest.approx([-2.0] * 4, rel=1e-3)


def test_the_learning_rate_follows_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: dict[str, list[float]] = {}
    step = torch.optim.SGD.step
    for schedule in ("cosine", "one_cycle", "constant"):
        found = rates.setdefault(schedule, [])

        def remembered(self: Any, *args: Any, found: Any = found, **more: Any) -> Any:
            found.append(self.param_groups[0]["lr"])
            return step(self, *args, **more)

        monkeypatch.setattr(torch.optim.SGD, "step", remembered)
        trained(
            table_recipe(
                epochs=5, optimizer="sgd", schedule=schedule, learning_rate=0.01, batch_size=8
            ),
            nn.Linear(3, 1),
        )
    assert all(len(found) == 25 for found in rates.values())
    assert rates["constant"] == pytest.approx([0.01] * 25)
    assert rates["cosine"] == sorted(rates["cosine"], reverse=True)
    assert rates["cosine"][0] == pytest.approx(0.01)
    assert rates["cosine"][-1] < 1e-4
    assert max(rates["one_cycle"]) == pytest.approx(0.01, rel=1e-2)
    assert rates["one_cycle"][0] < 1e-3 > rates["one_cycle"][-1]


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 0.05), ("sgd", 0.01)])
def test_weight_decay_reaches_the_optimizer(optimizer: str, rate: float) -> None:
    norms = []
    for decay in (0.0, 5.0):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        options = {"weight_decay": decay, "learning_rate": rate, "optimizer": optimizer}
        trained(table_recipe(epochs=5, batch_size=8, **options), model)
        norms.append(float(model.weight.detach().norm()))
    assert norms[1] < norms[0] * 0.9


# --- NaN and infinity -----------------------------------------------------------------------


def test_an_absurd_learning_rate_is_named_with_its_epoch_and_batch() -> None:
    recipe = table_recipe(
        epochs=5, optimizer="sgd", schedule="constant", learning_rate=1e30, batch_size=8
    )
    with pytest.raises(TrainError) as caught:
        trained(recipe, nn.Linear(3, 1))
    assert re.fullmatch(
        r"the loss is (inf|nan) in epoch 1, batch [23] of 5: lower \[fit\] learning_rate "
        r"\(now 1e\+30\), or look for extreme values in the data",
        str(caught.value),
    )


def test_nan_in_the_training_data_is_named_with_its_batch() -> None:
    inputs, targets = pair()
    inputs[:] = math.nan
    with pytest.raises(TrainError, match="the loss is nan in epoch 1, batch 1 of 5: lower"):
        trained(table_recipe(epochs=1, batch_size=8), training=Tensors(inputs, targets))


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_nan_on_the_validation_split_is_named_with_its_epoch(odd: float) -> None:
    inputs, targets = pair(16)
    inputs[3, 1] = odd
    with pytest.raises(TrainError, match="in the validation split after epoch 1: lower"):
        trained(table_recipe(epochs=1), validation=Tensors(inputs, targets))


# --- the same again -------------------------------------------------------------------------


def fit_images(seed: int) -> str:
    recipe = image_recipe(epochs=2, seed=seed, batch_size=8)
    set_determinism(recipe.fit.seed, recipe.fit.threads)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(24, 1, 8, 8, generator=generator)
    split = Tensors(inputs, torch.arange(24) % 2)
    return digest(fit(build_model(recipe, Path(), (1, 8, 8), 2), split, split, recipe, quiet).model)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first = fit_images(0)
    # What happened in between does not matter.
    torch.randn(7)
    random.random()
    assert fit_images(0) == first
    assert fit_images(1) != first


def test_everything_that_draws_is_seeded() -> None:
    def draws() -> tuple[float, float, float]:
        set_determinism(5, 1)
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    first = draws()
    assert draws() == first
    assert torch.are_deterministic_algorithms_enabled()


def test_threads_are_those_of_the_recipe() -> None:
    for threads in (2, 1):
        set_determinism(0, threads)
        assert torch.get_num_threads() == threads
    # A value of the recipe, and so of the key: never what the machine happens to have.
    assert Fit().threads == 1


# --- what is told ---------------------------------------------------------------------------


def test_progress_tells_epoch_loss_and_metric() -> None:
    told: list[tuple[int, int, str]] = []
    recipe = table_recipe(epochs=3)
    fit(
        build_model(recipe, Path(), (3,), 1), rows(), rows(16, 1), recipe,
        lambda done, total, text: told.append((done, total, text)),
    )  # fmt: skip
    assert [(done, total) for done, total, _ in told] == [(1, 3), (2, 3), (3, 3)]
    for _, _, text in told:
        assert re.fullmatch(r"loss \d+\.\d{4} · validation \d+\.\d{4} · r2 -?\d+\.\d{4}", text)
