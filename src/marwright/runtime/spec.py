"""What turns a request into a tensor: the fitted preprocessing, as data.

Training makes one of these specs from a recipe's `[preprocess]` and the training split, the
archive carries it as `preprocess.json`, and `runtime/preprocess.py` is the only code that turns
inputs into arrays by it. Standard library only: recipes and the packer read this module without
torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

Interpolation = Literal["nearest", "bilinear", "bicubic"]
ImageFit = Literal["stretch", "crop"]

# What a sample's numbers are, as torch and numpy call them.
Dtype = Literal["float32", "int64"]

# Of a table in one request; more rows would hold up its neighbours in the batch.
MAX_ROWS = 1000
# Of a text: what fills up the shorter ones of a batch, and how many numbers there are, one for
# each byte and this.
PADDING = 0
IDS = 257


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

    @property
    def dtype(self) -> Dtype:
        """What its numbers are."""
        return "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """A row of columns becomes a float32 tensor `(features,)`; an output a value of `target`.

    Of a column of numbers comes `(value - center) / scale`. A column that has `categories` becomes
    a feature for each: 1 for the row's own, 0 for the others. A value of an `optional` column may
    be missing: for a number `fill` stands in and a second feature says so, 1 or 0; for a category
    all features are 0. An output becomes `output * target_std + target_mean`.
    """

    columns: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    optional: tuple[bool, ...]
    fill: tuple[float, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    target: str
    target_mean: float
    target_std: float
    kind: Literal["table"] = "table"

    @property
    def widths(self) -> tuple[int, ...]:
        """How many features each column becomes."""
        return tuple(
            len(categories) or 1 + optional
            for categories, optional in zip(self.categories, self.optional, strict=True)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, without the batch axis."""
        return (sum(self.widths),)

    @property
    def dtype(self) -> Dtype:
        """What its numbers are."""
        return "float32"

    @property
    def features(self) -> tuple[str, ...]:
        """What each feature is, as people read it."""
        return tuple(
            name
            for column, categories, optional in zip(
                self.columns, self.categories, self.optional, strict=True
            )
            for name in (
                [f"{column} = {category}" for category in categories]
                or [column, *[f"{column} is missing"] * optional]
            )
        )

    def column_of(self, feature: int) -> str:
        """Return the column that a feature comes from."""
        ends = accumulate(self.widths)
        return next(c for c, end in zip(self.columns, ends, strict=True) if feature < end)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """A text becomes an int64 tensor `(length,)` of the bytes that it is in UTF-8, at most so many.

    A number is the byte's value plus 1. A batch is as long as its longest text; `PADDING` stands
    behind the others.
    """

    max_bytes: int
    kind: Literal["text"] = "text"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample at its longest, without the batch axis."""
        return (self.max_bytes,)

    @property
    def dtype(self) -> Dtype:
        """What its numbers are."""
        return "int64"


PreprocessSpec = ImageSpec | TableSpec | TextSpec
_KINDS: dict[str, Callable[..., PreprocessSpec]] = {
    "image": ImageSpec,
    "table": TableSpec,
    "text": TextSpec,
}


def spec_to_dict(spec: PreprocessSpec) -> dict[str, Any]:
    """Return the spec as JSON-ready values."""
    return {k: _listed(v) for k, v in asdict(spec).items()}


def spec_from_dict(values: dict[str, Any]) -> PreprocessSpec:
    """Rebuild a spec from what `spec_to_dict` gave, after a trip through JSON.

    Raises `ValueError` for an unknown kind and `TypeError` for missing or unknown fields.
    """
    kind = values.get("kind")
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of preprocessing {kind!r}; known: {', '.join(_KINDS)}")
    return _KINDS[kind](**{k: _tupled(v) for k, v in values.items()})


def _listed(value: Any) -> Any:
    return [_listed(inner) for inner in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(inner) for inner in value) if isinstance(value, list) else value


def load_spec(path: Path) -> PreprocessSpec:
    """Read a `preprocess.json`."""
    return spec_from_dict(json.loads(path.read_text(encoding="utf-8")))
