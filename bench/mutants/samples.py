"""Real samples that come with scikit-learn, few enough to learn in a second."""

from __future__ import annotations

from functools import cache

import numpy as np
from sklearn.datasets import load_sample_images

from marwright.training.datasets import digits
from marwright.training.samples import ImageSamples, TextSamples

_DIGITS = 700
_CROPS = 300
# Where each label's crops are taken from: the photograph, and the share of its height.
_PLACES = {"sky": (0, 0.0, 0.4), "temple": (0, 0.4, 1.0), "flower": (1, 0.0, 1.0)}
_SIDES = (24, 96)
# What each label's words are made of; one word in five is of any label.
_LETTERS = {"greek": "αβγδεζηθικλμνξο", "latin": "abcdefghijklmno", "mixed": "nopqrstuνξοπρστυ"}
_TEXTS, _FOREIGN = 360, 0.2


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


@cache
def words() -> TextSamples:
    """Return texts of one to nine words, with the alphabet that most of them are of."""
    chance = np.random.default_rng(0)
    alphabets = [[*letters] for letters in _LETTERS.values()]
    targets = np.arange(_TEXTS, dtype=np.int64) % len(alphabets)

    def word(target: int) -> str:
        of = target if chance.uniform() > _FOREIGN else int(chance.integers(len(alphabets)))
        return "".join(chance.choice(alphabets[of], size=int(chance.integers(1, 8))))

    texts = [
        " ".join(word(int(target)) for _ in range(int(chance.integers(1, 10))))
        for target in targets
    ]
    return TextSamples(texts=texts, targets=targets, labels=tuple(_LETTERS))
