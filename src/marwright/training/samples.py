"""Samples: what a data set holds, and what a client would send of it. Torch-free."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from marwright.recipe.regular import read_regular
from marwright.runtime.images.formats import MEDIA_TYPES, format_of
from marwright.runtime.request import is_json, trimmed

if TYPE_CHECKING:
    from PIL import Image

SplitName = Literal["train", "validation", "test"]


class Fault(Struct, frozen=True, kw_only=True):
    """A sample that cannot be used: where it is, and what is wrong with it."""

    where: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labelled:
    """What all samples have.

    `targets` are label indices int64 `(N,)`, or values float64 `(N,)` where there are no `labels`.
    `names` say of each sample where it comes from, each of them once; without them it is its
    number. `fixed` are the splits that the data set itself has decided, "" where it has not.
    `faults` are samples that are not among these because they could not be read.
    """

    targets: NDArray[np.int64] | NDArray[np.float64]
    labels: tuple[str, ...] = ()
    names: Sequence[str] = ()
    fixed: Sequence[SplitName | Literal[""]] = ()
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, index: int) -> str:
        """Return what a person would look for."""
        return str(self.names[index]) if len(self.names) else f"sample {index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSamples(_Labelled):
    """Labelled images: arrays uint8 `(H, W)` or `(H, W, 3)`, or files that hold one each."""

    images: Sequence[NDArray[np.uint8] | Path]

    def content(self, index: int) -> bytes:
        """Return what makes this sample this sample, for its digest."""
        image = self.images[index]
        if isinstance(image, Path):
            return read_regular(image)
        image = np.ascontiguousarray(image)
        return repr((image.shape, image.dtype.str)).encode() + image.tobytes()

    def request(self, index: int) -> tuple[bytes, str]:
        """Return the sample as a client would send it: the body and its content type."""
        source = self.images[index]
        if isinstance(source, Path):
            content = read_regular(source)
            return content, MEDIA_TYPES[format_of(content)]
        buffer = io.BytesIO()
        self.image(index).save(buffer, format="PNG")
        return buffer.getvalue(), "image/png"

    def image(self, index: int, near: tuple[int, int] | None = None) -> Image.Image:
        """Return the sample as the server sees it: upright, opaque, grey or RGB.

        With `near` it may be larger than that size and smaller than the original. Raises
        `BadRequest` for a file that the server would refuse.
        """
        from PIL import Image

        from marwright.runtime.images.decode import open_image

        source = self.images[index]
        if isinstance(source, Path):
            return open_image(read_regular(source), near)
        return Image.fromarray(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSamples(_Labelled):
    """Rows float64 `(N, len(columns))`, and their `target`.

    A column that has `categories` holds their indices; without any, all columns are numbers. In an
    `optional` column NaN stands for a value that is missing.
    """

    rows: NDArray[np.float64]
    columns: tuple[str, ...]
    target: str
    categories: tuple[tuple[str, ...], ...] = ()
    optional: tuple[bool, ...] = ()

    def content(self, index: int) -> bytes:
        """Return what makes this sample this sample, for its digest."""
        row = self.rows[index]
        # Adding zero makes one zero of -0.0 and 0.0, which are equal; there are many NaN.
        plain = np.where(np.isnan(row), np.nan, row + 0.0).astype("<f8")
        if not any(self.categories):
            return plain.tobytes()
        # By their names and not by their numbers: a new category must move no other row.
        return b"".join(
            _named(categories, value) if categories else value.tobytes()
            for categories, value in zip(self.categories, plain, strict=True)
        )

    def row(self, index: int) -> dict[str, float | str | None]:
        """Return a row by its columns: numbers, categories, None for what is missing."""
        values = zip(self.columns, self.rows[index].tolist(), strict=True)
        return {
            column: None if np.isnan(value)
            else self.categories[place][int(value)] if self.categories and self.categories[place]
            else value
            for place, (column, value) in enumerate(values)
        }  # fmt: skip

    def request(self, index: int) -> tuple[bytes, str]:
        """Return the sample as a client would send it: the body and its content type."""
        return json.dumps(self.row(index)).encode(), "application/json"


def _named(categories: tuple[str, ...], value: float) -> bytes:
    """Return a category by its name, whose length stands in front, or that there is none."""
    if np.isnan(value):
        return b"\0"
    name = categories[int(value)].encode()
    return b"\1" + len(name).to_bytes(4, "little") + name


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSamples(_Labelled):
    """Labelled texts, whole: how much of them is read is the preprocessing's to say."""

    texts: Sequence[str]

    def content(self, index: int) -> bytes:
        """Return what makes this sample this sample, for its digest."""
        return trimmed(self.texts[index]).encode()

    def request(self, index: int) -> tuple[bytes, str]:
        """Return the sample as a client would send it: the body and its content type."""
        text = self.texts[index]
        if is_json(text):
            # As it stands, the server would take it for an object of ours.
            return json.dumps({"text": text}).encode(), "application/json"
        return text.encode(), "text/plain; charset=utf-8"


Samples = ImageSamples | TableSamples | TextSamples
