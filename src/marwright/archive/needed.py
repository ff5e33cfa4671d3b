"""Which modules an archive's code needs from outside, and whether they will be there.

An import is refused only where it is certain to fail: it runs whenever its module does, nothing
changes where modules are found, and nothing that the requirements name may bring it. Where that
cannot be known, it is a note with the file and the line.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from enum import Enum
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path, PurePosixPath

from marwright.archive.imports import Followed
from marwright.archive.manifest import ManifestModel
from marwright.archive.requirements import (
    Requirements,
    member_reader,
    normalised,
    read_requirements,
)
from marwright.archive.rules.handler import parse_handler
from marwright.archive.rules.imports import CERTAIN, HANDLED
from marwright.archive.sources import Source, SourceReader, Wanted
from marwright.project import PACKAGE
from marwright.recipe.errors import PackError

_COMPILED = (*importlib.machinery.EXTENSION_SUFFIXES, ".so", ".pyd")
# A worker of TorchServe runs on these.
_SERVER = frozenset({"ts", "torch"})
# In bytes, of an archive that anybody may have made.
_MOST_SOURCE, _MOST_REQUIREMENTS = 512 << 10, 64 << 10
_MOST_IMPORTS, _MOST_NOTES, _MOST_NAMED = 2000, 20, 3


class _Place(Enum):
    """Where a module is, as far as that can be told without running anything."""

    THERE = "there"
    UNSURE = "unsure"
    NOWHERE = "nowhere"


def check_imports(
    followed: Iterable[Followed],
    members: Collection[str],
    requirements: Requirements | None,
    provided: Iterable[str],
    *,
    installs: bool = True,
) -> list[str]:
    """Return notes on imports that may fail where the archive runs.

    `members` are the names of all that is packed, and `provided` names what the server has.
    `installs` says whether it takes a file for pip at all. Raises `PackError` for imports that
    are certain to fail.
    """
    check = _Check(members, requirements, provided, installs=installs)
    for one in followed:
        check.look_at(one)
    if check.problems:
        raise PackError("\n".join(dict.fromkeys(check.problems)))
    return [*dict.fromkeys(check.notes), *_hiding(members)]


def import_notes(folder: Path, model: ManifestModel) -> list[str]:
    """Return notes on imports of an unpacked archive that may fail when it is asked.

    Those that run when the handler is loaded are left to its loading.
    """
    members = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    requirements = _required(folder, model.requirements_file, members)
    check = _Check(members, requirements, (), installs=requirements is not None)
    reader = SourceReader(folder, strict=False, most=_MOST_SOURCE)
    named = (parse_handler(model.handler).file, model.model_file)
    entries = [name for name in named if name in members]
    try:
        closure = reader.closure(entries)
    except PackError as error:
        return [f"imports were not followed: {error}"]
    if len(closure.wanted) > _MOST_IMPORTS:
        return [f"imports were not looked for: there are {len(closure.wanted)} of them"]
    check.look_at(Followed(root=Path(), closure=closure))
    if requirements is not None:
        check.notes += requirements.problems + requirements.notes
    notes = [*dict.fromkeys(check.notes), *_hiding(members)]
    more = [f"and {len(notes) - _MOST_NOTES} more of the kind"] if notes[_MOST_NOTES:] else []
    return notes[:_MOST_NOTES] + more


def _required(folder: Path, name: str | None, members: Collection[str]) -> Requirements | None:
    read = member_reader({member: folder / member for member in members}, _MOST_REQUIREMENTS)
    data = None if name is None else read(name)
    return None if name is None or data is None else read_requirements(data, name, read)


class _Check:
    """Holds imports against what is packed, installed, required and provided."""

    def __init__(
        self,
        members: Collection[str],
        requirements: Requirements | None,
        provided: Iterable[str],
        *,
        installs: bool,
    ) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._packed = _Modules(members)
        self._installed = cache(_installed)
        self._requirements = requirements or Requirements(shown="a --requirements-file")
        self._known = {*self._requirements.names, *map(normalised, [*provided, *_SERVER])}
        self._nor = f" nor in {self._requirements.shown}" if installs else ""

    def look_at(self, one: Followed) -> None:
        """Take the notes and problems of a file that was followed."""
        sources = [*one.closure.own, *one.closure.files.values()]
        moves = next((f"{source.shown}:{source.moves}" for source in sources if source.moves), "")
        self.notes += _unfollowed(sources)
        missing: defaultdict[str, list[int]] = defaultdict(list)
        noted: set[str] = set()
        for wanted in one.closure.wanted:
            place, module = self._place(wanted, searches=bool(moves))
            if place is _Place.THERE:
                continue
            before = missing[wanted.file]
            before.append(wanted.place)
            # In the order of places, so that it can be searched.
            runs = all(
                (bisect_left(before, first) < bisect_left(before, stop)) == one_missing
                for first, stop, one_missing in wanted.when
            )
            if not runs or wanted.certainty == HANDLED:
                continue
            why = f"; {moves} changes where modules are found" if moves else self._may_bring()
            if place is _Place.NOWHERE and wanted.certainty == CERTAIN and not why:
                self.problems.append(self._refusal(wanted, module, one.root))
            elif module not in noted:
                noted.add(module)
                self.notes.append(self._note(wanted, place, module, why))

    def _may_bring(self) -> str:
        """Say that something is installed of which nobody here knows what it holds."""
        unknown = self._requirements.unknown
        if not unknown:
            return ""
        names = ", ".join(unknown[:_MOST_NAMED])
        more = f" and {len(unknown) - _MOST_NAMED} more" if unknown[_MOST_NAMED:] else ""
        return f"; {names}{more} in {self._requirements.shown} may bring it"

    def _place(self, wanted: Wanted, *, searches: bool) -> tuple[_Place, str]:
        """Tell where a module is, and of what is not there how it is called in full."""
        module = wanted.module
        top = module.partition(".")[0]
        if self._packed.has(module, anywhere=searches):
            return _Place.THERE, module
        if wanted.is_ours:
            return _Place.NOWHERE, module
        if normalised(top) in self._known or normalised(module) in self._known:
            return _Place.THERE, module
        if self._packed.has(top, anywhere=False):
            return _Place.UNSURE, module
        return self._installed(module, wanted.names)

    def _refusal(self, wanted: Wanted, module: str, root: Path) -> str:
        where = f"{wanted.file}:{wanted.line}"
        if wanted.is_ours:
            return (
                f"{where}: needs {module}, and there is no such module in {root}; name what "
                "is compiled or made by a build with --extra-trees"
            )
        stem = root / module.replace(".", "/")
        if compiled := next(stem.parent.glob(f"{stem.name}.*so"), None):
            return f"{where}: imports {module}, which is compiled: --extra-files {compiled}"
        return (
            f"{where}: imports {module}, which is neither in {root} nor installed here"
            f"{self._nor}: if it is yours, name the folder that it is in with --source-root; if "
            f"the server has it, --provided {module.partition('.')[0]}"
        )

    def _note(self, wanted: Wanted, place: _Place, module: str, why: str) -> str:
        where = f"{wanted.file}:{wanted.line}"
        if place is _Place.UNSURE:
            return f"{where}: may fail: nothing that is called {module} was found in its package"
        return (
            f"{where}: may fail: imports {module}, which is neither packed nor installed here"
            f"{self._nor}{why}"
        )


def _unfollowed(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.problem:
            yield f"{source.problem}; it may never be imported"
        if source.unnamed:
            yield (
                f"{source.shown}:{source.unnamed[0]}: imports a module whose name is made at run "
                "time: name what it may be with --extra-files or --extra-trees"
            )


class _Modules:
    """The modules that are packed, as source, compiled, or as folders."""

    def __init__(self, members: Collection[str]) -> None:
        self._paths: set[str] = set()
        for name in members:
            path = PurePosixPath(name)
            self._paths.update(map(str, path.parents))
            for suffix in (".py", *_COMPILED):
                if name.endswith(suffix):
                    self._paths.add(name.removesuffix(suffix))
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for found in self._paths:
            self._by_name[found.rpartition("/")[2]].append(f"/{found}")

    def has(self, module: str, *, anywhere: bool) -> bool:
        """Whether a module is packed: at the root, or wherever a folder may be on the path."""
        path = module.replace(".", "/")
        found = self._by_name[path.rpartition("/")[2]] if anywhere else []
        return path in self._paths or any(each.endswith(f"/{path}") for each in found)


def _hiding(members: Collection[str]) -> Iterator[str]:
    """Say which modules of the server lose their place to what stands at the archive's root."""
    tops = {name.removesuffix(".py").removesuffix("/__init__"): name
            for name in members if name.endswith(".py")}  # fmt: skip
    for module, name in sorted(tops.items()):
        if "/" not in module and module not in sys.stdlib_module_names and _found(module):
            yield f"{name}: hides the {module} that is installed here, from all that imports it"


