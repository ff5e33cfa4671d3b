"""Which source files a module runs: its imports, followed by reading and never by running.

Keys are made of what is found here, and archives are packed from it, so both agree on what
belongs to a handler. Imports that only type checkers see (`if TYPE_CHECKING:`) do not count.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from marwright.archive.rules import imports as rules
from marwright.archive.rules.imports import CERTAIN, HANDLED, MAYBE, Import, find_imports
from marwright.archive.rules.python import MOST_SOURCE, parse
from marwright.project import COMMANDS, OFFERED, PACKAGE
from marwright.recipe.errors import PackError
from marwright.recipe.regular import read_regular


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One parsed file: how messages call it, its syntax tree's digest, and what it imports.

    The digest knows no comments and no formatting. `moves` and `unnamed` are those of
    `marwright.archive.rules.imports.Found`; `problem` says why it is not Python.
    """

    shown: str
    digest: str
    imports: list[Import]
    moves: int = 0
    unnamed: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An import that leads to no file of the project, and to no module of Python.

    `module` is absolute, `line` is in `file`, and `place` counts the imports of it. `is_ours` says
    that its package is the project's, so that there is nowhere else to look.
    """

    file: str
    line: int
    place: int
    module: str
    names: tuple[str, ...]
    certainty: int
    when: tuple[Any, ...]
    is_ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """The project's files that entry files run, sorted, and the third-party modules they import.

    `wanted` are the imports that lead out of it, in the order of files and lines; `own` are
    sources that were followed and are not in `files`.
    """

    files: dict[str, Source]
    third_party: tuple[str, ...]
    wanted: tuple[Wanted, ...]
    own: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Followed:
    """A file with where its imports lead: to files of the project, how surely, and out of it."""

    source: Source
    files: list[tuple[str, int]]
    third_party: list[str]
    wanted: list[Wanted]


class SourceReader:
    """Parses files once: unchanged ones (size, times, inode) come from `cache`.

    A reader looks at each file once in its life: it sees the project as it was then. `given`
    are files that count as the project's although they lie elsewhere, by the paths that they
    have in it; they come before those that lie there. One that is not `strict` leaves to the
    caller what is not Python, and relative imports that lead nowhere, where they may never run,
    and follows `import_module("name")` too. With an `engine`, files below `marwright/` lie there.
    Messages show files below `shown`. More bytes of source than `most` are refused.
    """

    def __init__(
        self,
        root: Path,
        cache: dict[str, Any] | None = None,
        given: Mapping[str, Path] | None = None,
        *,
        strict: bool = True,
        shown: Path = Path(),
        most: int = sys.maxsize,
        engine: Path | None = None,
    ) -> None:
        self.root = root
        self._engine = engine
        self._below, self._left = shown, most
        self._given = dict(given or {})
        if engine is not None:
            # What the package offers is followed to where it is defined, name by name.
            self._given.setdefault(
                f"{PACKAGE}__init__.py", engine / PACKAGE / "runtime/__init__.py"
            )
        self._strict = strict
        self.cache = {} if cache is None else cache
        self.changed = False
        self._followed: dict[str, _Followed] = {}
        self._listed: dict[str, set[str]] = {}
        # What another Python, or an older version of these rules, made of a source is not known.
        self._parser = [sys.hexversion, *_stamp(__file__), *_stamp(rules.__file__)]

    def read(self, path: str) -> Source:
        """Parse one file of the project; `path` is POSIX and relative to its root."""
        file = self.place(path)
        stamp = [*self._parser, *_stamp(file)]
        self._left -= file.stat().st_size
        if self._left < 0:
            raise PackError(f"{self._shown(path)}: there is too much source to follow its imports")
        known = self.cache.get(path)
        if known is not None and known.get("stamp") == stamp:
            # Where modules are found is not asked of what has a key.
            imports = [Import(*row) for row in known["imports"]]
            return Source(shown=path, digest=known["digest"], imports=imports)
        source = _parse(file, self._shown(path))
        if not source.problem:
            self.cache[path] = {"stamp": stamp, "digest": source.digest, "imports": source.imports}
            self.changed = True
        return source

    def place(self, path: str) -> Path:
        """Return where a file lies that has this path in the project, or in the engine."""
        return self._given.get(path) or self._folder(path) / path

    def _folder(self, path: str) -> Path:
        if self._engine is not None and f"{path}/".startswith(PACKAGE):
            return self._engine
        return self.root

    def _shown(self, path: str) -> str:
        return str(self._given.get(path, self._below / path))

    def closure(self, entries: Iterable[str]) -> Closure:
        """Follow the imports of the entry files.

        Raises `PackError` for a missing file, and for one that is not Python.
        """
        return self._closure([*entries], [])

    def closure_at_root(self, file: Path) -> Closure:
        """Follow a file, wherever it lies, as if it stood at the root; it is not in `files`."""
        source = _parse(file, str(file))
        if source.problem:
            raise PackError(source.problem)
        if within := [
            f"{'.' * one.level}{one.module}"
            for one in source.imports
            if one.level and one.certainty == CERTAIN and not one.when
        ]:
            raise PackError(
                f"{file}: imports from the package that it is in ({', '.join(within)}), and at the "
                "archive's root there is none: name it as a module, as in package.handler:handle"
            )
        return self._closure([], [self._lead(file.name, source)])

    def _closure(self, entries: list[str], own: list[_Followed]) -> Closure:
        files: dict[str, Source] = {}
        reached = [(one, CERTAIN) for one in own]
        waiting: dict[int, list[str]] = {HANDLED: [], MAYBE: [], CERTAIN: entries}
        for one in own:
            for path, certainty in one.files:
                waiting[certainty].append(path)
        # What surely runs first, so that each file is met as surely as it ever runs.
        while rank := max((r for r, paths in waiting.items() if paths), default=-1) + 1:
            path = waiting[rank - 1].pop()
            if path in files:
                continue
            one = self._follow(path)
            if one.source.problem and (self._strict or rank - 1 == CERTAIN):
                raise PackError(one.source.problem)
            files[path] = one.source
            reached.append((one, rank - 1))
            for inner, certainty in one.files:
                waiting[min(certainty, rank - 1)].append(inner)
        wanted = (
            replace(each, certainty=min(each.certainty, certainty))
            for one, certainty in reached
            for each in one.wanted
        )
        return Closure(
            files=dict(sorted(files.items())),
            third_party=tuple(sorted({name for one, _ in reached for name in one.third_party})),
            wanted=tuple(sorted(wanted, key=lambda one: (one.file, one.place))),
            own=tuple(one.source for one in own),
        )

    def _follow(self, path: str) -> _Followed:
        if path not in self._followed:
            try:
                source = self.read(path)
            except FileNotFoundError:
                raise PackError(f"{path}: no such file in the project") from None
            self._followed[path] = self._lead(path, source)
        return self._followed[path]

    def _lead(self, path: str, source: Source) -> _Followed:
        """Find where a file's imports lead; `path` is where it stands in the project."""
        files = [(init, CERTAIN) for init in self._packages(path)]
        third_party, wanted = list[str](), list[Wanted]()
        for place, one in enumerate(source.imports):
            if one.by_name and self._strict:
                # Which is how a project keeps what changes nothing out of its keys.
                continue
            # Of an import that stands in for another one, or follows one, nobody knows yet.
            certainty = min(one.certainty, MAYBE) if one.when else one.certainty
            if one.level > path.count("/"):
                # There is no package to import from; the file may do without it.
                name = f"{'.' * one.level}{one.module}"
                if certainty == CERTAIN or (self._strict and certainty == MAYBE):
                    raise PackError(
                        f"{source.shown}: its relative import of {one.module or '.'} leaves the "
                        "project"
                    )
                wanted.append(_wanted(source, place, name, is_ours=True))
                continue
            parts = self._parts(path, one.level, one.module)
            # The names may be modules themselves.
            candidates = [parts, *(file for name in one.names for file in self._named(parts, name))]
            if found := [file for each in candidates if (file := self._file(each))]:
                files += [(file, certainty) for file in found]
                continue
            is_ours = bool(one.level) or self._is_ours(parts[0])
            if is_ours:
                files += [(init, certainty) for init in self._packages("/".join([*parts, ""]))]
                missing = [*self._missing(parts, one.names)]
            elif parts[0] not in sys.stdlib_module_names:
                third_party.append(parts[0])
                missing = [".".join(parts)]
            else:
                missing = []
            wanted += [_wanted(source, place, name, is_ours=is_ours) for name in missing]
        return _Followed(source=source, files=files, third_party=third_party, wanted=wanted)

    def _packages(self, path: str) -> list[str]:
        """Return the `__init__.py` files that run before a module of a package does."""
        folders = path.split("/")[:-1]
        inits = ["/".join([*folders[:n], "__init__.py"]) for n in range(1, len(folders) + 1)]
        return [init for init in inits if self._is_file(init)]

    def _parts(self, path: str, level: int, module: str) -> list[str]:
        """Return the absolute name of what a file imports."""
        base = path.split("/")[:-1]
        above = base[: len(base) - level + 1] if level else []
        return above + [part for part in module.split(".") if part]

    def _named(self, parts: list[str], name: str) -> list[list[str]]:
        """Return what may define a name that is imported of a module, each as a dotted name."""
        if self._engine is None or f"{'/'.join(parts)}/" != PACKAGE:
            return [[*parts, name]]
        # What starts a command makes nothing of what is packed or trained.
        offered = {key: at for key, at in OFFERED.items() if not at.startswith(COMMANDS)}
        if name == "*":
            return [module.partition(":")[0].split(".") for module in offered.values()]
        if name in OFFERED and name not in offered:
            return [parts]
        return [offered.get(name, f"{parts[0]}.{name}").partition(":")[0].split(".")]

    def _is_ours(self, top: str) -> bool:
        # A folder alone is no package of ours: `build/` must not hide a distribution of that name.
        return self._is_file(f"{top}/__init__.py")

    def _missing(self, parts: list[str], names: list[str]) -> Iterator[str]:
        """Yield what is imported of the project and has no file there."""
        path = "/".join(parts)
        if not (self._folder(path) / path).is_dir():
            yield ".".join(parts)
        else:
            # Without an `__init__.py` there is nothing in a folder but modules.
            yield from (".".join([*parts, name]) for name in names if name != "*")

    def _file(self, parts: list[str]) -> str | None:
        stem = "/".join(parts)
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            if stem and self._is_file(candidate):
                return candidate
        return None

    def _is_file(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        # A build in which nothing is stale asks this thousands of times, of some twenty folders.
        if folder not in self._listed:
            self._listed[folder] = _files_in(f"{self._folder(folder)}/{folder}")
        return path in self._given or name in self._listed[folder]


def _wanted(source: Source, place: int, module: str, *, is_ours: bool) -> Wanted:
    one = source.imports[place]
    return Wanted(
        file=source.shown,
        line=one.line,
        place=place,
        module=module,
        # Of ours, they are in the module's name already.
        names=() if is_ours else tuple(one.names),
        certainty=one.certainty,
        when=tuple(map(tuple, one.when)),
        is_ours=is_ours,
    )


def _files_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    # Not there, not a folder, or not for us to look into: nothing can be imported from it.
    except OSError:
        return set()


def _stamp(path: str | Path) -> list[int]:
    stat = os.stat(path)  # noqa: PTH116
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _parse(file: Path, shown: str) -> Source:
    try:
        tree = parse(read_regular(file, MOST_SOURCE), shown)
        digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
        found = find_imports(tree)
    except ValueError as error:
        return Source(shown=shown, digest="", imports=[], problem=str(error))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EFBIG):
            raise
        return Source(shown=shown, digest="", imports=[], problem=f"{shown}: {error.strerror}")
    except RecursionError:
        problem = f"{shown}: too much in one line to be followed"
        return Source(shown=shown, digest="", imports=[], problem=problem)
    return Source(
        shown=shown,
        digest=digest,
        imports=found.imports,
        moves=found.moves,
        unnamed=tuple(found.unnamed),
    )
