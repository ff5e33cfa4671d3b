"""What a file imports goes into an archive with it, as the tree that it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marwright.archive.gather import File, Members
from marwright.archive.sources import Closure, SourceReader
from marwright.project import ENGINE, PACKAGE, is_engines
from marwright.recipe.errors import PackError

_SHIPPED = (f"{PACKAGE}runtime/", f"{PACKAGE}__init__.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Where the imports of a file that was named lead, and the folder that they start from."""

    root: Path
    closure: Closure


def follow(members: Members, entry: Path | str, source_root: File | None) -> Followed:
    """Take what a file imports, as the tree that it is: a file at the archive's root, or a path."""
    at_root = isinstance(entry, Path)
    root = Path(source_root or (entry.parent if isinstance(entry, Path) else "."))
    # A handler may be written with our runtime, which no server has: that is packed with it.
    engine = None if (root / PACKAGE).is_dir() else ENGINE
    reader = SourceReader(root, given=members.files, strict=False, shown=root, engine=engine)
    closure = reader.closure_at_root(Path(entry)) if at_root else reader.closure([str(entry)])
    if engine:
        require_runtime_only(closure)
    for path in closure.files:
        # Also of what was named: two files of one name are then refused.
        file = reader.place(path) if engine and is_engines(path) else root / path
        if file.is_file():
            members.add(path, file)
    return Followed(root=root, closure=closure)


def require_runtime_only(closure: Closure) -> None:
    """Raise `PackError` where a handler would take more of the engine along than what is for it."""
    if all(path.startswith(_SHIPPED) or not is_engines(path) for path in closure.files):
        return
    theirs = [*closure.own, *(s for path, s in closure.files.items() if not is_engines(path))]
    for source in theirs:
        for one in source.imports:
            names = [one.module, *(f"{one.module}.{name}" for name in one.names)]
            wrong = [name for name in names if f"{name}.".startswith("marwright.")]
            wrong = [name for name in wrong if not f"{name}.".startswith("marwright.runtime.")]
            if not one.level and wrong and wrong != ["marwright"]:
                raise PackError(
                    f"{source.shown}:{one.line}: imports {wrong[-1]}, and of marwright only "
                    "marwright.runtime ships in archives: leave it out"
                )
