"""Read archives without trusting them: names, checksums and recorded digests before any use."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from archive.types import MANIFEST, PROOF, Proof

_CHUNK = 1 << 20


class _Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    model_name: str
    model_version: str
    handler: str
    serialized_file: str | None = None
    config_file: str | None = None


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    model: _Model


@dataclass(slots=True, kw_only=True)
class Contents:
    """What an archive holds: digests by member, its proof if it has one, what is wrong with it."""

    digests: dict[str, str] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    proof: Proof | None = None
    problems: list[str] = field(default_factory=list)


def read_contents(mar: Path) -> Contents:
    """Read every byte of an archive and report what is wrong; raises nothing for bad archives."""
    contents = Contents()
    try:
        with zipfile.ZipFile(mar) as archive:
            _read_members(archive, contents)
            if not contents.problems:
                _read_manifest(archive, contents)
                _read_proof(archive, contents)
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        contents.problems.append(f"{mar.name}: cannot be read as a zip file: {error}")
    return contents


def unpack(mar: Path, folder: Path) -> None:
    """Unpack an archive whose `read_contents` found no problem."""
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(folder)


def _read_members(archive: zipfile.ZipFile, contents: Contents) -> None:
    for info in archive.infolist():
        name = info.filename
        parts = name.removesuffix("/").split("/")
        if not name.isascii() or "\\" in name or any(part in ("", ".", "..") for part in parts):
            contents.problems.append(f"{name!r}: not a plain relative name")
        elif name in contents.digests:
            contents.problems.append(f"{name}: stands in the archive twice")
        elif (info.external_attr >> 16) & 0o170000 == 0o120000:
            contents.problems.append(f"{name}: is a symbolic link")
        elif not info.is_dir():
            digest = hashlib.sha256()
            try:
                with archive.open(info) as member:
                    while chunk := member.read(_CHUNK):
                        digest.update(chunk)
            except (zipfile.BadZipFile, EOFError, RuntimeError) as error:
                contents.problems.append(f"{name}: {error}")
            contents.digests[name] = digest.hexdigest()


def _read_manifest(archive: zipfile.ZipFile, contents: Contents) -> None:
    if MANIFEST not in contents.digests:
        contents.problems.append(f"{MANIFEST}: missing; this is not a model archive")
        return
    data = archive.read(MANIFEST)
    try:
        model = msgspec.json.decode(data, type=_Manifest).model
    except msgspec.DecodeError as error:
        contents.problems.append(f"{MANIFEST}: {error}")
        return
    contents.manifest = msgspec.json.decode(data)
    for key, name in (("serializedFile", model.serialized_file), ("configFile", model.config_file)):
        if name is not None and name not in contents.digests:
            contents.problems.append(f"{MANIFEST}: {key} is {name!r}, which is not in the archive")


def _read_proof(archive: zipfile.ZipFile, contents: Contents) -> None:
    if PROOF not in contents.digests:
        return
    try:
        proof = msgspec.json.decode(archive.read(PROOF), type=Proof)
    except msgspec.DecodeError as error:
        contents.problems.append(f"{PROOF}: {error}")
        return
    contents.proof = proof
    found = {name: digest for name, digest in contents.digests.items() if name != PROOF}
    for name in sorted(proof.members.keys() | found.keys()):
        recorded, actual = proof.members.get(name), found.get(name)
        if actual is None:
            contents.problems.append(f"{name}: missing; {PROOF} records it")
        elif recorded is None:
            contents.problems.append(f"{name}: extra; {PROOF} does not record it")
        elif recorded != actual:
            contents.problems.append(
                f"{name}: changed; its SHA-256 is {actual[:12]}…, recorded is {recorded[:12]}…"
            )
