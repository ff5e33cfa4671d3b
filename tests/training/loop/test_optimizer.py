"""Groups of the optimizer: rates by depth, and no decay where it means nothing."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from marwright.recipe.types import Transfer
from marwright.training.loop.optimizer import optimizer_of
from marwright.training.models import small_cnn
from marwright.training.stages import stages_of
from tests.training.conftest import image_recipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


def test_norms_and_biases_do_not_decay() -> None:
    network = small_cnn.build((1, 8, 8), 2, width=4)
    recipe = image_recipe(weight_decay=0.3)
    optimizer = optimizer_of(stages_of(network), recipe)
    decay = {
        parameter: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    found = {name: decay[parameter] for name, parameter in network.named_parameters()}
    assert found.keys() == dict(network.named_parameters()).keys()
    assert {name for name, value in found.items() if value} == {
        "0.weight", "3.weight", "7.weight", "13.weight", "16.weight",
    }  # fmt: skip


def test_what_an_orthogonal_layer_is_computed_from_does_not_decay() -> None:
    """It keeps signs there: one that has shrunk a little is 0, and so are its weights."""
    layer = parametrizations.orthogonal(nn.Linear(6, 3))
    network = nn.Sequential(nn.Flatten(), layer, nn.Linear(3, 2))
    optimizer = optimizer_of(stages_of(network), image_recipe(weight_decay=0.3))
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(5, 6)).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(3), atol=1e-5, rtol=0)


def test_tables_of_biases_do_not_decay() -> None:
    class Attending(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(3, 3))
            self.relative_position_bias_table = nn.Parameter(torch.zeros(5, 2))

    network = nn.Sequential(Attending(), nn.Linear(3, 1))
    optimizer = optimizer_of(stages_of(network), image_recipe(weight_decay=0.3))
    decaying = {p for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert {n for n, p in network.named_parameters() if p in decaying} == {"0.0.weight", "1.weight"}


def test_each_stage_has_its_rate_and_the_head_comes_last() -> None:
    network = small_cnn.build((1, 8, 8), 2, width=4)
    stages = stages_of(network)
    recipe = msgspec.structs.replace(
        image_recipe(learning_rate=0.1), transfer=Transfer(layer_decay=0.5, body_rate=0.2)
    )
    optimizer = optimizer_of(stages, recipe)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    by_stage = [{rates[p] for p in stage.parameters.values()} for stage in stages]
    assert all(len(found) == 1 for found in by_stage)
    found = [rate for rates_of_stage in by_stage for rate in rates_of_stage]
    assert found == pytest.approx([*(0.1 * 0.2 * 0.5**above for above in (4, 3, 2, 1)), 0.1])
    assert optimizer.param_groups[-1]["lr"] == 0.1


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)],
)
def test_the_optimizer_is_the_recipes(name: str, kind: type) -> None:
    stages = stages_of(torch.nn.Linear(2, 1))
    optimizer = optimizer_of(stages, image_recipe(optimizer=name, momentum=0.5))
    assert type(optimizer) is kind
    if name == "sgd":
        assert optimizer.param_groups[0]["momentum"] == 0.5
