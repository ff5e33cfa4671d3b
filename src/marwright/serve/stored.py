"""What of the model store a server is given, looked through before it is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from marwright.archive.store import StoredModel, list_store
from marwright.recipe.errors import ServeError
from marwright.recipe.suggest import suggestion

__all__ = ["Shelf", "StoredModel", "look_through"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """What a model store holds: archives that can be offered to TorchServe, and refused ones.

    `strangers` are no archives, and are not served either.
    """

    models: tuple[StoredModel, ...]
    refused: tuple[str, ...]
    strangers: tuple[str, ...] = ()


def look_through(store: Path, names: Sequence[str] = ()) -> Shelf:
    """List the archives of `store`, or only those of the named models.

    An archive that `verify` refuses unopened is put aside with the reason: it could stop the whole
    server at its start, and the others can be served. Raises `ServeError` when a name is not in
    the store or nothing is left to serve.
    """
    listing = list_store(store)
    refused = [str(one) for one in listing.refused]
    known = sorted({model.name for model in listing.models})
    for name in names:
        if name not in known:
            raise ServeError(
                f"{store}: no archive of {name}{suggestion(name, known)}{_listed(refused)}\n"
                f"`make archive MODEL={name}` builds one."
            )
    chosen = tuple(
        replace(model, path=model.path.absolute())
        for model in listing.models
        if not names or model.name in names
    )
    strangers = [str(one) for one in listing.strangers]
    if not chosen:
        listed = _listed([*refused, *strangers])
        raise ServeError(f"{store}: no archive to serve{listed}\nRun `make archive`.")
    if names:
        # Who asks for one model by name is not asked about another's archive.
        return Shelf(models=chosen, refused=())
    return Shelf(models=chosen, refused=tuple(refused), strangers=tuple(strangers))


def _listed(lines: Sequence[str]) -> str:
    return "".join(f"\n  left out: {line}" for line in lines)
