"""A file for pip: which distributions it names, and what of it the server does not have."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePosixPath

from marwright.recipe.regular import read_regular

_COMMENT = re.compile(r"(^|\s)#.*")
# Of distributions, not of models: https://packaging.python.org/en/latest/specifications/name-normalization/.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EGG = re.compile(rf"(?<=[#&]egg=){_NAME.pattern}")
_EXTRAS = re.compile(rf"{_NAME.pattern}\s*\[")
# What pip reads from files of the machine that it runs on: lines, and what these point to.
_FILE = re.compile(r"[./]|(\w+\+)?file:|[^\s:@]+(/|\.whl|\.zip|\.tar\.gz)", re.IGNORECASE)
# Nothing is tried twice: a line may be as long as somebody likes.
_TARGET = re.compile(
    rf"""(?:^{_NAME.pattern}+\s*+(?:\[[^]]*\]\s*+)?@  # name[extras] @ target
    |(?:^|\s)(?:-[rcef]|--(?:requirement|constraint|editable|find-links)(?=[\s=])))
    [\s=]*["']?(\S+)""",
    re.VERBOSE,
)
_URL = re.compile(r"(?!(\w+\+)?file:)[a-z][\w+.-]*://", re.IGNORECASE)
_ELSEWHERE = {
    "takes packages from another index than the server's own": re.compile(
        r"(^|\s)(-i|--(extra-)?index-url|--pypi-url|-f|--find-links|--no-index|--trusted-host)\b"
    ),
    "is taken from a repository, whose content may change": re.compile(
        r"(^|[\s@=])(git|hg|svn|bzr)(\+|:)", re.IGNORECASE
    ),
    "is taken from a URL, whose content may change": re.compile(
        r"(^|[\s@=])[a-z][a-z+.-]{1,20}://", re.IGNORECASE
    ),
}
_MOST_NOTES = 20
_BRINGS = re.compile(r"-[er]|--(editable|requirement)\b")
_INCLUDES = re.compile(r"-r|--requirement\b")
# Known without being installed here; the names of other modules are looked up.
_MODULES = {"ts": "torchserve", "cv2": "opencv-python", "bs4": "beautifulsoup4"}

# A member's bytes by its name, or None.
Read = Callable[[str], bytes | None]


@dataclass(slots=True, kw_only=True)
class Requirements:
    """The distributions that a file for pip names, as `normalised` has them.

    `shown` is the file in messages. `unknown` are those of them of which nothing here says which
    modules they bring, `problems` are lines about files that the server does not have, and
    `notes` about lines that do not mean what they seem to.
    """

    shown: str
    names: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def member_reader(files: Mapping[str, Path], most: int) -> Read:
    """Return what reads members for `read_requirements`; `files` are theirs by name.

    A wheel or another file of more than `most` bytes, and a folder, are there and are empty.
    """
    folders = {folder.as_posix() for name in files for folder in PurePosixPath(name).parents}

    def read(name: str) -> bytes | None:
        if (file := files.get(name)) is None:
            return b"" if name in folders else None
        return b"" if file.stat().st_size > most else read_regular(file, most)

    return read


def read_requirements(data: bytes, shown: str, read: Read) -> Requirements:
    """Read a file for pip, and those of the archive that it includes; `read` gives its members."""
    found = Requirements(shown=shown)
    waiting, seen = [(data, shown)], set[str]()
    while waiting:
        data, where = waiting.pop(0)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            found.problems.append(f"{where}: not UTF-8: save it as UTF-8")
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            line = _COMMENT.sub("", line).strip()
            below = "" if where == shown else posixpath.dirname(where)
            for target in _line(line, f"{where}:{number}", found, partial(_read, read, below)):
                target = posixpath.normpath(posixpath.join(below, target))
                if target not in seen and (more := read(target)) is not None:
                    seen.add(target)
                    waiting.append((more, target))
    return found


def requirement_notes(data: bytes, shown: str, read: Read) -> list[str]:
    """Say which lines of a requirements file take something from elsewhere than pip's own index.

    Those of the files that it includes belong to it; `read` gives members. Each note begins with
    the file and the line. Texts of the lines are not repeated: addresses may hold passwords.
    """
    notes, waiting, seen = list[str](), [(data, shown)], {shown}
    while waiting:
        data, where = waiting.pop(0)
        for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), start=1):
            line = _COMMENT.sub("", line).strip()
            kinds = (kind for kind, pattern in _ELSEWHERE.items() if pattern.search(line))
            if kind := next(kinds, ""):
                notes.append(f"{where}:{number}: {kind}")
            if len(notes) == _MOST_NOTES:
                return notes
            below = "" if where == shown else posixpath.dirname(where)
            for target in _TARGET.findall(line) if _INCLUDES.match(line) else ():
                included = posixpath.normpath(posixpath.join(below, target))
                if included not in seen and (more := read(included)) is not None:
                    seen.add(included)
                    waiting.append((more, included))
    return notes


def normalised(name: str) -> str:
    """Return a distribution's name in small letters, with `-` for `_` and `.`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(read: Read, below: str, name: str) -> bytes | None:
    """Read what a line of a file in the folder `below` names."""
    return read(posixpath.normpath(posixpath.join(below, name)))


def _line(line: str, where: str, found: Requirements, read: Read) -> list[str]:
    """Take one line; returns the files for pip that it includes."""
    targets = _TARGET.findall(line)
    local = line.split()[0] if _FILE.match(line) and not line.startswith("-") else ""
    # Without slashes, it is relative too.
    paths = [re.sub(r"^file:(?!//)", "", target) for target in [*targets, local]]
    files = [path for path in paths if path and not _URL.match(path)]
    if any(read(file) is None for file in files):
        found.problems.append(f"{where}: {line!r} names a file that the server does not have")
        return []
    if egg := _EGG.search(line):
        _take(egg[0], found, is_known=False)
    elif local:
        # NAME-VERSION….whl
        _take(posixpath.basename(local).partition("-")[0], found, is_known=False)
    elif _URL.match(line) or (_BRINGS.match(line) and not files):
        found.unknown.append(line)
    elif match := _NAME.match(line):
        from_index = not targets
        _take(match[0], found, is_known=from_index and not _EXTRAS.match(line))
        if from_index and (other := _distribution_of(match[0])):
            found.notes.append(
                f"{where}: {match[0]} is a module of {other}; a distribution called {match[0]} is "
                f"another one: write {other}, or nothing where the server has it"
            )
    return [posixpath.normpath(file) for file in files] if _INCLUDES.match(line) else []


def _take(name: str, found: Requirements, *, is_known: bool) -> None:
    found.names.add(normalised(name))
    if not is_known or not _is_distribution(name):
        found.unknown.append(name)


def _is_distribution(name: str) -> bool:
    return normalised(name) in _installed()


def _distribution_of(name: str) -> str:
    """Return what a module is a part of, when it is called otherwise; else nothing."""
    return "" if _is_distribution(name) else _modules().get(name.lower(), "")


@cache
def _installed() -> frozenset[str]:
    # It takes longer to import than many an archive to write.
    from importlib import metadata

    return frozenset(normalised(one.name) for one in metadata.distributions())


@cache
def _modules() -> dict[str, str]:
    """Map modules, in small letters, to one of the distributions that they are parts of."""
    from importlib import metadata

    here = metadata.packages_distributions()
    return _MODULES | {module.lower(): min(names) for module, names in here.items()}
