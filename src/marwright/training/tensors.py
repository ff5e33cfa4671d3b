"""Samples as tensors: what the network is given, and what the loss compares with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from marwright.runtime.preprocess import image_array, image_pixels, table_array, text_array
from marwright.runtime.spec import ImageSpec, PreprocessSpec, TableSpec, TextSpec
from marwright.training.samples import ImageSamples, Samples, TextSamples


def inputs_of(samples: Samples, indices: NDArray[np.int64], spec: PreprocessSpec) -> torch.Tensor:
    """Return the evaluation transform of the chosen samples: `(N, …)` of the spec's dtype.

    It is the handler's own code, so what a model is trained on is what it is served.
    """
    if isinstance(samples, ImageSamples):
        assert isinstance(spec, ImageSpec)
        images = [image_array(samples.image(int(index)), spec) for index in indices]
        return torch.from_numpy(np.stack(images))
    if isinstance(samples, TextSamples):
        assert isinstance(spec, TextSpec)
        return torch.from_numpy(text_array([samples.texts[index] for index in indices], spec))
    assert isinstance(spec, TableSpec)
    return torch.from_numpy(table_array(samples.rows[indices], spec))


def pixels_of(samples: ImageSamples, indices: NDArray[np.int64], spec: ImageSpec) -> torch.Tensor:
    """Return the chosen images in the network's size, before they are normalised: uint8."""
    pixels = [image_pixels(samples.image(int(index)), spec) for index in indices]
    return torch.from_numpy(np.stack(pixels))


def targets_of(samples: Samples, indices: NDArray[np.int64], spec: PreprocessSpec) -> torch.Tensor:
    """Return what the loss compares with: int64 `(N,)` labels, or float32 `(N, 1)` values."""
    if samples.labels:
        return torch.from_numpy(samples.targets[indices])
    assert isinstance(spec, TableSpec)
    scaled = (samples.targets[indices] - spec.target_mean) / spec.target_std
    return torch.from_numpy(scaled.astype(np.float32))[:, None]
