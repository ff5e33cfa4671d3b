"""Fashion-MNIST: 70,000 articles of clothing, grey images of 28×28 pixels, ten classes.

Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking
Machine Learning Algorithms, 2017.
"""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import FashionMNIST

from marwright.training.samples import ImageSamples
from marwright.training.torchvision_data import both_parts, image_samples


def load(*paths: Path, root: str = "data", download: bool = False) -> ImageSamples:
    """Return the articles of `<root>/FashionMNIST/raw/`; the test part is tested on."""
    train, test = both_parts(
        "Fashion-MNIST",
        "FashionMNIST/raw/train-images-idx3-ubyte and its three siblings, unpacked,",
        paths,
        root,
        download,
        lambda folder, is_train, fetch: FashionMNIST(folder, train=is_train, download=fetch),
    )
    return image_samples(
        train.classes,
        [*train.data.numpy()],
        [*test.data.numpy()],
        (train.targets, test.targets),
    )
