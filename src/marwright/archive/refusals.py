"""What packing a model and packing a workflow refuse alike, and how they say it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from marwright.archive.container.budget import Exhausted
from marwright.archive.container.limits import MAX_TEXT
from marwright.archive.container.types import Unreadable
from marwright.archive.container.writer import Content
from marwright.archive.contents import read_contents
from marwright.archive.types import INVENTORY, Inventory, from_json
from marwright.archive.write import ArchiveFormat
from marwright.recipe.errors import PackError
from marwright.recipe.regular import read_regular

_STARTS = (b"PK\3\4", b"\x1f\x8b")


@contextmanager
def failures_told(target: Path) -> Iterator[None]:
    """Raise what the system refuses, a file that may not be read or a full disk, as `PackError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileExistsError) and target.exists():
            # It came while this was packed.
            raise _already_there(target) from None
        raise PackError(f"{error.filename or target}: {error.strerror or error}") from error
    except Exhausted as ended:
        raise PackError(f"{target}: {ended}: pack fewer or smaller files") from ended


def raise_for(problems: Iterable[str]) -> None:
    """Raise all problems as one `PackError`, a line each; nothing when there are none."""
    if text := "\n".join(problems):
        raise PackError(text)


@dataclass(frozen=True, slots=True)
class _Planned:
    """What is about to be an archive, read as one."""

    contents: Mapping[str, Content]
    members: Mapping[str, int]

    def read(self, name: str) -> bytes:
        """Return a small member's bytes. Raises `Unreadable` for a large one."""
        content = self.contents[name]
        if self.members[name] > MAX_TEXT:
            raise Unreadable(f"{name}: is {self.members[name]} bytes long; that is no text")
        return read_regular(content) if isinstance(content, Path) else content


def check_contents(contents: Mapping[str, Content]) -> list[str]:
    """Return the notes that `verify` will have on a model archive of these members.

    Raises `PackError` for whatever it would refuse without running anything.
    """
    sizes = {name: _size(content) for name, content in contents.items()}
    found = read_contents(_Planned(contents, sizes), None)
    raise_for(found.problems)
    return found.notes


def _size(content: Content) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def check_target(target: Path, archive_format: ArchiveFormat, force: bool) -> None:
    """Raise `PackError` where something is in the way that may not be replaced."""
    if not target.exists():
        return
    if not force:
        raise _already_there(target)
    if archive_format == "no-archive":
        problem = _folder_problem(target)
    else:
        problem = "" if _is_packed(target) else "is no archive"
    if problem:
        raise PackError(
            f"{target}: is there already and {problem}; --force replaces archives and nothing "
            "else: move it, or name another --export-path"
        )


def _is_packed(file: Path) -> bool:
    """Whether a file begins as archives do, whole or damaged."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(4).startswith(_STARTS)


def _folder_problem(folder: Path) -> str:
    """Say why a folder is not all of what `pack` wrote, or nothing."""
    if not (folder / INVENTORY).is_file():
        return f"has no {INVENTORY}, so `pack` did not write it"
    # All kinds of reading, for the one case in which something is replaced.
    from marwright.archive.container.open import open_archive

    with open_archive(folder) as archive:
        if archive.problems:
            return archive.problems[0]
        try:
            written = from_json(archive.read(INVENTORY), Inventory).members
        except ValueError as error:
            return f"{INVENTORY}: {error}"
        others = sorted(archive.members.keys() - written.keys() - {INVENTORY})
    return f"holds {others[0]}, which `pack` did not write" if others else ""


def _already_there(target: Path) -> PackError:
    return PackError(f"{target}: is there already; --force replaces it")
