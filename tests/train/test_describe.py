"""A network described: layers in the order of their calls, sizes, rates and epochs."""

from __future__ import annotations

import msgspec
import pytest
import torch

from recipes.types import Transfer
from tests.train.conftest import image_recipe
from train.describe import describe
from train.models import small_cnn
from train.models.torchvision import build

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
