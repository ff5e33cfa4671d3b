"""MNIST: 70,000 handwritten digits, grey images of 28×28 pixels, ten classes.

Source: Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database of handwritten digits, 1998.
"""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import MNIST

from marwright.training.samples import ImageSamples
from marwright.training.torchvision_data import both_parts, image_samples


def load(*paths: Path, root: str = "data", download: bool = False) -> ImageSamples:
    """Return the digits of `<root>/MNIST/raw/`; the 10,000 of its test part are tested on."""
    train, test = both_parts(
        "MNIST",
        "MNIST/raw/train-images-idx3-ubyte and its three siblings, unpacked,",
        paths,
        root,
        download,
        lambda folder, is_train, fetch: MNIST(folder, train=is_train, download=fetch),
    )
    # Its classes are called "0 - zero" and so on.
    return image_samples(
        [name.partition(" ")[0] for name in train.classes],
        [*train.data.numpy()],
        [*test.data.numpy()],
        (train.targets, test.targets),
    )
