"""The content of the files that a data set reads, as a key sees it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from marwright.files import sha256_file
from marwright.recipe.errors import DataError
from marwright.recipe.regular import not_regular


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
        if place.exists() and not place.is_dir():
            raise DataError(f"{path}: {not_regular(place)}; see [data] files")
        if not place.is_dir():
            raise DataError(f"{path}: no such file or folder; see [data] files")
        lines = []
        seen = set()
        # Links too: a data set is often kept elsewhere.
        for folder, folders, names in os.walk(place, followlinks=True):
            if (real := os.path.realpath(folder)) in seen:
                raise DataError(f"{folder}: a link leads to it again; see [data] files")
            seen.add(real)
            # What is hidden is a file manager's or a version control's, and no sample.
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = Path(folder).relative_to(self._root).as_posix()
            shown = sorted(name for name in names if not name.startswith("."))
            lines += [f"{below}/{name} {self._file(f'{below}/{name}')}" for name in shown]
        # A name may be no Unicode.
        return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()

    def _file(self, path: str) -> str:
        try:
            stat = (self._root / path).stat()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); see [data] files"
            ) from error
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self.cache.get(path)
        if known is None or known.get("stamp") != stamp:
            known = {"stamp": stamp, "sha256": self._sha256(path)}
            self.cache[path] = known
            self.changed = True
        return str(known["sha256"])

    def _sha256(self, path: str) -> str:
        try:
            return sha256_file(self._root / path)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; see [data] files") from error
