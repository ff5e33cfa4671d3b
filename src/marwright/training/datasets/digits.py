"""scikit-learn's handwritten digits: 1,797 grey images of 8×8 pixels, ten classes.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from marwright.training.few import few
from marwright.training.samples import ImageSamples


def load(*, labels: list[int] | None = None, learned: int = 0) -> ImageSamples:
    """Return the images as a client could send them: 0…16 of the source become 0…255.

    Only those of `labels`, where they are given. With `learned`, so many of each label are there
    to learn from, and all others are for the test.
    """
    digits = load_digits()
    wanted = [*range(10)] if labels is None else labels
    chosen = np.isin(digits.target, wanted)
    images = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    targets = np.array([wanted.index(digit) for digit in digits.target[chosen]], dtype=np.int64)
    every = dict.fromkeys(range(len(wanted)), learned)
    return ImageSamples(
        images=list(images),
        targets=targets,
        labels=tuple(str(digit) for digit in wanted),
        fixed=few([image.tobytes() for image in images], targets, every) if learned else (),
    )
