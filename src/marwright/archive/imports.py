"""What a file imports goes into an archive with it, as the tree that it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marwright.archive.gather import File, Members
from marwright.archive.sources import Closure, SourceReader
from marwright.project import ENGINE, PACKAGE, is_engines


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
    for path in closure.files:
        # Also of what was named: two files of one name are then refused.
        file = reader.place(path) if engine and is_engines(path) else root / path
        if file.is_file():
            members.add(path, file)
    return Followed(root=root, closure=closure)
