"""The model store as TorchServe would see it, looked through before a server is started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from archive.store import read_model
from recipes.errors import ServeError, VerifyError
from recipes.suggest import suggestion


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

    An archive that `verify` refuses unopened is put aside with the reason: it could stop the whole
    server at its start, and the others can be served. Raises `ServeError` when a name is not in
    the store or nothing is left to serve.
    """
    models: dict[tuple[str, str], StoredModel] = {}
    refused = []
    for path in sorted(store.glob("*.mar")) if store.is_dir() else []:
        try:
            model = _read(path)
        except VerifyError as error:
            refused += [f"{path}: {problem}" for problem in str(error).splitlines()]
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
    """Read one archive, by the rules of `verify`. Raises `VerifyError` for a refused one."""
    if re.search(r"[,=\s]", path.name):
        raise VerifyError(
            "TorchServe cannot be told of a file name with a comma, = or space in it: rename it"
        )
    model = read_model(path)
    return StoredModel(name=model.model_name, version=model.model_version, path=path.absolute())


def _listed(refused: Sequence[str]) -> str:
    return "".join(f"\n  left out: {line}" for line in refused)
