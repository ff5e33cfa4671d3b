"""Random changes of training images, on pixels, before they are normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from marwright.runtime.preprocess import upright
from marwright.runtime.spec import ImageSpec

if TYPE_CHECKING:
    from marwright.recipe.types import Augment

Pair = tuple[torch.Tensor, torch.Tensor]


class Augmentation:
    """What a recipe's `[augment]` does to a batch of images uint8 `(N, C, H, W)`."""

    def __init__(self, options: Augment, spec: ImageSpec, labels: int) -> None:
        self._options = options
        self._channels = spec.channels
        self._each = _each(options, spec)
        self._mix = _mix(options, labels)
        self._crop = v2.RandomResizedCrop(
            (spec.height, spec.width),
            scale=(options.crop, 1.0),
            interpolation=InterpolationMode[spec.interpolation.upper()],
            antialias=True,
        )

    @property
    def crops(self) -> bool:
        """Whether it cuts parts out of the original images."""
        return self._options.crop < 1.0

    def cropped(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Cut a random part out of each image, in the network's size: uint8 `(N, C, H, W)`."""
        return torch.stack(
            [v2.functional.pil_to_tensor(self._crop(upright(i, self._channels))) for i in images]
        )

    def changed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Change a batch of pixels, each image for itself."""
        if self._options.shift:
            pixels = shifted(pixels, self._options.shift)
        if self._options.flip:
            chosen = torch.rand(len(pixels)) < 0.5
            pixels = torch.where(chosen[:, None, None, None], pixels.flip(-1), pixels)
        if self._each is not None:
            # One by one: a transform draws once for all that it is given.
            pixels = torch.stack([self._each(image) for image in pixels])
        return pixels

    def mixed(self, inputs: torch.Tensor, targets: torch.Tensor) -> Pair:
        """Blend a normalised batch; targets become shares float32 `(N, labels)` where it does."""
        if self._mix is None or len(inputs) < 2:
            return inputs, targets
        blended: Pair = self._mix(inputs, targets)
        return blended


def _each(options: Augment, spec: ImageSpec) -> v2.Transform | None:
    transforms: list[v2.Transform] = []
    mean = [round(255 * value) for value in spec.mean]
    if options.rotate:
        transforms.append(v2.RandomRotation(options.rotate, InterpolationMode.BILINEAR, fill=mean))
    if options.color:
        strength = options.color
        saturation = strength if spec.channels == 3 else 0.0
        transforms.append(v2.ColorJitter(strength, strength, saturation))
    if options.erase:
        transforms.append(v2.RandomErasing(options.erase, value=mean))
    return v2.Compose(transforms) if transforms else None


def _mix(options: Augment, labels: int) -> v2.Transform | None:
    mixes: list[v2.Transform] = []
    if options.mixup:
        mixes.append(v2.MixUp(alpha=options.mixup, num_classes=labels))
    if options.cutmix:
        mixes.append(v2.CutMix(alpha=options.cutmix, num_classes=labels))
    return v2.RandomChoice(mixes) if mixes else None


def shifted(images: torch.Tensor, most: int) -> torch.Tensor:
    """Move each image of `(N, C, H, W)` by up to `most` pixels a side; edges are repeated."""
    count, channels, height, width = images.shape
    down, right = torch.randint(-most, most + 1, (2, count, 1))
    rows = (down + torch.arange(height)).clamp(0, height - 1)[:, None, :, None]
    columns = (right + torch.arange(width)).clamp(0, width - 1)[:, None, None, :]
    numbers = torch.arange(count)[:, None, None, None]
    return images[numbers, torch.arange(channels)[None, :, None, None], rows, columns]
