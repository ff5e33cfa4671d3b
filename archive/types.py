"""The values of this room, torch-free: reports, artifacts, and what an archive says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

FORMAT = 1

MANIFEST = "MAR-INF/MANIFEST.json"
PROOF = "MAR-INF/proof.json"
GOLDEN = "MAR-INF/golden"
GOLDEN_INDEX = f"{GOLDEN}/index.json"
GOLDEN_TENSORS = f"{GOLDEN}/tensors.safetensors"
MODEL_CONFIG = "model-config.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A finished file: its kind, where it is, its SHA-256 and its size in bytes."""

    kind: Literal["mar"]
    path: Path
    sha256: str
    size: int


class ParityCase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One backend at one batch size against the eager checkpoint, over `samples` rows.

    Differences are of raw outputs; `worst_sample` is an index into the compared samples;
    `flips` counts samples whose largest output is another one (classification).
    """

    backend: Literal["torchscript", "onnxruntime"]
    batch: int
    samples: int
    max_abs: float
    max_rel: float
    flips: int
    worst_sample: int
    ok: bool
    problem: str = ""


class ParityReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gate measured; `ok` only if every case is, and there are some."""

    atol: float
    rtol: float
    samples: int
    cases: list[ParityCase]
    ok: bool

    def __post_init__(self) -> None:
        if self.ok != (bool(self.cases) and all(case.ok for case in self.cases)):
            raise ValueError(f"ok is {self.ok}, its {len(self.cases)} cases say otherwise")

    def worst(self) -> ParityCase:
        """Return the case with the largest difference, of those that fail if any does."""
        return min(self.cases, key=lambda case: (case.ok, -case.max_abs))

    def summary(self) -> dict[str, Any]:
        """Return what an archive carries of the report."""
        return {
            "ok": self.ok,
            "atol": self.atol,
            "rtol": self.rtol,
            "samples": self.samples,
            "batches": sorted({case.batch for case in self.cases}),
            "max_abs": max(case.max_abs for case in self.cases),
            "flips": sum(case.flips for case in self.cases),
        }


class GoldenSample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One recorded request: `tensors.safetensors` holds `input.<n>` and `output.<n>`.

    `request` names the member with the raw bytes; `answer` is the JSON that they must give.
    """

    request: str
    content_type: str
    answer: Any


class GoldenIndex(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The golden samples of an archive, and how closely outputs must meet them."""

    atol: float
    rtol: float
    samples: list[GoldenSample]


class Proof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`MAR-INF/proof.json`: every other member's SHA-256, and where the archive comes from."""

    format: int
    members: dict[str, str]
    recipe: dict[str, Any]
    metrics: dict[str, float]
    splits: dict[str, str]
    parity: dict[str, Any]
    versions: dict[str, str]


class VerifyReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `verify` found. `proven`: it carries a proof, and all of it held."""

    sha256: str
    size: int
    members: int
    golden_samples: int
    proven: bool
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing was found to be wrong."""
        return not self.problems


Read = TypeVar("Read")


def read_json(path: Path, type: type[Read]) -> Read | None:
    """Return a JSON file's value; None when it is not there or is not of that type.

    For what the next build makes again: a damaged or older file counts as none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=type)
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, msgspec.MsgspecError):
        return None


def to_json(value: Any) -> bytes:
    """Return indented JSON with sorted keys and a final newline: the same value, the same bytes."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"
