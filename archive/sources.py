"""Which source files a module runs: its imports, followed by reading and never by running.

Keys are made of what is found here, and archives are packed from it, so both agree on what
belongs to a handler. Imports that only type checkers see (`if TYPE_CHECKING:`) do not count.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.errors import PackError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One parsed file: the digest of its syntax tree, and what it imports.

    `imports` holds `[level, module, names]` as written; the digest knows no comments and no
    formatting.
    """

    digest: str
    imports: list[list[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """The project's files that entry files run, sorted, and the third-party modules they import."""

    files: dict[str, Source]
    third_party: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Followed:
    """A file with where its imports lead: files of the project, and third-party modules."""

    source: Source
    files: list[str]
    third_party: list[str]


class SourceReader:
    """Parses files once: unchanged ones (size, times, inode) come from `cache`.

    A reader looks at each file once in its life: it sees the project as it was then.
    """

    def __init__(self, root: Path, cache: dict[str, Any] | None = None) -> None:
        self.root = root
        self.cache = {} if cache is None else cache
        self.changed = False
        self._followed: dict[str, _Followed] = {}
        # What another Python, or an older version of this file, made of a source is not known.
        self._parser = [sys.hexversion, *_stamp(__file__)]

    def read(self, path: str) -> Source:
        """Parse one file of the project; `path` is POSIX and relative to its root."""
        stamp = [*self._parser, *_stamp(self.root / path)]
        known = self.cache.get(path)
        if known is not None and known.get("stamp") == stamp:
            return Source(digest=known["digest"], imports=known["imports"])
        source = _parse(self.root / path, path)
        self.cache[path] = {"stamp": stamp, "digest": source.digest, "imports": source.imports}
        self.changed = True
        return source

    def closure(self, entries: Iterable[str]) -> Closure:
        """Follow the imports of the entry files. Raises `PackError` for a missing file."""
        files: dict[str, Source] = {}
        third_party: set[str] = set()
        waiting = list(entries)
        while waiting:
            path = waiting.pop()
            if path in files:
                continue
            followed = self._follow(path)
            files[path] = followed.source
            waiting += followed.files
            third_party.update(followed.third_party)
        return Closure(files=dict(sorted(files.items())), third_party=tuple(sorted(third_party)))

    def _follow(self, path: str) -> _Followed:
        if path not in self._followed:
            try:
                source = self.read(path)
            except FileNotFoundError:
                raise PackError(f"{path}: no such file in the project") from None
            files, third_party = self._packages(path), []
            for level, module, names in source.imports:
                found, foreign = self._resolve(path, level, module, names)
                files += found
                third_party += foreign
            self._followed[path] = _Followed(source=source, files=files, third_party=third_party)
        return self._followed[path]

    def _packages(self, path: str) -> list[str]:
        """Return the `__init__.py` files that run before a module of a package does."""
        folders = path.split("/")[:-1]
        inits = ["/".join([*folders[:n], "__init__.py"]) for n in range(1, len(folders) + 1)]
        return [init for init in inits if (self.root / init).is_file()]

    def _resolve(
        self, path: str, level: int, module: str, names: list[str]
    ) -> tuple[list[str], list[str]]:
        base = path.split("/")[:-1]
        if level > len(base):
            raise PackError(f"{path}: its relative import of {module or names} leaves the project")
        above = base[: len(base) - level + 1] if level else []
        parts = above + [part for part in module.split(".") if part]
        found = [f for name in ([], *[[n] for n in names]) if (f := self._file([*parts, *name]))]
        if found or level:
            return found, []
        top = parts[0]
        # A folder alone is no package of ours: `build/` must not hide a distribution of that name.
        if top in sys.stdlib_module_names or (self.root / top / "__init__.py").is_file():
            return [], []
        return [], [top]

    def _file(self, parts: list[str]) -> str | None:
        stem = "/".join(parts)
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            # os.path, because a build in which nothing is stale asks this some hundred times.
            if stem and os.path.isfile(f"{self.root}/{candidate}"):  # noqa: PTH113
                return candidate
        return None


def _stamp(path: str | Path) -> list[int]:
    stat = os.stat(path)  # noqa: PTH116
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _parse(file: Path, shown: str) -> Source:
    try:
        tree = ast.parse(file.read_bytes(), filename=shown)
    except (SyntaxError, ValueError) as error:
        raise PackError(f"{shown}: not Python: {error}") from None
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return Source(digest=digest, imports=list(_imports(tree)))


def _imports(node: ast.AST) -> Iterator[list[Any]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield [0, alias.name, []]
        elif isinstance(child, ast.ImportFrom):
            yield [child.level, child.module or "", [a.name for a in child.names]]
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for branch in child.orelse:
                yield from _imports(ast.Module(body=[branch], type_ignores=[]))
        else:
            yield from _imports(child)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"
