"""CIFAR-10: 60,000 photographs of 32×32 pixels, ten classes.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import CIFAR10

from marwright.training.samples import ImageSamples
from marwright.training.torchvision_data import both_parts, image_samples


def load(*paths: Path, root: str = "data", download: bool = False) -> ImageSamples:
    """Return the photographs of `<root>/cifar-10-batches-py/`; the test batch is tested on."""
    train, test = both_parts(
        "CIFAR-10",
        "cifar-10-batches-py/data_batch_1 and the files beside it, unpacked,",
        paths,
        root,
        download,
        # It holds each file against its MD5 before it unpickles it.
        lambda folder, is_train, fetch: CIFAR10(folder, train=is_train, download=fetch),
    )
    return image_samples(train.classes, [*train.data], [*test.data], (train.targets, test.targets))
