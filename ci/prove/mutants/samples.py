"""Real samples that come with scikit-learn, few enough to learn in a second."""

from __future__ import annotations

from functools import cache

import numpy as np
from sklearn.datasets import load_sample_images

from train.datasets import digits
from train.types import ImageSamples

_DIGITS = 700
_CROPS = 300
# Where each label's crops are taken from: the photograph, and the share of its height.
_PLACES = {"sky": (0, 0.0, 0.4), "temple": (0, 0.4, 1.0), "flower": (1, 0.0, 1.0)}
_SIDES = (24, 96)


@cache
def few_digits() -> ImageSamples:
    """Return the first of scikit-learn's handwritten digits, grey images of 8×8."""
    every = digits.load()
    return ImageSamples(
        images=every.images[:_DIGITS], targets=every.targets[:_DIGITS], labels=every.labels
    )


@cache
def crops() -> ImageSamples:
    """Return square RGB crops of two photographs, of many sizes, with what they show."""
    chance = np.random.default_rng(0)
    photographs = load_sample_images().images
    images, targets = [], []
    for number in range(_CROPS):
        target = number % len(_PLACES)
        photograph, top, bottom = [*_PLACES.values()][target]
        pixels = photographs[photograph]
        high, wide = pixels.shape[:2]
        side = int(chance.integers(*_SIDES))
        row = int(chance.integers(int(top * high), int(bottom * high) - side + 1))
        column = int(chance.integers(0, wide - side + 1))
        images.append(np.ascontiguousarray(pixels[row : row + side, column : column + side]))
        targets.append(target)
    return ImageSamples(
        images=images, targets=np.array(targets, dtype=np.int64), labels=tuple(_PLACES)
    )
