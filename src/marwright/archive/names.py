"""Which names members may have: those that unpack to one file, and only there, on any POSIX."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

# Of a part, on every common file system; of a whole name, so that a folder's fits before it.
_MAX_PART, _MAX_NAME = 255, 1024
# Folders in folders; each is made when it is unpacked.
_MAX_PARTS = 128
# Of a message; beyond it, a stranger's text is cut.
_LINE = 2000


def is_plain(name: str) -> bool:
    """Whether a name is relative, printable ASCII, and stays in the folder it is unpacked to."""
    if len(name) > _MAX_NAME or not (name.isascii() and name.isprintable()):
        return False
    # Windows takes the first two for a folder and a drive, and drops dots and spaces at the end.
    if name.count("/") >= _MAX_PARTS:
        return False
    return not any(char in name for char in "\\:") and all(
        part and len(part) <= _MAX_PART and part[-1] not in ". " for part in name.split("/")
    )


def collisions(names: Iterable[str]) -> Iterator[str]:
    """Say which names would take each other's place when unpacked; folders end in `/`."""
    files: dict[str, str] = {}
    names = sorted(names)
    for before, name in itertools.pairwise(names):
        if before == name:
            yield f"{name}: stands in the archive twice"
    names = list(dict.fromkeys(names))
    for name in names:
        if name.endswith("/"):
            continue
        # Some file systems would unpack one over the other.
        if other := files.get(name.lower()):
            yield f"{other} and {name} differ by case only"
        files[name.lower()] = name
    for name in names:
        folder = name.lower()
        while folder := folder.rpartition("/")[0]:
            if other := files.get(folder):
                yield f"{other} is a file, and the folder of {name}"


def printable(text: str, most: int = 255) -> str:
    """Return what can stand in a line: names and keys come from whoever wrote the archive."""
    shown = text if text.isprintable() else ascii(text)
    return shown if len(shown) <= most else f"{shown[:most]}…"


def lines_of(texts: list[str], most: int = 100) -> list[str]:
    """Return texts as lines for a terminal: not too many, and none too long."""
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return [one_line(text if len(text) <= _LINE else f"{text[:_LINE]}…") for text in texts[:most]
            ] + more  # fmt: skip


def one_line(text: str) -> str:
    """Return a text as a line in which a terminal finds nothing to obey."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
