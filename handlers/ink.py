"""Grey pictures by their ink: the one function that training and the handler of digits share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of 255: what is darker is no ink, but paper or noise.
INK = 48


def centred(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a grey image `(H, W)`, white on black, cropped to its ink and padded to a square.

    What is centred already stays as it is. Raises `ValueError` for an image without ink.
    """
    rows, columns = np.any(image > INK, axis=1), np.any(image > INK, axis=0)
    if not rows.any():
        raise ValueError("the image is blank: there is nothing brighter than its background")
    top, bottom = np.flatnonzero(rows)[[0, -1]]
    left, right = np.flatnonzero(columns)[[0, -1]]
    ink = image[top : bottom + 1, left : right + 1]
    side = max(ink.shape)
    above, before = (side - ink.shape[0]) // 2, (side - ink.shape[1]) // 2
    square = np.zeros((side, side), dtype=np.uint8)
    square[above : above + ink.shape[0], before : before + ink.shape[1]] = ink
    return square


def white_on_black(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Invert a grey image `(H, W)` whose edge, the paper, is bright."""
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return 255 - image if np.median(edge) > 127 else image
