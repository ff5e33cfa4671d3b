"""Which names a member may have: those that unpack to the same file, and only there, anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def is_plain(name: str) -> bool:
    """Whether a name is relative, printable ASCII, and stays in the folder it is unpacked to."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return False
    return name.isascii() and name.isprintable() and "\\" not in name


def collisions(names: Iterable[str]) -> Iterator[str]:
    """Say which names would take each other's place when unpacked; folders end in `/`."""
    files: dict[str, str] = {}
    names = sorted(names)
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
