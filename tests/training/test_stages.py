"""Stages: from inputs to head, frozen and thawed, each at its rate."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.models import resnet18

from marwright.recipe.types import Transfer
from marwright.training.models import mlp, small_cnn
from marwright.training.stages import rate_of, set_training, stages_of, training_stages

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


def names(network: nn.Module) -> list[str]:
    return [stage.name for stage in stages_of(network)]


def test_a_resnet_has_its_layers_for_stages() -> None:
    found = names(resnet18(num_classes=5))
    # The last layer holds more than half of all parameters, so its blocks are stages.
    assert found == ["conv1", "layer1", "layer2", "layer3", "layer4.0", "layer4.1", "fc"]


def test_a_norm_belongs_to_what_stands_before_it() -> None:
    stages = stages_of(small_cnn.build((1, 8, 8), 3, width=4))
    assert [len(stage.batch_norms) for stage in stages] == [1, 1, 1, 0, 0]
    assert list(stages[0].parameters) == ["0.weight", "1.weight", "1.bias"]


def test_the_head_is_a_stage_of_its_own() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(9, 9)
            self.answer = nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2))

    assert names(Two()) == ["body", "answer", "answer.2"]
    assert names(nn.Linear(2, 2)) == [""]
    assert names(nn.ReLU()) == []


def test_a_shared_weight_is_of_one_stage() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    network[1].weight = network[0].weight
    names = [name for stage in stages_of(network) for name in stage.parameters]
    assert names == ["0.weight", "0.bias", "1.bias", "2.weight", "2.bias"]


def test_what_its_author_froze_stays_frozen() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    network[0].weight.requires_grad_(False)
    stages = stages_of(network)
    assert [stage.fixed for stage in stages] == [{"0.weight"}, set()]
    assert [(stage.size, stage.trainable) for stage in stages] == [(20, 4), (10, 10)]
    for count in (1, 2):
        set_training(network, stages, count, frozen=False)
        assert not network[0].weight.requires_grad
    assert network[0].bias.requires_grad


def test_batch_norms_without_weights_are_frozen_too() -> None:
    network = nn.Sequential(
        nn.BatchNorm1d(4, affine=False), nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False),
        nn.Linear(4, 2),
    )  # fmt: skip
    stages = stages_of(network)
    assert [len(stage.batch_norms) for stage in stages] == [2, 0]
    for count, frozen in ((1, False), (2, True)):
        set_training(network, stages, count, frozen=frozen)
        assert not any(network[at].training for at in (0, 2))
    set_training(network, stages, 2, frozen=False)
    assert all(network[at].training for at in (0, 2))


def test_own_parameters_of_what_is_taken_apart_are_a_stage() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(nn.Linear(4, 4).weight)
            self.layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    stages = stages_of(Tokens())
    assert list(stages[0].parameters) == ["place"]
    assert sum(stage.size for stage in stages) == 16 + 20 + 10


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        (Transfer(), [7, 7, 7, 7]),
        (Transfer(freeze="body"), [1, 1, 1, 1]),
        (Transfer(freeze="body", unfreeze_every=1), [1, 2, 3, 4]),
        (Transfer(freeze="body", unfreeze_every=2), [1, 1, 2, 2]),
    ],
)
def test_stages_thaw_from_the_head(transfer: Transfer, expected: list[int]) -> None:
    assert [training_stages(transfer, 7, epoch) for epoch in range(1, 5)] == expected
    assert training_stages(transfer, 7, 1000) in (1, 7)


def test_rates_fall_with_depth() -> None:
    transfer = Transfer(layer_decay=0.5, body_rate=0.1)
    rates = [rate_of(transfer, 4, place) for place in range(4)]
    assert rates == pytest.approx([0.0125, 0.025, 0.05, 1.0])
    assert [rate_of(Transfer(), 4, place) for place in range(4)] == [1.0] * 4


def test_frozen_stages_keep_their_statistics_and_gradients() -> None:
    network = small_cnn.build((1, 8, 8), 3, width=4)
    stages = stages_of(network)
    set_training(network, stages, 3, frozen=False)
    trained = [all(p.requires_grad for p in stage.parameters.values()) for stage in stages]
    assert trained == [False, False, True, True, True]
    norms = [norm.training for stage in stages for norm in stage.batch_norms]
    assert norms == [False, False, True]
    set_training(network, stages, 5, frozen=True)
    assert all(p.requires_grad for p in network.parameters())
    assert not any(norm.training for stage in stages for norm in stage.batch_norms)
    assert network.training


def test_a_table_network_has_two() -> None:
    assert names(mlp.build((3,), 1)) == ["0", "3"]


def test_what_a_parametrisation_keeps_is_of_its_layer() -> None:
    """Frozen to the body, a head whose weights are computed trains as a whole."""
    network = nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 2))
    parametrizations.weight_norm(network[2])
    *_, head = stages_of(network)
    assert head.name == "2"
    assert {*head.parameters} == {
        "2.bias", "2.parametrizations.weight.original0", "2.parametrizations.weight.original1",
    }  # fmt: skip
    parametrizations.orthogonal(network[0])
    # It holds more than half of all parameters, and is one layer all the same.
    assert [len(stage.parameters) for stage in stages_of(network)] == [2, 3]
    assert names(parametrizations.orthogonal(nn.Linear(4, 2))) == [""]
