"""Every architecture of torchvision: the head of the recipe's labels, its channels, its stages."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from marwright.training.models.torchvision import build, first_convolution
from marwright.training.stages import stages_of

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

CLASSES = 7
NAMES = torchvision.models.list_models(module=torchvision.models)
# They compute their widths with tensors, so they cannot be built without memory; two are enough.
MEASURED = [
    n for n in NAMES if not n.startswith("regnet") or n in ("regnet_x_400mf", "regnet_y_800mf")
]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_architecture_has_its_head_and_its_channels(channels: int) -> None:
    assert len(MEASURED) > 60
    for name in MEASURED:
        side = 299 if name == "inception_v3" else 224
        # On the meta device a tensor has a shape and no numbers.
        with torch.device("cpu" if name.startswith("regnet") else "meta"):
            network = build((channels, side, side), CLASSES, architecture=name)
        assert first_convolution(network)[1].in_channels == channels, name
        stages = stages_of(network)
        assert 4 <= len(stages) <= 120, name
        # Each parameter belongs to one stage.
        named = [parameter for stage in stages for parameter in stage.parameters]
        assert sorted(named) == sorted(p for p, _ in network.named_parameters()), name
        weight = next(iter(stages[-1].parameters.values()))
        assert len(weight) == CLASSES, name
        assert {p.shape[0] for p in stages[-1].parameters.values()} == {CLASSES}, name


def test_a_grey_image_goes_through() -> None:
    network = build((1, 40, 40), CLASSES, architecture="resnet18").eval()
    assert network(torch.zeros(2, 1, 40, 40)).shape == (2, CLASSES)
    assert isinstance(network.conv1, nn.Conv2d)


def test_parameters_reach_torchvision() -> None:
    network = build((3, 32, 32), CLASSES, architecture="mobilenet_v3_small", dropout=0.9)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.9]


def test_an_unknown_architecture_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"has no .resnet19.; did you mean .resnet18."):
        build((3, 32, 32), CLASSES, architecture="resnet19")


def test_transformers_are_told_the_size_of_the_image() -> None:
    network = build((3, 64, 64), CLASSES, architecture="vit_b_32").eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, CLASSES)


def test_heads_in_the_middle_are_not_built() -> None:
    with pytest.raises(ValueError, match="aux_logits"):
        build((3, 224, 224), 7, architecture="googlenet", aux_logits=True)
