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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.rules.python import MOST_SOURCE, parse
from recipes.errors import PackError
from recipes.regular import read_regular


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One parsed file: the digest of its syntax tree, and what it imports.

    `imports` holds `[level, module, names, required]` as written; an import is not required when
    the file itself catches its failure, or asks which Python or system it runs on before it. The
    digest knows no comments and no formatting.
    """

    digest: str
    imports: list[list[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """The project's files that entry files run, sorted, and the third-party modules they import.

    `required` are those of them that some file requires, at its top or in a function, and
    `missing` the modules of the project, by their dotted names, that are required likewise and
    not there.
    """

    files: dict[str, Source]
    third_party: tuple[str, ...]
    required: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Followed:
    """A file with where its imports lead: to files of the project, and to modules."""

    source: Source
    files: list[str]
    third_party: list[str]
    required: list[str]
    missing: list[str]


class SourceReader:
    """Parses files once: unchanged ones (size, times, inode) come from `cache`.

    A reader looks at each file once in its life: it sees the project as it was then. `given`
    are files that count as the project's although they lie elsewhere, by the paths that they
    have in it; they come before those that lie there.
    """

    def __init__(
        self,
        root: Path,
        cache: dict[str, Any] | None = None,
        given: Mapping[str, Path] | None = None,
    ) -> None:
        self.root = root
        self._given = {} if given is None else given
        self.cache = {} if cache is None else cache
        self.changed = False
        self._followed: dict[str, _Followed] = {}
        self._listed: dict[str, set[str]] = {}
        # What another Python, or an older version of this file, made of a source is not known.
        self._parser = [sys.hexversion, *_stamp(__file__)]

    def read(self, path: str) -> Source:
        """Parse one file of the project; `path` is POSIX and relative to its root."""
        file = self._given.get(path, self.root / path)
        stamp = [*self._parser, *_stamp(file)]
        known = self.cache.get(path)
        if known is not None and known.get("stamp") == stamp:
            return Source(digest=known["digest"], imports=known["imports"])
        source = _parse(file, str(file) if path in self._given else path)
        self.cache[path] = {"stamp": stamp, "digest": source.digest, "imports": source.imports}
        self.changed = True
        return source

    def closure(self, entries: Iterable[str]) -> Closure:
        """Follow the imports of the entry files. Raises `PackError` for a missing file."""
        return self._closure([*entries], [])

    def closure_at_root(self, file: Path) -> Closure:
        """Follow a file, wherever it lies, as if it stood at the root; it is not in `files`."""
        source = _parse(file, str(file))
        if within := [
            f"{'.' * level}{module}"
            for level, module, _, is_required in source.imports
            if level and is_required
        ]:
            raise PackError(
                f"{file}: imports from the package that it is in ({', '.join(within)}), and at the "
                "archive's root there is none: name it as a module, as in package.handler:handle"
            )
        at_root = self._lead(file.name, source)
        return self._closure([*at_root.files], [at_root])

    def _closure(self, waiting: list[str], reached: list[_Followed]) -> Closure:
        files: dict[str, Source] = {}
        while waiting:
            path = waiting.pop()
            if path not in files:
                followed = self._follow(path)
                files[path] = followed.source
                waiting += followed.files
                reached.append(followed)
        return Closure(
            files=dict(sorted(files.items())),
            third_party=_sorted(followed.third_party for followed in reached),
            required=_sorted(followed.required for followed in reached),
            missing=_sorted(followed.missing for followed in reached),
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
        files = self._packages(path)
        third_party, required, missing = list[str](), list[str](), list[str]()
        for level, module, names, is_required in source.imports:
            if level > path.count("/") and not is_required:
                # There is no package to import from, and the file does without it.
                continue
            parts = self._parts(path, level, module)
            # The names may be modules themselves.
            wanted = [parts, *([*parts, name] for name in names)]
            if found := [file for each in wanted if (file := self._file(each))]:
                files += found
            elif level or self._is_ours(parts[0]):
                files += self._packages("/".join([*parts, ""]))
                missing += self._missing(parts, names) if is_required else []
            elif parts[0] not in sys.stdlib_module_names:
                third_party.append(parts[0])
                required += [parts[0]] if is_required else []
        return _Followed(
            source=source, files=files, third_party=third_party, required=required, missing=missing
        )

    def _packages(self, path: str) -> list[str]:
        """Return the `__init__.py` files that run before a module of a package does."""
        folders = path.split("/")[:-1]
        inits = ["/".join([*folders[:n], "__init__.py"]) for n in range(1, len(folders) + 1)]
        return [init for init in inits if self._is_file(init)]

    def _parts(self, path: str, level: int, module: str) -> list[str]:
        """Return the absolute name of what a file imports."""
        base = path.split("/")[:-1]
        if level > len(base):
            shown = self._given.get(path, path)
            raise PackError(f"{shown}: its relative import of {module or '.'} leaves the project")
        above = base[: len(base) - level + 1] if level else []
        return above + [part for part in module.split(".") if part]

    def _is_ours(self, top: str) -> bool:
        # A folder alone is no package of ours: `build/` must not hide a distribution of that name.
        return self._is_file(f"{top}/__init__.py")

    def _missing(self, parts: list[str], names: list[str]) -> Iterator[str]:
        """Yield what is imported of the project and has no file there."""
        if not (self.root / "/".join(parts)).is_dir():
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
            self._listed[folder] = _files_in(f"{self.root}/{folder}")
        return path in self._given or name in self._listed[folder]


def _files_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    # Not there, not a folder, or not for us to look into: nothing can be imported from it.
    except OSError:
        return set()


def _sorted(modules: Iterable[list[str]]) -> tuple[str, ...]:
    return tuple(sorted({module for some in modules for module in some}))


def _stamp(path: str | Path) -> list[int]:
    stat = os.stat(path)  # noqa: PTH116
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _parse(file: Path, shown: str) -> Source:
    try:
        tree = parse(read_regular(file, MOST_SOURCE), shown)
        digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
        return Source(digest=digest, imports=list(_imports(tree)))
    except ValueError as error:
        raise PackError(str(error)) from None
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EFBIG):
            raise
        raise PackError(f"{shown}: {error.strerror}") from None
    except RecursionError:
        raise PackError(f"{shown}: too much in one line to be followed") from None


def _imports(node: ast.AST, required: bool = True) -> Iterator[list[Any]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield [0, alias.name, [], required]
        elif isinstance(child, ast.ImportFrom):
            yield [child.level, child.module or "", [a.name for a in child.names], required]
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for unless in child.orelse:
                yield from _imports(ast.Module(body=[unless], type_ignores=[]), required)
        elif (isinstance(child, ast.If) and _asks_for_machine(child.test)) or (
            isinstance(child, ast.With) and any(_suppresses(item) for item in child.items)
        ):
            yield from _imports(child, required=False)
        elif isinstance(child, ast.Try) and any(_catches(h) for h in child.handlers):
            # What is in `else` runs only where the imports before it went well.
            tried = ast.Module(body=[*child.body, *child.orelse], type_ignores=[])
            for caught in (tried, *child.handlers):
                yield from _imports(caught, required=False)
            yield from _imports(ast.Module(body=child.finalbody, type_ignores=[]), required)
        else:
            yield from _imports(child, required)


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return _is_import_error_in(types)


def _suppresses(item: ast.withitem) -> bool:
    call = item.context_expr
    return (
        isinstance(call, ast.Call)
        and _last_name(call.func) == "suppress"
        and _is_import_error_in(call.args)
    )


def _is_import_error_in(types: list[ast.expr]) -> bool:
    caught = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
    return any(isinstance(kind, ast.Name) and kind.id in caught for kind in types)


def _asks_for_machine(test: ast.expr) -> bool:
    asked = {"sys.version_info", "sys.platform", "os.name"}
    return any(
        isinstance(part, ast.Attribute)
        and isinstance(part.value, ast.Name)
        and f"{part.value.id}.{part.attr}" in asked
        for part in ast.walk(test)
    )


def _is_type_checking(test: ast.expr) -> bool:
    return _last_name(test) == "TYPE_CHECKING"


def _last_name(node: ast.expr) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
