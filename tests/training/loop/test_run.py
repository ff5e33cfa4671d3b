"""A training that is broken off and goes on ends with the weights of one that was not."""

from __future__ import annotations

import copy
import io
import math
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.recipe.types import Augment, Recipe, Transfer
from marwright.runtime.spec import TextSpec
from marwright.training.fit import fit
from marwright.training.fitted import Fitted
from marwright.training.loop.batches import Images, Split, Tensors, Texts
from marwright.training.loop.run import Run
from marwright.training.loop.state import read_state, write_state
from marwright.training.machine import set_determinism
from marwright.training.models import small_cnn, text_cnn
from tests.training.conftest import image_recipe, image_samples
from tests.training.loop.test_augment import SPEC, augmentation
from tests.training.test_fit import Watched, digest, pair, quiet, rows, table_recipe, trained
from tests.training.texts import text_recipe, text_samples

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


def parts() -> tuple[Split, Split]:
    samples = image_samples(48)
    return (
        Images(samples, np.arange(36), SPEC, augmentation=augmentation(shift=2, flip=True)),
        Images(samples, np.arange(36, 48), SPEC),
    )


def recipe_with(
    transfer: Transfer | None = None, augment: Augment | None = None, **options: Any
) -> Recipe:
    plain = image_recipe(**{"epochs": 6, "batch_size": 12, "learning_rate": 1e-2, **options})
    return msgspec.structs.replace(
        plain,
        transfer=transfer or Transfer(),
        augment=augment or Augment(shift=2, flip=True),
    )


def run_of(recipe: Recipe) -> Run:
    set_determinism(recipe.fit.seed, 1)
    return Run(small_cnn.build((1, 8, 8), 2, width=4), parts()[0], recipe)


