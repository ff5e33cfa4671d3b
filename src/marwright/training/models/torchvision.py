"""torchvision's classification architectures, for any number of classes and channels."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from marwright.recipe.suggest import suggestion


def build(shape: tuple[int, ...], outputs: int, *, architecture: str, **params: Any) -> nn.Module:
    """Return a network from `(N, *shape)` images to `(N, outputs)` logits, its weights random.

    `params` go to torchvision's own function, as `dropout` does. Raises `ValueError` for an
    architecture that it does not have.
    """
    if params.get("aux_logits"):
        raise ValueError("aux_logits: heads in the middle are not trained, and not served")
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        raise ValueError(f"torchvision has no {architecture!r}{suggestion(architecture, known)}")
    network: nn.Module = torchvision.models.get_model(
        architecture, weights=None, num_classes=outputs, **{**_own(architecture, shape), **params}
    )
    name, first = first_convolution(network)
    if first.in_channels != shape[0]:
        network.set_submodule(name, _for_channels(first, shape[0]))
    return network


def _own(architecture: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return what single architectures need to be told."""
    channels, height, width = shape
    if architecture in ("googlenet", "inception_v3"):
        # Heads in the middle help very deep networks from scratch and are cut off for serving in
        # any case. The pretrained weights expect the transform; without `init_weights` torchvision
        # warns.
        return {"aux_logits": False, "transform_input": channels == 3, "init_weights": True}
    if architecture.startswith("vit_"):
        return {"image_size": height}
    return {"input_size": (height, width)} if architecture.startswith("maxvit") else {}


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the convolution that sees the image, and its name."""
    return next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))


def _for_channels(first: nn.Conv2d, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        stride=first.stride,  # type: ignore[arg-type]
        padding=first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
