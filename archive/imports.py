"""What a file imports goes into an archive with it, as the tree that it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from archive.gather import File, Members
from archive.sources import Closure, SourceReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A source file that was named, the folder that its imports start from, and where they lead."""

    file: Path
    root: Path
    closure: Closure

    def importer(self, module: str) -> str:
        """Return the file that requires a module."""
        for path, source in self.closure.files.items():
            for level, name, _, is_required in source.imports:
                if is_required and not level and name.partition(".")[0] == module:
                    return path
        # It is not among the others where it is packed under another path.
        return str(self.file)


def follow(members: Members, entry: Path | str, source_root: File | None) -> Followed:
    """Take what a file imports, as the tree that it is: a file at the archive's root, or a path."""
    if isinstance(entry, Path):
        root = Path(source_root or entry.parent)
        closure = SourceReader(root, given=members.files).closure_at_root(entry)
    else:
        root = Path(source_root or ".")
        closure = SourceReader(root, given=members.files).closure([entry])
    for path in closure.files:
        # Also of what was named: two files of one name are then refused.
        if (file := root / path).is_file():
            members.add(path, file)
    return Followed(file=Path(entry), root=root, closure=closure)
