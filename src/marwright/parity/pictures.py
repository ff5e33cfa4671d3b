"""Inputs as a person sees them: a picture of an image, a row in its own units, a text."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from marwright.parity.backends import Array
from marwright.parity.texts import shown
from marwright.runtime.spec import ImageSpec, PreprocessSpec, TableSpec, TextSpec

_SIDE = 128


def picture(row: Array, spec: PreprocessSpec) -> str:
    """Return an image `(C, H, W)` as PNG in base64, its preprocessing undone; nothing of a table.

    Values outside the valid range are cut, and large images made smaller.
    """
    if not isinstance(spec, ImageSpec):
        return ""
    mean, std = (np.array(values)[:, None, None] for values in (spec.mean, spec.std))
    pixels = np.clip(np.nan_to_num(row) * std + mean, 0, 1)
    values = np.round(pixels * 255).astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(values[:, :, 0] if spec.channels == 1 else values)
    # A page holds several of them, and is looked at, not measured.
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def columns(row: Array, spec: PreprocessSpec) -> dict[str, float]:
    """Return a row `(features,)` by feature, numbers in their own units; of a table only."""
    if not isinstance(spec, TableSpec):
        return {}
    scaled = {place: spec.columns.index(name) for place, name in enumerate(spec.features)
              if name in spec.columns}  # fmt: skip
    values = row.astype(np.float64)
    for place, column in scaled.items():
        values[place] = values[place] * spec.scale[column] + spec.center[column]
    return {name: float(f"{v:.6g}") for name, v in zip(spec.features, values, strict=True)}


def text(row: Array, spec: PreprocessSpec) -> str:
    """Return a text `(length,)` as it is read, what is no UTF-8 replaced; of a text only."""
    return shown(row) if isinstance(spec, TextSpec) else ""