OPTIONS: dict[str, dict[str, Any]] = {
    "adamw, one cycle": {"schedule": "one_cycle"},
    "sgd, cosine, warm": {"optimizer": "sgd", "warmup": 1.5},
    "average": {"ema": 0.9, "schedule": "step", "step_epochs": 2},
    "plateau, clipped": {"schedule": "plateau", "step_epochs": 1, "clip": 0.5},
    "bf16, parts": {"precision": "bf16", "accumulate": 3},
    "thawed": {"transfer": Transfer(freeze="body", unfreeze_every=2, layer_decay=0.5)},
    "sampler": {"imbalance": "sampler", "label_smoothing": 0.1},
    "weights, mixed": {"imbalance": "loss", "augment": Augment(mixup=0.4, cutmix=1.0)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_going_on_gives_the_same_weights(options: dict[str, Any]) -> None:
    recipe = recipe_with(**options)
    kept: list[bytes] = []

    def keep(state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        write_state(buffer, "key", state)
        kept.append(buffer.getvalue())

    def fitted(resumed: dict[str, Any] | None = None) -> Fitted:
        set_determinism(recipe.fit.seed, 1)
        network = small_cnn.build((1, 8, 8), 2, width=4)
        training, validation = parts()
        return fit(network, training, validation, recipe, quiet, resumed=resumed, keep=keep)

    whole = fitted()
    states = [torch.load(io.BytesIO(k), weights_only=True)["state"] for k in kept]
    assert len(states) == len(whole.epochs)
    for after in (0, 2, len(states) - 1):
        torch.randn(13)
        again = fitted(states[after])
        assert digest(again.model) == digest(whole.model)
        assert again.epochs == whole.epochs
        assert again.best_epoch == whole.best_epoch


def test_a_state_is_worth_something_to_its_key_only(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    assert read_state(file, "a") is None
    with file.open("wb") as target:
        write_state(target, "a", {"epochs": [], "weights": {"w": torch.ones(2)}})
    found = read_state(file, "a")
    assert found is not None
    assert found["weights"]["w"].tolist() == [1, 1]
    assert read_state(file, "b") is None
    for damaged in (file.read_bytes()[:100], b"", b"junk"):
        file.write_bytes(damaged)
        assert read_state(file, "a") is None


def test_nothing_in_a_state_is_run(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"key": "a", "state": Runs()}, tmp_path / "state.pt")
    assert read_state(tmp_path / "state.pt", "a") is None
    assert not (tmp_path / "ran").exists()


# --- parts of a batch, and memory -------------------------------------------------------------


def test_parts_of_a_batch_give_its_gradient() -> None:
    weights = []
    for accumulate in (1, 3, 8):
        torch.manual_seed(0)
        model = Watched()
        # A last batch of four goes through in four parts of one at most.
        trained(table_recipe(epochs=2, batch_size=8, accumulate=accumulate), model)
        sizes = [size for training, _, size in model.calls if training]
        assert max(sizes) == -(-8 // accumulate)
        weights.append(model.linear.weight.detach().clone())
    for other in weights[1:]:
        assert torch.allclose(weights[0], other, atol=1e-6)


@pytest.mark.parametrize("options", [{"imbalance": "loss"}, {"label_smoothing": 0.2}])
def test_parts_of_a_weighted_batch_give_its_gradient(options: dict[str, Any]) -> None:
    weights = []
    for accumulate in (1, 4, 6):
        recipe = recipe_with(
            optimizer="sgd", batch_size=12, accumulate=accumulate, epochs=1, **options
        )
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        run = Run(network, parts()[0], recipe)
        inputs = torch.randn(12, 1, 8, 8)
        # Two of the rare class, in one part.
        run.step(inputs, torch.tensor([1, 1] + [0] * 10))
        weights.append(network[1].weight.detach().clone())
    for other in weights[1:]:
        assert torch.allclose(weights[0], other, atol=1e-6)


class Hungry(nn.Module):
    """Fails as an allocator does, for more than so many samples while it trains."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.most = most
        self.sizes: list[int] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.sizes.append(len(inputs))
            if len(inputs) > self.most:
                raise RuntimeError(
                    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: "
                    "can't allocate memory: you tried to allocate 4000 bytes."
                )
        return self.linear(inputs)


def test_out_of_memory_is_told_with_what_helps() -> None:
    with pytest.raises(TrainError) as caught:
        trained(table_recipe(epochs=1, batch_size=16), Hungry(4))
    said = str(caught.value)
    assert said.startswith("out of memory with 16 samples at a time (peak ")
    assert said.endswith(': set [fit] accumulate = 2, or out_of_memory = "halve"')


def test_out_of_memory_is_met_with_smaller_parts_where_the_recipe_says_so() -> None:
    model = Hungry(4)
    fitted = trained(table_recipe(epochs=2, batch_size=16, out_of_memory="halve"), model)
    # One try at 16 and one at 8, and four from then on, in the second epoch as well.
    assert model.sizes == [16, 8] + [4] * 4 * 4
    assert [event.partition(" (")[0] for event in fitted.events] == [
        "out of memory with 16 samples at a time",
        "out of memory with 8 samples at a time",
    ]
    assert fitted.events[1].endswith("batches went through in 4 parts from then on")


def test_what_does_not_fit_one_by_one_is_told() -> None:
    with pytest.raises(TrainError, match=r"1 samples at a time .* it cannot be fewer"):
        trained(table_recipe(epochs=1, batch_size=4, out_of_memory="halve"), Hungry(0))


def test_other_errors_are_not_taken_for_it() -> None:
    class Broken(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trained(table_recipe(epochs=1, out_of_memory="halve"), Broken(3, 1))


# --- options ----------------------------------------------------------------------------------


def test_the_gradient_is_clipped() -> None:
    inputs, targets = pair()
    split = Tensors(inputs, targets * 1e4)
    steps = []
    for clip in (0.0, 0.1):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        before = model.weight.detach().clone()
        recipe = table_recipe(
            epochs=1, batch_size=40, optimizer="sgd", momentum=0.0, learning_rate=1.0,
            schedule="constant", weight_decay=0.0, clip=clip,
        )  # fmt: skip
        run = Run(model, split, recipe)
        run.step(inputs, targets * 1e4)
        steps.append(float((model.weight.detach() - before).norm()))
    assert steps[0] > 1000
    assert steps[1] == pytest.approx(0.1, rel=0.1)


def test_an_average_lags_behind_and_is_what_is_kept() -> None:
    recipe = recipe_with(ema=0.999, epochs=2)
    run = run_of(recipe)
    run.train_epoch()
    run.evaluate(parts()[1])
    last = copy.deepcopy(run._network.state_dict())
    fitted = run.finish()
    kept = fitted.model.state_dict()
    assert not torch.equal(kept["0.weight"], last["0.weight"])
    # Its statistics are averages too, and its counter is a number of batches.
    assert kept["1.running_mean"].any()
    assert kept["1.num_batches_tracked"] == 3


def test_an_average_is_what_its_formula_says() -> None:
    inputs, targets = pair()
    network = nn.Linear(3, 1)
    run = Run(network, Tensors(inputs, targets), table_recipe(ema=0.5, batch_size=40))
    assert run._average is not None
    run.begin_epoch()
    expected = None
    for done in range(4):
        run.step(inputs, targets)
        current = network.weight.detach().clone()
        # The first update copies; then the decay rises from (1 + n) / (10 + n).
        decay = min(0.5, (1 + done) / (10 + done))
        expected = current if expected is None else decay * expected + (1 - decay) * current
        assert torch.allclose(run._average.module.weight, expected, atol=1e-7)


def test_a_network_that_draws_otherwise_goes_on_the_same() -> None:
    """Stochastic depth by the generators of Python and NumPy, not of torch."""

    class Depth(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            drawn = random.random() + np.random.rand() if self.training else 1.0
            return super().forward(inputs) * drawn

    def fitted(resumed: dict[str, Any] | None = None) -> str:
        set_determinism(0, 1)
        recipe = table_recipe(epochs=4, batch_size=8)
        return digest(
            fit(
                Depth(3, 1), rows(), rows(16, 1), recipe, quiet, resumed=resumed,
                keep=lambda state: kept.append(copy.deepcopy(state)),
            ).model
        )  # fmt: skip

    kept: list[dict[str, Any]] = []
    whole = fitted()
    assert fitted(kept[1]) == whole


def test_memory_that_ends_while_weights_move_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(TrainError, match="out of memory while weights were moved"):
        trained(table_recipe(epochs=1, out_of_memory="halve"))


def test_one_sample_at_a_time_is_refused_by_batch_norms() -> None:
    class Normed(nn.Sequential):
        pass

    model = Normed(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    with pytest.raises(TrainError, match="one sample of one pixel at a time: lower"):
        trained(table_recipe(epochs=1, batch_size=4, accumulate=4), model)


def test_halving_stops_before_batch_norms_would() -> None:
    model = nn.Sequential(Hungry(1), nn.BatchNorm1d(1), nn.Linear(1, 1))
    with pytest.raises(TrainError, match=r"with 2 samples at a time .* it cannot be fewer"):
        trained(table_recipe(epochs=1, batch_size=8, out_of_memory="halve"), model)


def test_what_cannot_be_repeated_to_the_bit_is_told() -> None:
    class Chance(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("adaptive_avg does not have a deterministic implementation, but")

    with pytest.raises(TrainError, match=r'set \[fit\] device = "cpu"'):
        trained(table_recipe(epochs=1), Chance(3, 1))


def test_a_step_that_fp16_skips_moves_no_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, targets = pair()
    run = Run(nn.Linear(3, 1), Tensors(inputs, targets), table_recipe(batch_size=40))
    # Of the CPU, which needs none: the same class with the same rules.
    run._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    run.begin_epoch()
    assert run.step(inputs, targets)[1]
    run._network.weight.register_hook(lambda gradient: gradient * math.inf)
    loss, moved = run.step(inputs, targets)
    assert math.isfinite(loss)
    assert not moved


def test_a_compiled_network_learns_the_same() -> None:
    found = []
    for compile in (False, True):
        torch.manual_seed(0)
        recipe = table_recipe(epochs=2, batch_size=8, compile=compile, params={"dropout": 0.0})
        found.append(trained(recipe).model)
    plain, compiled = found
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert {type(module) for module in compiled.modules()} == {
        type(module) for module in plain.modules()
    }


def test_frozen_stages_do_not_move() -> None:
    recipe = recipe_with(transfer=Transfer(freeze="body"), epochs=2)
    set_determinism(0, 1)
    network = small_cnn.build((1, 8, 8), 2, width=4)
    before = copy.deepcopy(network.state_dict())
    fitted = fit(network, *parts(), recipe, quiet)
    moved = {
        n for n, value in fitted.model.state_dict().items() if not torch.equal(value, before[n])
    }
    assert moved == {"16.weight", "16.bias"}
    assert [epoch.stages for epoch in fitted.epochs] == [1, 1]
    assert all(p.requires_grad for p in fitted.model.parameters())


def test_half_precision_that_needs_scaling_needs_a_gpu() -> None:
    with pytest.raises(TrainError, match='"fp16" needs a GPU: take "bf16"'):
        trained(table_recipe(precision="fp16"))


def test_label_smoothing_and_weights_reach_the_loss() -> None:
    training, _ = parts()
    plain = run_of(recipe_with())
    smooth = run_of(recipe_with(label_smoothing=0.2))
    inputs, targets = training[[0, 1, 2, 3]]
    assert plain.step(inputs, targets) != smooth.step(inputs, targets)
    weighted = run_of(recipe_with(imbalance="loss"))
    assert weighted._loss.weight is not None
    assert float(weighted._loss.weight[training.targets].mean()) == pytest.approx(1.0)


def test_a_training_that_was_over_is_over() -> None:
    states: list[dict[str, Any]] = []
    recipe = table_recipe(epochs=2)
    set_determinism(0, 1)
    first = fit(nn.Linear(3, 1), rows(), rows(16, 1), recipe, quiet, keep=states.append)
    model = Watched().linear
    again = fit(model, rows(), rows(16, 1), recipe, quiet, resumed=states[-1])
    assert again.epochs == first.epochs
    assert digest(again.model) == digest(first.model)


def test_heads_in_the_middle_are_refused_when_they_answer() -> None:
    class Two(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> Any:
            outputs = super().forward(inputs)
            return (outputs, outputs) if self.training else outputs

    with pytest.raises(TrainError, match="in training the network gives a tuple, not one tensor"):
        trained(table_recipe(), Two(3, 1))


def test_more_processes_than_samples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marwright.training.together.size", lambda: 4)
    with pytest.raises(TrainError, match=r"3 training samples for \[fit\] processes = 4"):
        Run(nn.Linear(3, 1), rows(3), table_recipe())


def test_a_compiled_network_goes_on_to_the_same_weights() -> None:
    """What torch compiles depends on the lengths that came before: a kill must not change them."""
    recipe = text_recipe(compile=True, epochs=2, batch_size=8)
    samples, spec = text_samples(), TextSpec(max_bytes=40)
    kept: list[bytes] = []

    def keep(state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        write_state(buffer, "key", state)
        kept.append(buffer.getvalue())

    def fitted(resumed: dict[str, Any] | None = None) -> Fitted:
        # As a process finds it that begins.
        torch.compiler.reset()
        set_determinism(0, 1)
        training, validation = (
            Texts(samples, np.arange(*ends), spec) for ends in ((0, 60), (60, 80))
        )
        network = text_cnn.build((40,), 2, width=4)
        return fit(network, training, validation, recipe, quiet, resumed=resumed, keep=keep)

    whole = fitted()
    again = fitted(torch.load(io.BytesIO(kept[0]), weights_only=True)["state"])
    assert digest(again.model) == digest(whole.model)
    assert again.epochs == whole.epochs
