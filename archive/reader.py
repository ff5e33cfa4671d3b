"""Read archives without trusting them: names, checksums and recorded digests before any use."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from archive.names import collisions, is_plain
from archive.types import FORMAT, MANIFEST, PROOF, Proof

_CHUNK = 1 << 20
# The methods that TorchServe's reader, which is Java's, can unpack.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What `zipfile` raises for bytes that are not what they claim to be.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


class _Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    model_name: str
    model_version: str
    handler: str
    serialized_file: str | None = None
    model_file: str | None = None
    requirements_file: str | None = None
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
    except _UNREADABLE as error:
        contents.problems.append(f"{mar.name}: cannot be read as a zip file: {error}")
    return contents


def unpack(mar: Path, folder: Path) -> None:
    """Unpack an archive whose `read_contents` found no problem."""
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(folder)


def _read_members(archive: zipfile.ZipFile, contents: Contents) -> None:
    names: set[str] = set()
    for info in archive.infolist():
        # As it stands in the file: `filename` ends at a NUL, and the server's reader does not.
        name = info.orig_filename
        if not is_plain(name.removesuffix("/")):
            contents.problems.append(f"{name!r}: not a plain relative name")
        elif name in names:
            contents.problems.append(f"{name}: stands in the archive twice")
        elif (info.external_attr >> 16) & 0o170000 == 0o120000:
            contents.problems.append(f"{name}: is a symbolic link")
        elif info.compress_type not in _METHODS:
            contents.problems.append(f"{name}: compressed in a way that TorchServe cannot read")
        elif not name.endswith("/"):
            _read_member(archive, info, contents)
        names.add(name)
    contents.problems += collisions(names)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, contents: Contents) -> None:
    digest = hashlib.sha256()
    try:
        with archive.open(info) as member:
            while chunk := member.read(_CHUNK):
                digest.update(chunk)
    except _UNREADABLE as error:
        contents.problems.append(f"{info.filename}: {error}")
    contents.digests[info.filename] = digest.hexdigest()


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
    named = {
        "serializedFile": model.serialized_file,
        "modelFile": model.model_file,
        "requirementsFile": model.requirements_file,
        "configFile": model.config_file,
    }
    for key, name in named.items():
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
    if proof.format != FORMAT:
        contents.problems.append(f"{PROOF}: format {proof.format}; only {FORMAT} is known here")
    if proof.parity.get("ok") is not True:
        contents.problems.append(f"{PROOF}: the parity gate that it records did not pass")
    model = contents.manifest.get("model", {})
    for key, declared in (("modelName", "name"), ("modelVersion", "version")):
        if model and model[key] != proof.recipe.get(declared):
            contents.problems.append(
                f"{MANIFEST}: {key} is {model[key]!r}, {PROOF} says {proof.recipe.get(declared)!r}"
            )
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
