"""What every kind of archive offers to those who check it."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from marwright.recipe.errors import VerifyError

if TYPE_CHECKING:
    from marwright.archive.container.budget import Budget

# What unpacking it may meet says nothing of an archive: there is no room, or there are too many
# open files.
_MACHINES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE)


class Malformed(Exception):
    """An archive's structure cannot be followed further; the message is a problem line."""


class Unreadable(Exception):
    """A member is not what its headers say; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """The SHA-256 of an archive and of its members, and the checksums that did not hold.

    A folder has no bytes of its own: its digest is that of the sorted lines `<sha256>  <name>`.
    """

    sha256: str
    members: dict[str, str]
    problems: list[str]


class Readable(Protocol):
    """What can be read by the names of its members: an archive, or what is about to be one."""

    @property
    def members(self) -> Mapping[str, int]:
        """The sizes of the files in it, by name."""

    def read(self, name: str) -> bytes:
        """Return a small member's bytes. Raises `Unreadable` for a large or damaged one."""


def made_folder(path: Path, made: set[Path]) -> Path:
    """Make the folders above a path that are not among `made`; returns the path."""
    if (parent := path.parent) not in made:
        parent.mkdir(parents=True, exist_ok=True)
        made.add(parent)
    return path


class Container(ABC):
    """An archive that is open for reading. With any of `problems`, nothing of it may be read.

    `path` is where it lies, `size` is in bytes, `members` the sizes of the files in it, by name,
    `budget` what checking it may cost. In a `with` block, what the system refuses (a full disk, a
    file that may not be read), what changes while it is read, and the end of the budget end the
    block as `VerifyError`.
    """

    path: Path
    size: int
    budget: Budget
    members: dict[str, int]
    problems: list[str]

    @abstractmethod
    def digests(self) -> Digests:
        """Read every byte once. Raises `Exhausted`, as `read` and `unpack` do."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a small member's bytes. Raises `Unreadable` for a large or damaged one."""

    @abstractmethod
    def unpack(self, folder: Path) -> None:
        """Write all members below an existing folder."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if isinstance(error, OSError) and error.errno not in _MACHINES:
            where = error.filename or self.path
            raise VerifyError(f"{where}: {error.strerror or error}") from error
        if isinstance(error, (Malformed, Unreadable)):
            raise VerifyError(f"{self.path}: {error}") from error
