"""scikit-learn's handwritten digits: 1,797 grey images of 8×8 pixels, ten classes.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from train.types import ImageSamples


def load() -> ImageSamples:
    """Return the images as a client could send them: 0…16 of the source become 0…255."""
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return ImageSamples(
        images=list(images),
        targets=digits.target.astype(np.int64),
        labels=tuple(str(name) for name in digits.target_names),
    )
