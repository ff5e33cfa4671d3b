"""The values that training passes on; torch-free, because packing reads them too."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from handlers.spec import PreprocessSpec, spec_from_dict
from recipes.errors import TrainError

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSamples:
    """Labelled images: uint8 `(H, W)` or `(H, W, 3)` each, and one label index an image."""

    images: Sequence[NDArray[np.uint8]]
    targets: NDArray[np.int64]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def content(self, index: int) -> bytes:
        """Return what makes this sample this sample, for its digest."""
        image = np.ascontiguousarray(self.images[index])
        return repr((image.shape, image.dtype.str)).encode() + image.tobytes()

    def request(self, index: int) -> tuple[bytes, str]:
        """Return the sample as a client would send it: the body and its content type."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(self.images[index]).save(buffer, format="PNG")
        return buffer.getvalue(), "image/png"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSamples:
    """Rows of numbers: float64 `(N, len(columns))`, and one value of `target` a row."""

    rows: NDArray[np.float64]
    targets: NDArray[np.float64]
    columns: tuple[str, ...]
    target: str

    def __len__(self) -> int:
        return len(self.targets)

    def content(self, index: int) -> bytes:
        """Return what makes this sample this sample, for its digest."""
        # Adding zero makes one zero of -0.0 and 0.0, which are equal.
        return bytes((self.rows[index] + 0.0).astype("<f8").tobytes())

    def request(self, index: int) -> tuple[bytes, str]:
        """Return the sample as a client would send it: the body and its content type."""
        row = dict(zip(self.columns, self.rows[index].tolist(), strict=True))
        return json.dumps(row).encode(), "application/json"


Samples = ImageSamples | TableSamples


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Samples, and which of them each split holds (sorted indices)."""

    samples: Samples
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def digests(self) -> dict[str, str]:
        """Return a SHA-256 for each split: of its samples' digests and targets, order-free."""
        return {name: self._digest(getattr(self, name)) for name in ("train", "validation", "test")}

    def _digest(self, indices: NDArray[np.int64]) -> str:
        targets = self.samples.targets
        digests = [hashlib.sha256(self.samples.content(i)).hexdigest() for i in indices]
        lines = sorted(
            f"{digest} {targets[i].item()!r}" for digest, i in zip(digests, indices, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Meta(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `meta.json` says of a checkpoint's weights; a function of the training key alone.

    `preprocess` is the fitted spec; `metrics` and `test_loss` are on the test split;
    `best_epoch` is the one whose weights were kept.
    """

    task: Literal["classification", "regression"]
    preprocess: dict[str, Any]
    labels: list[str]
    outputs: int
    metrics: dict[str, float]
    test_loss: float
    validation_loss: float
    epochs: int
    best_epoch: int
    seed: int
    device: str
    splits: dict[str, str]
    split_sizes: dict[str, int]
    versions: dict[str, str]

    @property
    def spec(self) -> PreprocessSpec:
        """The fitted preprocessing."""
        return spec_from_dict(self.preprocess)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Trained weights (safetensors) and what is known of them; `losses` of the test split."""

    weights: Path
    meta: Meta
    losses: Path | None = None


def read_meta(path: Path) -> Meta:
    """Read a checkpoint's `meta.json`. Raises `TrainError` when it is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Meta)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise TrainError(f"{path.name}: {error}") from error


def write_meta(meta: Meta, path: Path) -> None:
    """Write `meta.json`; it comes last, so that its presence means a complete checkpoint."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(meta, order="sorted")) + b"\n")
