"""The values of this room, torch-free: reports, artifacts, and what an archive says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from marwright.parity.types import Summary

# Of the inventory; written down in docs/reference/archive-format.md.
FORMAT = 2

MANIFEST = "MAR-INF/MANIFEST.json"
INVENTORY = "MAR-INF/inventory.json"
PROOF = "MAR-INF/proof.json"
GOLDEN = "MAR-INF/golden"
GOLDEN_INDEX = f"{GOLDEN}/index.json"
GOLDEN_TENSORS = f"{GOLDEN}/tensors.safetensors"
MODEL_CONFIG = "model-config.yaml"

# The same of a workflow.
WORKFLOW_MANIFEST = "WAR-INF/MANIFEST.json"
WORKFLOW_INVENTORY = "WAR-INF/inventory.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A finished archive: where it is, its size in bytes, and its members' SHA-256."""

    path: Path
    size: int
    members: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An archive of files that were named: its place, size in bytes and members.

    `imported` are the members that nobody named: they were found by following imports.
    `left_out` names what was found in folders and is not packed; `notes` what is worth knowing.
    """

    path: Path
    size: int
    members: tuple[str, ...]
    imported: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


class AnswersReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the handler made of held-out requests over each export; `ok` if of every one the
    right answer. `notes` say what could not be judged, and `absent` which checks there were none
    of, because they need a `Service`, or an `inference` that takes and gives tensors.
    """

    ok: bool
    requests: int
    exports: list[str]
    problems: list[str]
    notes: list[str] = []
    absent: list[str] = []

    def __post_init__(self) -> None:
        if self.ok != (bool(self.requests and self.exports) and not self.problems):
            raise ValueError(
                f"ok is {self.ok}; its {self.requests} requests to {len(self.exports)} exports "
                f"with {len(self.problems)} problems say otherwise"
            )


class GoldenSample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One recorded request: `tensors.safetensors` holds `input.<n>` and `output.<n>`.

    `request` names the member with the raw bytes; `answer` is the JSON that they must give, or
    the text where an answer is none.
    """

    request: str
    content_type: str
    answer: Any


class GoldenIndex(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The golden samples of an archive, and how closely outputs must meet them.

    `entry` says whether reading and answering can be asked for one by one, as of a `Service`, or
    only whole answers, as of any `handle`.
    """

    atol: float
    rtol: float
    entry: Literal["service", "handle"] = "service"
    samples: list[GoldenSample]


class Inventory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`MAR-INF/inventory.json`, the last member: every other member's SHA-256.

    `proven` says that the archive claims to be built from a recipe and carries its proof.
    """

    format: int
    proven: bool
    members: dict[str, str]


class Proof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`MAR-INF/proof.json`: where the archive comes from, and what was measured on the way.

    `baseline` and `gain` are as in a checkpoint's `Meta`.
    """

    recipe: dict[str, Any]
    metrics: dict[str, float]
    baseline: dict[str, float] = {}
    gain: tuple[float, float] | None = None
    splits: dict[str, str]
    parity: Summary
    answers: AnswersReport
    versions: dict[str, str]


# Whether a handler was loaded as TorchServe loads it; "none" where there is none in Python.
Tried = Literal["tried", "not tried", "none"]


class VerifyReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `verify` found. `proven`: it carries a proof, and all of it held.

    A handler is not tried where something was wrong before, or TorchServe is not installed.
    `unchecked` says what could not be looked at, `notes` what is worth knowing and not wrong.
    """

    sha256: str
    size: int
    members: int
    golden_samples: int
    handler: Tried
    proven: bool
    problems: list[str]
    unchecked: list[str] = []
    notes: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether nothing was found to be wrong."""
        return not self.problems

    @property
    def untried(self) -> str:
        """Why a handler of which nothing is known to be wrong was not tried; nothing otherwise."""
        if self.problems or self.handler != "not tried":
            return ""
        why = (line for line in self.unchecked if line.startswith("handler: not tried"))
        return next(why, "handler: not tried")


Read = TypeVar("Read")


def read_json(path: Path, type: type[Read]) -> Read | None:
    """Return a JSON file's value; None when it is not there or is not of that type.

    For what the next build makes again: a damaged or older file counts as none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=type)
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, msgspec.MsgspecError):
        return None


def from_json(data: bytes, type: type[Read]) -> Read:
    """Return a JSON member's value. Raises `ValueError`, saying what is wrong with it."""
    try:
        return msgspec.json.decode(data, type=type)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None


def to_json(value: Any) -> bytes:
    """Return indented JSON with sorted keys and a final newline: the same value, the same bytes."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"
