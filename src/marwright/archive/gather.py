"""Collect the files that a person names, under the names that they get in an archive."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

from marwright.archive.container.limits import MAX_TEXT
from marwright.recipe.errors import PackError
from marwright.recipe.regular import not_regular, read_regular

# Beside hidden files, which are for the tools of the machine that they lie on.
_UNWANTED_FOLDERS = {"__pycache__", "__MACOSX"}
_UNWANTED_SUFFIXES = {".pyc", ".pyo"}
_WILDCARDS = "*?["
# What TorchServe reads, and we write; in small letters, as some file systems see it.
_RESERVED = ("mar-inf/", "war-inf/")

# Enough for any archive, and soon counted.
_MOST_FILES = 200_000

File = str | PathLike[str]


class Members:
    """Files by the name that they will have; no name is given twice.

    `left_out` says what was found in a folder and is not packed: `target` for one, the archive
    that is about to be written.
    """

    def __init__(self, target: Path | None = None) -> None:
        self.files: dict[str, Path] = {}
        self.left_out: list[str] = []
        self._target = None if target is None else target.resolve()

    def add(self, name: str, file: Path) -> None:
        """Take a file; the same one may come twice. Raises `PackError` for another one."""
        if f"{name.lower()}/".startswith(_RESERVED):
            raise PackError(
                f"{file}: would be called {name}, which is for what describes the archive: rename "
                "it, or name the files beside it one by one"
            )
        if len(self.files) > _MOST_FILES:
            raise PackError(f"{file}: one of more than {_MOST_FILES} files: name fewer")
        known = self.files.setdefault(name, file)
        if known.resolve() != file.resolve():
            raise PackError(f"{name}: {known} and {file} would both be called this: rename one")

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file by its name in the archive; None when there is none."""
        return read_regular(self.files[name], MAX_TEXT) if name in self.files else None

    def add_file(self, file: Path, what: str) -> str:
        """Take a file that was named, to the root; returns its name there."""
        if not file.is_file():
            raise PackError(f"{what} {file}: {_why_no_file(file)}")
        if file.name.startswith("."):
            raise PackError(f"{what} {file}: hidden files are not packed; name a copy of it")
        if file.resolve() == self._target:
            raise PackError(
                f"{what} {file}: would be replaced by the archive: write that elsewhere"
            )
        self.add(file.name, file)
        return file.name

    def add_extra(self, text: str) -> None:
        """Take one of `--extra-files`: files to the root, what is in folders to the root too."""
        if any(character in text for character in _WILDCARDS) and not Path(text).exists():
            # As the shell does, from here or from the root, without hidden files.
            paths = [Path(path) for path in sorted(glob.glob(text))]  # noqa: PTH207
            if not paths:
                raise PackError(f"--extra-files {text}: nothing matches")
            paths = [path for path in paths if not self._leaves_out(path)]
        else:
            paths = [Path(text)]
        for path in paths:
            if path.is_dir():
                self.add_tree(path, "--extra-files", below="")
            else:
                self.add_file(path, "--extra-files")

    def add_named_tree(self, text: str) -> None:
        """Take one of `--extra-trees`: a folder by the name that was typed, also of a link."""
        # `.` and `..` have a name too; resolve() would give that of what a link leads to.
        name = Path(os.path.abspath(text)).name  # noqa: PTH100
        self.add_tree(Path(text), "--extra-trees", below=name)

    def add_tree(self, folder: Path, what: str, *, below: str) -> None:
        """Take all that is in a folder, as the tree that it is, under the name `below`."""
        if not folder.is_dir():
            why = "is no folder" if folder.exists() else "no such folder"
            raise PackError(f"{what} {folder}: {why}")
        if folder.name.startswith(".") and folder.name != "..":
            raise PackError(f"{what} {folder}: hidden folders are not packed; name a copy of it")
        for path in self._walk(folder, [folder.resolve()], what):
            name = path.relative_to(folder).as_posix()
            self.add(f"{below}/{name}" if below else name, path)

    def _walk(self, folder: Path, above: list[Path], what: str) -> Iterator[Path]:
        """Yield the files; `above` are the folders on the way here, the named one first."""
        for path in sorted(folder.iterdir()):
            if self._leaves_out(path):
                continue
            if path.is_symlink():
                _check_link(path, above[0], what)
            if path.is_dir():
                if (real := path.resolve()) in above:
                    raise PackError(f"{what} {path}: leads back to {real}, which it is in")
                yield from self._walk(path, [*above, real], what)
            elif path.is_file():
                yield path
            else:
                raise PackError(f"{what} {path}: {not_regular(path)}")

    def _leaves_out(self, path: Path) -> bool:
        """Note a path that is not packed although nobody said so; returns whether it is one."""
        is_unwanted = (
            path.name.startswith(".")
            or path.name in _UNWANTED_FOLDERS
            or path.suffix in _UNWANTED_SUFFIXES
            or (self._target is not None and self._target == path.parent.resolve() / path.name)
        )
        if is_unwanted:
            self.left_out.append(f"{path}/" if path.is_dir() else str(path))
        return is_unwanted


def _why_no_file(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"a link to {path.readlink()}, which is not there"
    return not_regular(path) if path.exists() else "no such file"


def _check_link(link: Path, top: Path, what: str) -> None:
    if not link.exists():
        raise PackError(f"{what} {link}: {_why_no_file(link)}")
    target = link.resolve()
    if not target.is_relative_to(top):
        raise PackError(
            f"{what} {link}: a link out of the folder, to {target}: name the file itself"
        )
    if any(part.startswith(".") for part in target.relative_to(top).parts):
        raise PackError(f"{what} {link}: a link to {target}, and hidden files are not packed")


def split_commas(values: File | Iterable[File]) -> list[str]:
    """Return the parts of comma-separated lists, of one or several, without blanks around them."""
    several = [values] if isinstance(values, (str, PathLike)) else values
    parts = (part.strip() for value in several for part in os.fspath(value).split(","))
    return [part for part in parts if part]
