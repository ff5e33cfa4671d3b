"""The model store as TorchServe would see it, looked through before a server is started."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.types import MANIFEST
from recipes.errors import ServeError
from recipes.load import suggestion

# Names and versions become part of URLs, log lines and file names.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredModel:
    """One archive of the model store, under the name and version of its manifest."""

    name: str
    version: str
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """What a model store holds: archives that can be offered to TorchServe, and refused ones."""

    models: tuple[StoredModel, ...]
    refused: tuple[str, ...]


def look_through(store: Path, names: Sequence[str] = ()) -> Shelf:
    """List the archives of `store`, or only those of the named models.

    An archive that would stop the whole server at its start is put aside with the reason, so that
    the others can be served. Raises `ServeError` when a name is not in the store or nothing is
    left to serve.
    """
    models: dict[tuple[str, str], StoredModel] = {}
    refused = []
    for path in sorted(store.glob("*.mar")) if store.is_dir() else []:
        try:
            model = _read(path)
        except ValueError as problem:
            refused.append(f"{path}: {problem}")
            continue
        first = models.setdefault((model.name, model.version), model)
        if first is not model:
            refused.append(f"{path}: {model.name} {model.version} is {first.path.name} already")
    known = sorted({model.name for model in models.values()})
    for name in names:
        if name not in known:
            raise ServeError(
                f"{store}: no archive of {name}{suggestion(name, known)}{_listed(refused)}\n"
                f"`make archive MODEL={name}` builds one."
            )
    chosen = tuple(m for m in models.values() if not names or m.name in names)
    if not chosen:
        raise ServeError(f"{store}: no archive to serve{_listed(refused)}\nRun `make archive`.")
    # Who asks for one model by name is not asked about another's archive.
    return Shelf(models=chosen, refused=() if names else tuple(refused))


def _read(path: Path) -> StoredModel:
    """Read one archive. Raises `ValueError` for what would stop the server, or has no URL."""
    if re.search(r"[,=\s]", path.name):
        raise ValueError("TorchServe cannot be told of a file name with a comma, = or space in it")
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not _is_utf8(member):
                    raise ValueError(f"the member {member.filename!r} has a name that is not UTF-8")
            model = _model(archive)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"not a readable archive: {error}") from None
    for key in ("modelName", "modelVersion"):
        value = model.get(key)
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise ValueError(f"{MANIFEST}: model.{key} is {value!r}, which no URL can carry")
    return StoredModel(name=model["modelName"], version=model["modelVersion"], path=path.absolute())


def _model(archive: zipfile.ZipFile) -> dict[str, Any]:
    """The manifest's description of the model, with its configuration file looked at."""
    import yaml

    try:
        manifest = json.loads(archive.read(MANIFEST))
    except KeyError:
        raise ValueError(f"{MANIFEST} is missing") from None
    except ValueError as error:
        raise ValueError(f"{MANIFEST} is not JSON: {error}") from None
    model = manifest.get("model") if isinstance(manifest, dict) else None
    if not isinstance(model, dict):
        raise ValueError(f"{MANIFEST} does not describe a model")
    if config := model.get("configFile"):
        try:
            options = yaml.safe_load(archive.read(config))
        except (KeyError, yaml.YAMLError) as error:
            raise ValueError(f"{config}: not there or not YAML: {error}") from None
        if not isinstance(options, dict):
            raise ValueError(f"{config}: must be `key: value` lines")
    return model


def _is_utf8(member: zipfile.ZipInfo) -> bool:
    if member.flag_bits & 0x800:
        return True
    try:
        # Python takes an unmarked name for cp437, Java for UTF-8.
        member.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return False
    return True


def _listed(refused: Sequence[str]) -> str:
    return "".join(f"\n  left out: {line}" for line in refused)
