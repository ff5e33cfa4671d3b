"""The values that training passes on; torch-free, because packing reads them too."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from marwright.recipe.errors import TrainError
from marwright.runtime.spec import PreprocessSpec, TableSpec, spec_from_dict
from marwright.training.record import Duplicates, TrainReport
from marwright.training.samples import Fault, Samples, SplitName

# What training leaves for people.
REPORT = "train.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Samples, and which of them each split holds (sorted indices).

    `contents` are the SHA-256 of each sample's content.
    """

    samples: Samples
    contents: tuple[str, ...]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def named(self) -> dict[SplitName, NDArray[np.int64]]:
        """Return the splits by their names."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def digests(self) -> dict[str, str]:
        """Return a SHA-256 for each split: of its samples' digests and targets, order-free."""
        return {name: self._digest(indices) for name, indices in self.named().items()}

    def _digest(self, indices: NDArray[np.int64]) -> str:
        targets = self.samples.targets
        lines = sorted(f"{self.contents[i]} {targets[i].item()!r}" for i in indices)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Samples by the first 64 bits of their SHA-256, uint64, sorted, each once.

    Weights were fitted to those of `train`, and chosen by those of `validation`.
    """

    train: NDArray[np.uint64]
    validation: NDArray[np.uint64]


NOTHING = Learned(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A data set that was looked at: its splits, what is not in them, and what is in them twice.

    `learned` are the samples that a model of it will have learned of, `train/learned.py` says how.
    """

    splits: Splits
    faults: tuple[Fault, ...]
    duplicates: Duplicates
    learned: Learned


class Meta(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `meta.json` says of a checkpoint's weights; a function of the training key alone.

    `preprocess` is the fitted spec; `metrics` and `test_loss` are on the test split; `baseline` has
    the same metrics of answering without looking, and `gain` the 95 % interval of how far the main
    metric is above it;
    `best_epoch` is the one whose weights were kept; `faults` are of samples that were left out.
    """

    task: Literal["classification", "regression"]
    preprocess: dict[str, Any]
    labels: list[str]
    outputs: int
    metrics: dict[str, float]
    baseline: dict[str, float] = {}
    gain: tuple[float, float] | None = None
    test_loss: float
    validation_loss: float
    epochs: int
    best_epoch: int
    seed: int
    device: str
    splits: dict[str, str]
    split_sizes: dict[str, int]
    faults: list[Fault] = []
    versions: dict[str, str]

    @property
    def spec(self) -> PreprocessSpec:
        """The fitted preprocessing."""
        return spec_from_dict(self.preprocess)

    @property
    def answers(self) -> tuple[str, ...]:
        """What the outputs stand for: labels, or the target of a regression."""
        if self.labels:
            return tuple(self.labels)
        return (spec.target,) if isinstance(spec := self.spec, TableSpec) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Trained weights (safetensors) and what is known of them; `losses` of the test split.

    `learned` are the samples that they were made from.
    """

    weights: Path
    meta: Meta
    losses: Path | None = None
    learned: Path | None = None


def read_meta(path: Path) -> Meta:
    """Read a checkpoint's `meta.json`. Raises `TrainError` when it is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Meta)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise TrainError(f"{path.name}: {error}") from error


def write_meta(meta: Meta, path: Path) -> None:
    """Write `meta.json`; it comes last, so that its presence means a complete checkpoint."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(meta, order="sorted")) + b"\n")


def write_report(report: TrainReport, path: Path) -> None:
    """Write a `train.json`."""
    path.write_bytes(msgspec.json.encode(report) + b"\n")
