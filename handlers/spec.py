"""What turns a request into a tensor: the fitted preprocessing, as data.

Training makes one of these specs from a recipe's `[preprocess]` and the training split, the
archive carries it as `preprocess.json`, and `handlers/preprocess.py` is the only code that turns
inputs into tensors by it. Standard library only: recipes and the packer read this module without
torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Interpolation = Literal["nearest", "bilinear", "bicubic"]
ImageFit = Literal["stretch", "crop"]

# Of a table in one request; more rows would hold up its neighbours in the batch.
MAX_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """An image becomes a float32 tensor `(channels, height, width)`.

    `mean` and `std` hold one value a channel, on pixels scaled to 0…1. `fit` says how another
    size is met: `stretch` ignores the aspect ratio; `crop` scales the shorter side and cuts the
    centre.
    """

    channels: int
    height: int
    width: int
    fit: ImageFit
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: Literal["image"] = "image"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, without the batch axis."""
        return (self.channels, self.height, self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """A row becomes a float32 tensor `(len(columns),)`; an output becomes a value of `target`.

    Row and value are standardised: `(row - mean) / std` going in, and
    `output * target_std + target_mean` coming out.
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target: str
    target_mean: float
    target_std: float
    kind: Literal["table"] = "table"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, without the batch axis."""
        return (len(self.columns),)


PreprocessSpec = ImageSpec | TableSpec
_KINDS: dict[str, Callable[..., PreprocessSpec]] = {"image": ImageSpec, "table": TableSpec}


def spec_to_dict(spec: PreprocessSpec) -> dict[str, Any]:
    """Return the spec as JSON-ready values."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(spec).items()}


def spec_from_dict(values: dict[str, Any]) -> PreprocessSpec:
    """Rebuild a spec from what `spec_to_dict` gave, after a trip through JSON.

    Raises `ValueError` for an unknown kind and `TypeError` for missing or unknown fields.
    """
    kind = values.get("kind")
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of preprocessing {kind!r}; known: {', '.join(_KINDS)}")
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return _KINDS[kind](**fields)


def load_spec(path: Path) -> PreprocessSpec:
    """Read a `preprocess.json`."""
    return spec_from_dict(json.loads(path.read_text(encoding="utf-8")))
