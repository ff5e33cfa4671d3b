"""Archives that are folders (`--archive-format no-archive`): written whole, read strictly."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from archive.container.limits import MAX_MEMBERS, MAX_TEXT
from archive.container.stream import Sink, Source, fan_out
from archive.container.types import Container, Digests, Unreadable
from archive.container.writer import Writer
from archive.names import collisions, is_plain


class FolderWriter(Writer):
    """Adds members to an empty folder; each is durable when `add` returns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _add(self, name: str, source: Source, size: int) -> str:
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as self._file:
            sha256 = super()._add(name, source, size)
            self._file.flush()
            os.fsync(self._file.fileno())
        target.chmod(0o644)
        return sha256

    def _begin(self, name: str, size: int) -> Sink:
        return self._file.write

    def _end(self, name: str, size: int) -> None:
        """Nothing comes behind a file."""

    def close(self) -> None:
        """Let everybody read the folders, as the files, whatever the umask."""
        for path in (self._folder, *self._folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)


class FolderArchive(Container):
    """A folder with the members of an archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members = {}
        self.problems = []
        for file in _files(path, self.problems):
            self.members[file.relative_to(path).as_posix()] = file.stat().st_size
            if len(self.members) > MAX_MEMBERS:
                self.problems.append(f"more than {MAX_MEMBERS} members are refused")
                break
        self.problems += collisions(self.members)
        self.size = sum(self.members.values())

    def close(self) -> None:
        """Nothing is open."""

    def digests(self) -> Digests:
        """Read every file once."""
        members = {}
        problems = []
        for name in sorted(self.members):
            digest = hashlib.sha256()
            with (self.path / name).open("rb", buffering=0) as file:
                size = fan_out(file, digest.update)
            members[name] = digest.hexdigest()
            if size != self.members[name]:
                problems.append(f"{name}: the file changed while it was read")
        lines = "".join(f"{digest}  {name}\n" for name, digest in members.items())
        whole = hashlib.sha256(lines.encode()).hexdigest()
        return Digests(sha256=whole, members=members, problems=problems)

    def read(self, name: str) -> bytes:
        """Return a small member's bytes. Raises `Unreadable` for a large one."""
        if self.members[name] > MAX_TEXT:
            raise Unreadable(f"{name}: is {self.members[name]} bytes long; that is no text")
        return (self.path / name).read_bytes()

    def unpack(self, folder: Path) -> None:
        """Copy all members below a folder."""
        for name in self.members:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path / name, target)


def _files(folder: Path, problems: list[str]) -> Iterator[Path]:
    """Yield all files. Raises `OSError` for a folder that cannot be read: what is in it counts."""
    waiting = [folder]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            name = path.relative_to(folder).as_posix()
            if not is_plain(name):
                problems.append(f"{name!r}: not a plain relative name")
            elif path.is_symlink():
                problems.append(f"{name}: is a symbolic link")
            elif path.is_dir():
                waiting.append(path)
            elif path.is_file():
                yield path
            else:
                problems.append(f"{name}: is no file")
