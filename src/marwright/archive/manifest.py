"""`MAR-INF/MANIFEST.json`: what TorchServe itself reads of an archive, written and read here."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from marwright.archive.names import printable
from marwright.archive.types import from_json, to_json

ARCHIVER = "marwright-0.1"
Runtime = Literal["python", "python3", "LSP"]
# Names and versions become part of URLs, log lines and file names; the name's rule is
# torch-model-archiver's own.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# What others may have written: all of ASCII that a URL can carry as it is.
_SHOWN = 5
_IN_URL = re.compile(r'[!"$&-.0->@-~]+')


class ManifestModel(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`model` in the manifest; files are named as the archive's members are."""

    model_name: str
    model_version: str
    handler: str
    serialized_file: str | None = None
    model_file: str | None = None
    requirements_file: str | None = None
    config_file: str | None = None

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield the key and the name of each file that must be in the archive."""
        for key, name in (
            ("serializedFile", self.serialized_file),
            ("modelFile", self.model_file),
            ("requirementsFile", self.requirements_file),
            ("configFile", self.config_file),
        ):
            if name is not None:
                yield key, name


class Manifest(Struct, frozen=True, kw_only=True, rename="camel"):
    """The keys of torch-model-archiver 0.12; TorchServe ignores others."""

    model: ManifestModel
    runtime: Runtime
    created_on: str = ""
    archiver_version: str = ""


def write_manifest(model: ManifestModel, date: datetime, runtime: Runtime = "python") -> bytes:
    """Return the manifest's bytes."""
    created = created_on(date)
    return to_json(
        Manifest(model=model, runtime=runtime, created_on=created, archiver_version=ARCHIVER)
    )


def created_on(date: datetime) -> str:
    """Return `createdOn` of a manifest for the date of all members, never the clock's."""
    return date.strftime("%d/%m/%Y %H:%M:%S")


def _twice(data: bytes) -> Iterator[str]:
    """Name keys that stand twice in one object: readers differ in which of them they take."""
    found = dict[str, None]()

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in items)
        found.update((key, None) for key, count in counts.items() if count > 1)
        return dict(items)

    json.loads(data, object_pairs_hook=pairs)
    for key in [*found][:_SHOWN]:
        yield f"{printable(key)!r} stands in it twice, and readers differ in which counts: keep one"


def read_manifest(data: bytes, members: Collection[str]) -> tuple[Manifest | None, list[str]]:
    """Read a manifest strictly; returns it, if it is one at all, and what is wrong with it."""
    try:
        manifest = from_json(data, Manifest)
        # msgspec passes over what it has no use for, whatever it is made of.
        problems = [*_twice(data)]
    except UnicodeDecodeError:
        return None, ["not UTF-8"]
    except (ValueError, RecursionError) as error:
        return None, [str(error)]
    model = manifest.model
    for key, value in (("modelName", model.model_name), ("modelVersion", model.model_version)):
        if not _IN_URL.fullmatch(value):
            problems.append(f"{key} is {value!r}, which no URL can carry")
    if not model.handler:
        problems.append("handler is empty")
    for key, name in model.files():
        if name not in members:
            problems.append(f"{key} is {name!r}, which is not in the archive")
    return manifest, problems
