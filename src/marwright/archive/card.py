"""What an archive holds, collected to be shown, and what tells two archives apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from marwright.archive.container.open import open_archive
from marwright.archive.container.types import Container, Digests, Unreadable
from marwright.archive.contents import Contents, read_contents
from marwright.archive.gather import File
from marwright.archive.names import lines_of, printable
from marwright.archive.rules.config import read_config
from marwright.archive.types import (
    GOLDEN_INDEX,
    INVENTORY,
    WORKFLOW_INVENTORY,
    GoldenIndex,
    from_json,
)
from marwright.parity.types import Summary
from marwright.recipe.errors import VerifyError

# In characters: each key has those above it in it, and a file can make much of little by that.
_MOST_KEYS = 8 << 20


class Member(Struct, frozen=True, kw_only=True):
    """A member's size in bytes and SHA-256."""

    size: int
    sha256: str


class Card(Struct, frozen=True, kw_only=True):
    """An archive at a glance. `claims_proof` is what it says itself; `verify` tests that."""

    path: str
    sha256: str
    size: int
    claims_proof: bool
    manifest: dict[str, Any]
    config: dict[str, Any]
    metrics: dict[str, float]
    baseline: dict[str, float]
    gain: tuple[float, float] | None
    parity: Summary | None
    versions: dict[str, str]
    golden_samples: int
    members: dict[str, Member]
    problems: list[str]


def read_card(mar: File) -> Card:
    """Read an archive without running anything of it.

    Raises `VerifyError` when it is not there, or its structure cannot be followed.
    """
    mar = Path(mar)
    with open_archive(mar) as archive:
        _raise_for(mar, archive.problems)
        digests = archive.digests()
        contents = read_contents(archive, digests)
        problems = [*digests.problems, *contents.problems]
        proof, inventory, workflow = contents.proof, contents.inventory, contents.workflow
        manifest = contents.manifest if workflow is None else workflow.manifest
        return Card(
            path=str(mar),
            sha256=digests.sha256,
            size=archive.size,
            claims_proof=inventory is not None and inventory.proven,
            manifest=msgspec.to_builtins(manifest) if manifest is not None else {},
            config=_config(archive, contents),
            metrics=proof.metrics if proof is not None else {},
            baseline=proof.baseline if proof is not None else {},
            gain=proof.gain if proof is not None else None,
            parity=proof.parity if proof is not None else None,
            versions=proof.versions if proof is not None else {},
            golden_samples=_golden_samples(archive, problems),
            members=_members(archive, digests),
            problems=lines_of(problems),
        )


def _raise_for(mar: Path, problems: list[str]) -> None:
    if problems:
        raise VerifyError("\n".join(f"{mar}: {problem}" for problem in lines_of(problems)))


def _members(archive: Container, digests: Digests) -> dict[str, Member]:
    return {
        name: Member(size=size, sha256=digests.members[name])
        for name, size in sorted(archive.members.items())
        if name in digests.members
    }


def _config(archive: Container, contents: Contents) -> dict[str, Any]:
    """Return what is configured: of a model its `model-config.yaml`, of a workflow its spec."""
    if contents.workflow is not None:
        spec: dict[str, Any] = _plain(msgspec.to_builtins(contents.workflow.spec))
        return spec
    name = contents.manifest.model.config_file if contents.manifest is not None else None
    if name is None or name not in archive.members:
        return {}
    # As `read_contents` could read it, so can we. Not PyYAML alone: what a few aliases make of a
    # small file could never be shown.
    config, _ = read_config(archive.read(name))
    return {_text(key): _plain(value) for key, value in config.values.items()}


def _plain(value: Any) -> Any:
    """Return a YAML value as JSON has it: keys are text, and so are dates."""
    if isinstance(value, dict):
        return {_text(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, int | float) else _text(value)


def _text(value: Any) -> str:
    # YAML can hold halves of characters, which nothing can print.
    return str(value).encode(errors="backslashreplace").decode()


def _golden_samples(archive: Container, problems: list[str]) -> int:
    if GOLDEN_INDEX not in archive.members:
        return 0
    try:
        index = from_json(archive.read(GOLDEN_INDEX), GoldenIndex)
    except Unreadable as error:
        problems.append(str(error))
    except ValueError as error:
        problems.append(f"{GOLDEN_INDEX}: {error}")
    else:
        return len(index.samples)
    return 0


def difference(one: Path, other: Path) -> list[str]:
    """Say what differs between two archives, sorted by member; nothing when they hold the same.

    Of JSON and YAML members the keys that differ are named. Raises `VerifyError` for an archive
    that cannot be read, or is damaged: what it held, nobody knows.
    """
    lines = []
    with open_archive(one) as first, open_archive(other) as second:
        old, new = _whole_members(one, first), _whole_members(other, second)
        for name in sorted(old.keys() | new.keys()):
            if name not in new:
                lines.append(f"missing  {name} ({old[name].size} bytes): only in {one}")
            elif name not in old:
                lines.append(f"extra    {name} ({new[name].size} bytes): only in {other}")
            elif old[name].sha256 != new[name].sha256:
                lines.append(f"changed  {name} ({old[name].size} → {new[name].size} bytes)")
                lines += [
                    f"           {line}" for line in lines_of([*_changes(name, first, second)])
                ]
    return lines


def _whole_members(mar: Path, archive: Container) -> dict[str, Member]:
    _raise_for(mar, archive.problems)
    digests = archive.digests()
    _raise_for(mar, digests.problems)
    return _members(archive, digests)


def _changes(name: str, one: Container, other: Container) -> Iterator[str]:
    """Yield a line for each key that differs in a JSON or YAML member."""
    old, new = _keys(name, one), _keys(name, other)
    if old is None or new is None:
        return
    for key in sorted(old.keys() | new.keys()):
        if name in (INVENTORY, WORKFLOW_INVENTORY) and key.startswith("members."):
            # Said of the member itself.
            continue
        shown = printable(key)
        before, after = (printable(repr(values.get(key))) for values in (old, new))
        if key not in new:
            yield f"{shown}: {before} → gone"
        elif key not in old:
            yield f"{shown}: new, {after}"
        elif old[key] != new[key]:
            yield f"{shown}: {before} → {after}"


def _keys(name: str, archive: Container) -> dict[str, Any] | None:
    """Return the keys of a JSON or YAML member, dotted; None where there is nothing to read."""
    if not name.endswith((".json", ".yaml", ".yml")):
        return None
    try:
        data = archive.read(name)
        is_json = name.endswith(".json")
        values = json.loads(data) if is_json else read_config(data)[0].values or None
        return _keyed(values) if isinstance(values, dict) else None
    except (Unreadable, ValueError, RecursionError):
        return None


def _keyed(values: dict[str, Any]) -> dict[str, Any] | None:
    """Return values by their dotted keys; None where those are longer than the file could be."""
    keyed, length = dict[str, Any](), 0
    for key, value in _leaves(values):
        length += len(key)
        if length > _MOST_KEYS:
            return None
        keyed[key] = value
    return keyed


def _leaves(value: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _leaves(inner, f"{above}{key}.")
        else:
            yield f"{above}{key}", inner
