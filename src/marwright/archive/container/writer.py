"""What every kind of archive is written by: one pass over each member's bytes."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from pathlib import Path

from marwright.archive.container.stream import Sink, Source, fan_out
from marwright.recipe.errors import PackError
from marwright.recipe.regular import open_regular

Content = bytes | Path


class Writer(ABC):
    """Takes members one after another, then `close`."""

    def add(self, name: str, content: Content) -> str:
        """Copy one member in; returns its SHA-256. Raises `PackError` if a file changes size."""
        if isinstance(content, bytes):
            return self._add(name, io.BytesIO(content), len(content))
        with io.FileIO(open_regular(content)) as source:
            return self._add(name, source, content.stat().st_size)

    def _add(self, name: str, source: Source, size: int) -> str:
        digest = hashlib.sha256()
        if fan_out(source, digest.update, here=self._begin(name, size)) != size:
            raise PackError(f"{name}: the file changed while it was packed")
        self._end(name, size)
        return digest.hexdigest()

    @abstractmethod
    def _begin(self, name: str, size: int) -> Sink:
        """Announce a member of `size` bytes; returns what takes its bytes."""

    @abstractmethod
    def _end(self, name: str, size: int) -> None:
        """Finish the member that was begun last."""

    @abstractmethod
    def close(self) -> None:
        """Write what comes behind the members; files that were given stay open."""
