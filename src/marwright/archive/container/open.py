"""Open an archive of any kind for reading."""

from __future__ import annotations

import os
from pathlib import Path

from marwright.archive.container.folder import FolderArchive
from marwright.archive.container.tar_read import TarGzArchive
from marwright.archive.container.types import Container
from marwright.archive.container.zip_read import ZipArchive
from marwright.recipe.errors import VerifyError
from marwright.recipe.regular import open_regular

_GZIP = b"\x1f\x8b"
# Of the files that TorchServe unzips: what has another name, it takes for a .tar.gz.
_ZIP_SUFFIXES = (".mar", ".war")


def open_archive(path: Path) -> Container:
    """Open a folder, a .tar.gz (by its first bytes), or a zip file.

    Raises `VerifyError` when it is not there, is no file, or cannot be read. What TorchServe would
    take for another kind, as it goes by the name, is one of the archive's problems.
    """
    try:
        archive = _open(path)
    except OSError as error:
        raise VerifyError(f"{path}: {error.strerror or error}") from None
    is_zip, named = isinstance(archive, ZipArchive), path.name.endswith(_ZIP_SUFFIXES)
    if is_zip and not named:
        archive.problems.append("a zip file that TorchServe, by its name, takes for a .tar.gz: "
                                "call it .mar")  # fmt: skip
    elif isinstance(archive, TarGzArchive) and named:
        archive.problems.append("a .tar.gz that TorchServe, by its name, takes for a zip file: "
                                "call it .tar.gz")  # fmt: skip
    return archive


def _open(path: Path) -> Container:
    if path.is_dir():
        return FolderArchive(path)
    with os.fdopen(open_regular(path), "rb") as file:
        start = file.read(2)
    return TarGzArchive(path) if start == _GZIP else ZipArchive(path)
