"""A network described: layers in the order of their calls, sizes, rates and epochs."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from marwright.recipe.types import Transfer
from marwright.training.describe import describe
from marwright.training.models import small_cnn
from marwright.training.models.torchvision import build
from tests.training.conftest import image_recipe, table_recipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


def test_layers_have_their_shapes_and_sizes() -> None:
    network = small_cnn.build((1, 8, 8), 3, width=4)
    stages = describe(network, image_recipe(learning_rate=0.1), torch.zeros(1, 1, 8, 8))
    assert [stage.name for stage in stages] == ["0", "3", "7", "13", "16"]
    first = stages[0]
    assert [(layer.kind, layer.output, layer.parameters) for layer in first.layers] == [
        ("Conv2d", (4, 8, 8), 36), ("BatchNorm2d", (4, 8, 8), 8), ("ReLU", (4, 8, 8), 0),
    ]  # fmt: skip
    assert (first.parameters, first.rate, first.since) == (44, 0.1, 1)
    whole = sum(parameter.numel() for parameter in network.parameters())
    assert sum(stage.parameters for stage in stages) == whole
    assert sum(layer.parameters for stage in stages for layer in stage.layers) == whole


def test_what_is_frozen_trains_later_or_never() -> None:
    network = build((1, 32, 32), 5, architecture="resnet18")

    def since(**transfer: object) -> list[int | None]:
        recipe = msgspec.structs.replace(image_recipe(epochs=9), transfer=Transfer(**transfer))
        return [stage.since for stage in describe(network, recipe, torch.zeros(1, 1, 32, 32))]

    assert since() == [1] * 7
    assert since(freeze="body") == [None] * 6 + [1]
    # Nine epochs are too few for the first two.
    assert since(freeze="body", unfreeze_every=2) == [None, None, 9, 7, 5, 3, 1]


def test_no_hook_is_left() -> None:
    network = small_cnn.build((1, 8, 8), 3, width=4)
    describe(network, image_recipe(), torch.zeros(1, 1, 8, 8))
    assert not any(module._forward_hooks for module in network.modules())


class Held(nn.Module):
    """Parameters of its own, around a layer whose weights it takes without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.taken = nn.Linear(3, 4)
        self.twice = nn.Linear(4, 4)
        self.never = nn.Linear(5, 5)
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.linear(inputs * self.scale, self.taken.weight, self.taken.bias)
        output: torch.Tensor = self.head(self.twice(self.twice.forward(self.twice(hidden))))
        return output


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.two.weight = self.one.weight
        self.again = self.one

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.head(self.again(self.two(self.one(inputs))))
        return output


class Attending(nn.Module):
    def __init__(self, **options: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.head(self.encoder(inputs.unsqueeze(1)).mean(1))
        return output


def parametrised() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 6)),
        nn.ReLU(),
        parametrizations.orthogonal(nn.Linear(6, 6)),
        parametrizations.spectral_norm(nn.Linear(6, 2)),
    )


def recurrent() -> nn.Module:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.head(self.lstm(inputs.unsqueeze(1))[0][:, -1])
            return output

    return Last()


NETWORKS = {
    "held": (Held, 3),
    "tied": (Tied, 3),
    "attention": (Attending, 4),
    "attention, norm first": (lambda: Attending(norm_first=True), 4),
    "parametrised": (parametrised, 3),
    "recurrent": (recurrent, 3),
    "scripted": (lambda: nn.Sequential(torch.jit.script(nn.Linear(3, 4)), nn.Linear(4, 2)), 3),
    "one layer": (lambda: nn.Linear(3, 2), 3),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_each_parameter_is_listed_once(name: str) -> None:
    build, width = NETWORKS[name]
    network = build()
    whole = sum(parameter.numel() for parameter in network.parameters())
    stages = describe(network, table_recipe(), torch.ones(1, width))
    assert sum(layer.parameters for stage in stages for layer in stage.layers) == whole
    assert sum(stage.parameters for stage in stages) == whole
    names = [layer.name for stage in stages for layer in stage.layers]
    assert len(names) == len(set(names))


def listed(network: nn.Module, width: int) -> dict[str, tuple[str, tuple[int, ...], int]]:
    stages = describe(network, table_recipe(), torch.ones(1, width))
    layers = [layer for stage in stages for layer in stage.layers]
    return {layer.name: (layer.kind, layer.output, layer.parameters) for layer in layers}


def test_attention_is_listed_with_its_weights() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    found = listed(Attending(), 4)
    assert found["encoder.layers.0.self_attn"] == ("MultiheadAttention", (1, 4), 60)
    assert found["encoder.layers.1.self_attn.out_proj"][2] == 20
    assert found["encoder.layers.1.linear1"] == ("Linear", (1, 8), 40)
    assert torch.backends.mha.get_fastpath_enabled() is before


def test_layer_that_is_not_called_stands_where_it_was_registered() -> None:
    found = listed(Held(), 3)
    assert [*found] == ["(whole)", "taken", "twice", "never", "head"]
    assert found["(whole)"] == ("Held", (2,), 3)
    assert found["taken"] == ("Linear", (), 16)


def test_parametrised_layer_is_one_layer() -> None:
    found = listed(parametrised(), 3)
    assert [(name, kind) for name, (kind, _, _) in found.items()] == [
        ("0", "Linear"), ("1", "ReLU"), ("2", "Linear"), ("3", "Linear")
    ]  # fmt: skip
    assert found["0"][1:] == ((6,), 3 * 6 + 6 + 6)
