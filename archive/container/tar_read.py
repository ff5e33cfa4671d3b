"""Read .tar.gz archives strictly: files and folders below one folder, and nothing else."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

from archive.container.budget import Budget, Exhausted, Metered
from archive.container.limits import MAX_TEXT, most_text
from archive.container.stream import fan_out
from archive.container.tar_walk import Body, Entry, walk
from archive.container.types import Container, Digests, Malformed, Unreadable, made_folder
from archive.names import collisions
from recipes.regular import open_regular

# Bytes of small members that are kept: to read one later means to inflate all that is before it.
_KEPT = 16 << 20


class TarGzArchive(Container):
    """An open .tar.gz whose headers were all read; names are those below its one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with io.FileIO(open_regular(path)) as packed:
            self.size = os.fstat(packed.fileno()).st_size
        self.budget = Budget(self.size)
        self.members = {}
        self.problems = []
        self._kept: dict[str, bytes] = {}
        names: list[str] = []
        left = _KEPT
        try:
            for entry, body in self._walk():
                names.append(entry.name)
                self.budget.enter()
                if not entry.is_folder:
                    self.members[_below(entry.name)] = entry.size
                    if entry.size <= min(left, MAX_TEXT):
                        self._kept[_below(entry.name)] = _bytes(body, entry)
                        left -= entry.size
                    if "/" not in entry.name:
                        raise Malformed(
                            f"{entry.name}: does not lie in a folder, as TorchServe needs it"
                        )
            self.budget.narrow(sum(self.members.values()))
        except Malformed as problem:
            self.problems.append(str(problem))
            return
        if len({name.partition("/")[0] for name in names}) > 1:
            self.problems.append("its members are not all below one folder")
        self.problems += collisions(names)

    def close(self) -> None:
        """Nothing is kept open: a gzip stream can only be read from its start."""

    def digests(self) -> Digests:
        """Read the file twice: for its own SHA-256, and for those of its members."""
        whole = hashlib.sha256()
        with io.FileIO(open_regular(self.path)) as packed:
            fan_out(Metered(packed, self.budget), whole.update)
        members = {}
        problems = []
        try:
            for entry, body in self._walk():
                if not entry.is_folder:
                    digest = hashlib.sha256()
                    fan_out(body, digest.update, size_hint=entry.size)
                    members[_below(entry.name)] = digest.hexdigest()
        except Exhausted:
            raise
        except Malformed as problem:
            # It was whole when it was opened.
            problems.append(f"the file changed while it was read: {problem}")
        return Digests(sha256=whole.hexdigest(), members=members, problems=problems)

    def read(self, name: str) -> bytes:
        """Return a small member's bytes. Raises `Unreadable` for a large or damaged one."""
        if self.members[name] > most_text(name):
            raise Unreadable(f"{name}: is {self.members[name]} bytes long; that is no text")
        if name in self._kept:
            return self._kept[name]
        try:
            for entry, body in self._walk():
                if _below(entry.name) == name:
                    return _bytes(body, entry)
        except Malformed as problem:
            raise Unreadable(f"{name}: {problem}") from None
        raise Unreadable(f"{name}: is gone")

    def unpack(self, folder: Path) -> None:
        """Write all members below a folder; call it when there are no problems."""
        made = set[Path]()
        for entry, body in self._walk():
            target = folder / _below(entry.name)
            if entry.is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            with made_folder(target, made).open("wb", buffering=0) as copy:
                fan_out(body, here=copy.write, size_hint=entry.size)

    def _walk(self) -> Iterator[tuple[Entry, Body]]:
        with io.FileIO(open_regular(self.path)) as packed:
            yield from walk(packed, self.size, self.budget)


def _bytes(body: Body, entry: Entry) -> bytes:
    content = bytearray()
    fan_out(body, here=content.extend, size_hint=entry.size)
    return bytes(content)


def _below(name: str) -> str:
    return name.partition("/")[2]
