"""Which modules an archive's code needs from outside, and whether they will be there."""

from __future__ import annotations

import importlib.machinery
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from archive.imports import Followed
from recipes.errors import PackError

_ROOT = Path(__file__).resolve().parent.parent
_COMMENT = re.compile(r"(^|\s)#.*")
# Of distributions, not of models: https://packaging.python.org/en/latest/specifications/name-normalization/.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EGG = re.compile(rf"(?<=[#&]egg=){_NAME.pattern}")
# What pip reads from files of the machine that it runs on: lines, and what these point to.
_FILE = re.compile(r"[./]|(\w+\+)?file:|[^\s:@]+(/|\.whl|\.zip|\.tar\.gz)", re.IGNORECASE)
_TARGET = re.compile(
    rf"""(?:^{_NAME.pattern}\s*(?:\[[^]]*\])?\s*@  # name[extras] @ target
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
    "names a file or a folder, which the server need not have": re.compile(
        r"^(-[rce]|--(requirement|constraint|editable))\b|^[./~]|@\s*[./~]|^[^\s;@]+\.(whl|zip|tar\.gz)\b"
    ),
}
_MOST_NOTES = 20
_COMPILED = (*importlib.machinery.EXTENSION_SUFFIXES, ".so", ".pyd")


def check_imports(
    followed: Iterable[Followed],
    members: Collection[str],
    requirements: Path | None,
    provided: Iterable[str],
    *,
    installs: bool = True,
) -> None:
    """Raise `PackError` for imports that would fail where the archive runs.

    `members` are the names of all that is packed, `requirements` is a file for pip, and
    `provided` names what the server has. `installs` says whether it takes a file for pip at all.
    """
    declared = read_requirements(requirements) if requirements is not None else set()
    known = declared | {_normalised(name) for name in provided}
    nor = f" nor in {requirements or 'a --requirements-file'}" if installs else ""
    problems = [problem for one in followed for problem in _problems(one, members, known, nor)]
    if problems:
        raise PackError("\n".join(dict.fromkeys(problems)))


def _problems(one: Followed, members: Collection[str], known: set[str], nor: str) -> Iterator[str]:
    for module in one.closure.missing:
        if not _is_member(module, members):
            yield (
                f"{one.file}: needs {module}, and there is no such module in {one.root}; name what "
                "is compiled or made by a build with --extra-trees"
            )
    for module in one.closure.required:
        if _is_member(module, members) or _normalised(module) in known or _is_installed(module):
            continue
        yield (
            f"{one.importer(module)}: imports {module}, which is neither in {one.root} nor "
            f"installed here{nor}: if it is yours, name the folder that it is in with "
            f"--source-root; if the server has it, --provided {module}"
        )


def _is_member(module: str, members: Collection[str]) -> bool:
    """Whether a module that no source was found for is packed: compiled, or as a folder."""
    path = module.replace(".", "/")
    compiled = tuple(f"{path}{suffix}" for suffix in _COMPILED)
    return any(name.startswith(f"{path}/") or name in compiled for name in members)


def _is_installed(module: str) -> bool:
    """Whether this environment has a top-level module, with nothing that only this shell adds."""
    # The working folder and PYTHONPATH do not go to a server; neither does this project.
    shell = [Path.cwd(), _ROOT, *map(Path, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    ours = {path.resolve() for path in shell}
    folders = [path for path in sys.path if path and Path(path).resolve() not in ours]
    return importlib.machinery.PathFinder.find_spec(module, folders) is not None


def read_requirements(file: Path) -> set[str]:
    """Return the names in a requirements file, in small letters and with `-` for `_` and `.`.

    Raises `PackError` for what cannot be read, and for lines that name files.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PackError(f"{file}: not UTF-8: save it as UTF-8") from None
    names = set()
    for number, line in enumerate(text.splitlines(), start=1):
        line = _COMMENT.sub("", line).strip()
        if _FILE.match(line) or not all(map(_URL.match, _TARGET.findall(line))):
            raise PackError(f"{file}:{number}: {line!r} names a file that the server does not have")
        if match := _EGG.search(line) or _NAME.match(line):
            names.add(_normalised(match[0]))
    return names


def requirement_notes(text: bytes) -> list[str]:
    """Say which lines of a requirements file take something from elsewhere than pip's own index.

    Each begins with the number of its line. Texts of the lines are not repeated: addresses may hold
    passwords.
    """
    notes = []
    for number, line in enumerate(text.decode("utf-8-sig", "replace").splitlines(), start=1):
        line = _COMMENT.sub("", line).strip()
        for kind, pattern in _ELSEWHERE.items():
            if pattern.search(line):
                notes.append(f"{number}: {kind}")
                break
        if len(notes) == _MOST_NOTES:
            break
    return notes


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
