"""Which archives a running server took, and whether the store holds others by now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from marwright.archive.store import StoredModel
from marwright.pipeline.state import Output

AGAIN = "start it again to serve that one: `make stop`, then `make serve`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """An archive as it was when a server started to load it."""

    name: str
    version: str
    path: str
    was: Output

    @classmethod
    def of(cls, model: StoredModel) -> Loaded:
        """Take an archive down, digest and all. Raises `OSError` where it has gone."""
        return cls(
            name=model.name, version=model.version, path=str(model.path), was=Output.of(model.path)
        )

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Loaded:
        """Read what a record says. Raises `msgspec.ValidationError`."""
        return msgspec.convert(raw, cls)

    def difference(self) -> str | None:
        """Say how the store's file differs from what was loaded; None where it does not."""
        path = Path(self.path)
        try:
            # Copied or touched, it may still be the same bytes.
            if self.was.looks_untouched(path) or (now := Output.of(path)).sha256 == self.was.sha256:
                return None
        except OSError:
            return f"{path.name} is not in the store any more; the server still has what it loaded"
        return (
            f"the server runs an older {path.name} ({self.was.sha256[:12]}…) than the store's "
            f"({now.sha256[:12]}…); {AGAIN}"
        )


def outdated(loaded: Iterable[Loaded], model: str | None = None) -> Iterator[str]:
    """Say of each archive, or of those of one model, where the store holds another by now."""
    for one in loaded:
        if model in (None, one.name) and (difference := one.difference()):
            yield f"{one.name} {one.version}: {difference}"


class StoreWatch:
    """Looks again and again whether the store still holds what a server loaded."""

    def __init__(self, loaded: Iterable[Loaded]) -> None:
        self._seen = {one: _signature(one) for one in loaded}

    def look(self) -> list[str]:
        """Say what has been replaced since the last look; a file is hashed once a change."""
        said = []
        for one, before in self._seen.items():
            now = _signature(one)
            if now != before:
                self._seen[one] = now
                said += [*outdated([one])]
        return said


def _signature(one: Loaded) -> tuple[int, ...] | None:
    try:
        stat = Path(one.path).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