def _installed(module: str, names: tuple[str, ...]) -> tuple[_Place, str]:
    """Tell where a module is in this environment; `names` are what is imported from it."""
    parts = module.split(".")
    spec = _found(parts[0])
    if spec is None:
        return _Place.NOWHERE, module
    for n in range(2, len(parts) + 1):
        name = ".".join(parts[:n])
        if name in sys.modules:
            return _Place.THERE, module
        inner = PathFinder.find_spec(name, _folders(spec))
        if inner is None:
            # Without an `__init__.py` there is nothing in a package but its files.
            return (_Place.NOWHERE if _is_namespace(spec) else _Place.UNSURE), name
        spec = inner
    for name in names:
        full = f"{module}.{name}"
        if name != "*" and _is_namespace(spec) and not PathFinder.find_spec(full, _folders(spec)):
            return _Place.NOWHERE, full
    return _Place.THERE, module


def _folders(spec: ModuleSpec) -> list[str]:
    # The list of a namespace asks its parent, which nobody imported.
    locations = spec.submodule_search_locations or []
    return list(getattr(locations, "_path", locations))


def _is_namespace(spec: ModuleSpec) -> bool:
    return spec.origin is None and spec.submodule_search_locations is not None


def _found(module: str) -> ModuleSpec | None:
    """Find a top-level module in this environment, with nothing that only this shell adds."""
    if module == PACKAGE.rstrip("/"):
        return None  # installed here, because it packs; no server has it
    # The working folder and PYTHONPATH do not go to a server.
    shell = [Path.cwd(), *map(Path, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    ours = {path.resolve() for path in shell}
    folders = [path for path in sys.path if path and Path(path).resolve() not in ours]
    if spec := PathFinder.find_spec(module, folders):
        return spec
    # What is installed for editing may have a finder of its own.
    finders = [f for f in sys.meta_path if getattr(f, "__module__", "").startswith("__editable__")]
    found = (finder.find_spec(module, None) for finder in finders)
    return next((spec for spec in found if spec is not None), None)
