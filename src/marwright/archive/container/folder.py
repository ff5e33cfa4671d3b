"""Archives that are folders (`--archive-format no-archive`): written whole, read strictly."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from pathlib import Path

from marwright.archive.container.budget import Budget, Exhausted, Metered
from marwright.archive.container.limits import most_text
from marwright.archive.container.stream import Sink, Source, fan_out
from marwright.archive.container.types import Container, Digests, Unreadable, made_folder
from marwright.archive.container.writer import Writer
from marwright.archive.names import collisions, is_plain
from marwright.recipe.regular import not_regular, open_regular, read_regular

# How many are listed before their sizes, by which more are allowed, are known.
_MOST_LISTED = 200_000


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
        self.size = 0
        self.budget = Budget(0)
        try:
            seen = _list(path, self.members, self.problems)
            self.members = dict(sorted(self.members.items()))
            self.size = sum(self.members.values())
            self.budget = Budget(self.size)
            self.budget.enter(seen)
        except Exhausted as problem:
            self.problems.append(str(problem))
            return
        self.problems += collisions(self.members)

    def close(self) -> None:
        """Nothing is open."""

    def digests(self) -> Digests:
        """Read every file once."""
        members = {}
        problems = []
        for name in sorted(self.members):
            digest = hashlib.sha256()
            with io.FileIO(open_regular(self.path / name)) as file:
                source, hint = Metered(file, self.budget), self.members[name]
                size = fan_out(source, digest.update, size_hint=hint)
            members[name] = digest.hexdigest()
            if size != self.members[name]:
                problems.append(f"{name}: the file changed while it was read")
        lines = "".join(f"{digest}  {name}\n" for name, digest in members.items())
        whole = hashlib.sha256(lines.encode()).hexdigest()
        return Digests(sha256=whole, members=members, problems=problems)

    def read(self, name: str) -> bytes:
        """Return a small member's bytes. Raises `Unreadable` for a large one."""
        if self.members[name] > (most := most_text(name)):
            raise Unreadable(f"{name}: is {self.members[name]} bytes long; that is no text")
        return read_regular(self.path / name, most)

    def unpack(self, folder: Path) -> None:
        """Copy all members below a folder."""
        made = set[Path]()
        for name in self.members:
            self.budget.check()
            shutil.copyfile(self.path / name, made_folder(folder / name, made))


def _list(folder: Path, members: dict[str, int], problems: list[str]) -> int:
    """Find the sizes of all files by their names; returns how many files and folders there are.

    Raises `Exhausted`, and `OSError` for a folder that cannot be read: what is in it counts.
    """
    waiting, seen = [""], 0
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                name, seen = f"{below}{entry.name}", seen + 1
                if seen > _MOST_LISTED:
                    raise Exhausted(f"more than {_MOST_LISTED} files and folders are refused")
                if not is_plain(name):
                    problems.append(f"{name!r}: not a plain relative name")
                elif entry.is_symlink():
                    problems.append(f"{name}: is a symbolic link")
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    members[name] = entry.stat(follow_symlinks=False).st_size
                else:
                    problems.append(f"{name}: {not_regular(entry.path)}")
    problems.sort()
    return seen
