"""Content keys: a step is stale when something that its outputs are a function of has changed.

A key is the SHA-256 of its parts, and the parts are kept, so that `explain` can say which one
changed. No part is a time: mtimes lie after a checkout.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from marwright.archive.sources import SourceReader
from marwright.archive.types import read_json
from marwright.files import write_bytes
from marwright.pipeline.data_files import DataFiles
from marwright.pipeline.isa import level_asked_for
from marwright.pipeline.layout import Layout
from marwright.pipeline.step import Step
from marwright.project import ENGINE
from marwright.recipe.errors import MarwrightError
from marwright.recipe.extras import DISTRIBUTIONS
from marwright.recipe.types import Recipe, canonical

Parts = dict[str, Any]


def digest(parts: Parts) -> str:
    """Return the key of some parts: the SHA-256 of their canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


class KeyMaker:
    """Makes the parts of keys of the project as it is now.

    Reads each source file and the installed versions once. What was parsed and hashed is kept in
    `build/seen.json` between runs; losing it costs time only.
    """

    def __init__(self, layout: Layout) -> None:
        self._root = layout.root
        self._cache_file = layout.root / layout.build / "seen.json"
        caches = _read_cache(self._cache_file)
        self._sources = SourceReader(layout.root, caches.sources, engine=ENGINE)
        self._data = DataFiles(layout.root, caches.data)
        self._versions = installed_versions()

    def save_cache(self) -> None:
        """Keep what was parsed for the next run."""
        if self._sources.changed or self._data.changed:
            seen = _Seen(sources=self._sources.cache, data=self._data.cache)
            # It is worth some time and no more: a disk that is full or read-only does without.
            with suppress(OSError):
                write_bytes(self._cache_file, msgspec.json.encode(seen))

    def parts(self, step: Step, recipe: Recipe, inputs: Mapping[str, str]) -> Parts:
        """Return what a step's key is made of; `inputs` maps file names to SHA-256.

        Raises `PackError` for a source file that is missing or not Python.
        """
        parts: Parts = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
        declared = canonical(recipe)
        for section in step.sections:
            found = _flat(recipe.key(section), declared)
            parts |= {f"recipe {k}": v for k, v in found.items()}
        parts |= {f"input {name}": sha for name, sha in inputs.items()}
        run = self._sources.closure([f"{step.module.replace('.', '/')}.py", *step.sources(recipe)])
        parts |= {f"source {path}": source.digest for path, source in run.files.items()}
        packed = self._sources.closure(step.packed(recipe))
        for path in packed.files:
            content = self._sources.place(path).read_bytes()
            parts[f"packed {path}"] = hashlib.sha256(content).hexdigest()
        for name in {*run.third_party, *packed.third_party, *step.packages}:
            distribution = self._distribution(name)
            parts[f"package {distribution}"] = self._versions.get(distribution, "not installed")
        for path in step.committed(recipe):
            there = (self._root / path).exists()
            parts[f"file {path}"] = self._data.digest(path) if there else "not there"
        if step.reads_data:
            parts |= {f"data {path}": self._data.digest(path) for path in recipe.data.read_files}
        if step.on_device:
            parts["device"] = device_class(recipe.training.device)
        return parts

    def _distribution(self, module: str) -> str:
        """Return the normalised name of what must be installed for a module to be there."""
        name = DISTRIBUTIONS.get(module, module).replace("_", "-").lower()
        if name in self._versions:
            return name
        return next(iter(_providers().get(module, [name]))).replace("_", "-").lower()


class _Seen(msgspec.Struct):
    """What was parsed and hashed before, by path."""

    sources: dict[str, dict[str, Any]] = {}
    data: dict[str, dict[str, Any]] = {}


def _read_cache(path: Path) -> _Seen:
    return read_json(path, _Seen) or _Seen()


def _flat(section: str, declared: dict[str, Any]) -> dict[str, Any]:
    """Return the leaves of `section` or `section.key` by their dotted names."""
    value: Any = declared
    for name in section.split("."):
        value = value[name]
    return _leaves(section, value)


def _leaves(name: str, value: Any) -> dict[str, Any]:
    # An empty table is one: what is packed shows it.
    if not isinstance(value, dict) or not value:
        return {name: value}
    leaves: dict[str, Any] = {}
    for inner in value:
        leaves |= _leaves(f"{name}.{inner}", value[inner])
    return leaves


def device_class(wanted: str) -> str:
    """Return what kind of machine computes, without importing torch: `x86_64+cuda`, …

    `wanted` is the recipe's `[fit] device`. The processor's own instruction set is not part of it:
    archives of one class of processor are as good on another, and only their last bits differ.
    """
    machine = "/".join(filter(None, (platform.machine(), level_asked_for())))
    if wanted == "cpu":
        return machine
    has_gpu = Path("/proc/driver/nvidia/version").exists()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    return machine + ("+cuda" if has_gpu and not hidden else "")


@cache
def _providers() -> Mapping[str, list[str]]:
    """Return which distributions each module comes from, of those that are called otherwise.

    Slow to import and slow to ask.
    """
    from importlib.metadata import packages_distributions

    return packages_distributions()


def installed_versions() -> dict[str, str]:
    """Return the installed distributions' versions by normalised name.

    Read from the names of their metadata folders: importlib.metadata takes longer to import than
    a whole build in which nothing is stale may last.
    """
    versions: dict[str, str] = {}
    for folder in sys.path:
        if folder.endswith("site-packages") and os.path.isdir(folder):  # noqa: PTH112
            for entry in os.listdir(folder):  # noqa: PTH208
                if entry.endswith(".dist-info"):
                    name, _, version = entry.removesuffix(".dist-info").rpartition("-")
                    versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    if not versions:
        raise MarwrightError("no installed packages found; run `make setup`")
    return versions
