"""The content of the files that a data set reads, as a key sees it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from archive.files import sha256_file
from recipes.errors import DataError


class DataFiles:
    """Digests of files and folders; a file that `stat` finds untouched is not read again."""

    def __init__(self, root: Path, cache: dict[str, Any]) -> None:
        self.cache = cache
        self.changed = False
        self._root = root

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file, or of the names and digests of all files in a folder.

        Raises `DataError` when there is nothing at `path`, which is relative to the project.
        """
        place = self._root / path
        if place.is_file():
            return self._file(path)
        if not place.is_dir():
            raise DataError(f"{path}: no such file or folder; see [data] files")
        lines = []
        for folder, folders, names in os.walk(place):
            folders.sort()
            below = Path(folder).relative_to(self._root).as_posix()
            lines += [f"{below}/{name} {self._file(f'{below}/{name}')}" for name in sorted(names)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _file(self, path: str) -> str:
        stat = (self._root / path).stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self.cache.get(path)
        if known is None or known.get("stamp") != stamp:
            known = {"stamp": stamp, "sha256": sha256_file(self._root / path)}
            self.cache[path] = known
            self.changed = True
        return str(known["sha256"])
