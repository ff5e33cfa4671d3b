"""Learning rates: what a recipe says, after a warm-up, and the same after going on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from marwright.recipe.types import Fit
from marwright.training.loop.schedule import Schedule

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

BATCHES = 10


def rates(fit: Fit, losses: dict[int, float] | None = None, resume_after: int = 0) -> list[float]:
    """Return the rate of each step, going on from a saved state after an epoch."""
    optimizer, schedule = made(fit)
    found = []
    for epoch in range(1, fit.epochs + 1):
        for _ in range(BATCHES):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        schedule.end_epoch((losses or {}).get(epoch, 1.0))
        if epoch == resume_after:
            states = optimizer.state_dict(), schedule.state_dict()
            optimizer, schedule = made(fit)
            optimizer.load_state_dict(states[0])
            schedule.load_state_dict(states[1])
    return found


def made(fit: Fit) -> tuple[torch.optim.Optimizer, Schedule]:
    layer = nn.Linear(2, 1)
    groups = [{"params": [layer.weight], "lr": 1.0}, {"params": [layer.bias], "lr": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    return optimizer, Schedule(optimizer, fit, BATCHES)


SCHEDULES = ("cosine", "one_cycle", "step", "plateau", "constant")


@pytest.mark.parametrize(
    ("schedule", "warmup"),
    # one_cycle warms up by itself.
    [(s, w) for s in SCHEDULES for w in (0.0, 1.5) if not (s == "one_cycle" and w)],
)
def test_going_on_changes_nothing(schedule: str, warmup: float) -> None:
    fit = Fit(epochs=6, schedule=schedule, warmup=warmup, step_epochs=2, step_factor=0.5)
    losses = {1: 1.0, 2: 0.5}
    whole = rates(fit, losses)
    for after in (1, 2, 4):
        assert rates(fit, losses, resume_after=after) == whole


def test_a_warm_up_rises_to_the_rate_and_is_followed_by_the_rest() -> None:
    found = rates(Fit(epochs=5, schedule="cosine", warmup=1.5))
    warm = found[:16]
    assert warm[0] == pytest.approx(0.01)
    assert warm == sorted(warm)
    assert warm[15] == pytest.approx(1.0)
    assert found[15:] == sorted(found[15:], reverse=True)
    assert found[-1] < 0.01


def test_steps_come_after_whole_epochs() -> None:
    found = rates(Fit(epochs=4, schedule="step", step_epochs=2, step_factor=0.1))
    assert found == pytest.approx([1.0] * 20 + [0.1] * 20)


def test_a_plateau_lowers_the_rate() -> None:
    # Better in epoch 2, then never: two epochs without are over after the fourth, and again.
    fit = Fit(epochs=7, schedule="plateau", step_epochs=2, step_factor=0.1)
    found = rates(fit, {1: 1.0, 2: 0.5})
    assert found == pytest.approx([1.0] * 40 + [0.1] * 20 + [0.01] * 10)


def test_the_momentum_of_sgd_is_the_recipes() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.3)
    going = Schedule(optimizer, Fit(epochs=2, schedule="one_cycle", optimizer="sgd"), 10)
    for _ in range(10):
        optimizer.step()
        going.step()
        assert optimizer.param_groups[0]["momentum"] == 0.3


def test_a_warm_up_of_less_than_a_batch_is_one() -> None:
    assert rates(Fit(epochs=2, schedule="constant", warmup=0.01))[0] < 0.5


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_groups_keep_their_proportion(schedule: str) -> None:
    optimizer, going = made(Fit(epochs=2, schedule=schedule, step_epochs=1))
    for _ in range(15):
        optimizer.step()
        going.step()
    slow = optimizer.param_groups[1]["lr"] / optimizer.param_groups[0]["lr"]
    assert slow == pytest.approx(0.1)
