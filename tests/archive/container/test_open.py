"""What goes wrong while an archive is open is told as a problem of that archive."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from marwright.archive.container.open import open_archive
from marwright.archive.container.types import Malformed, Unreadable
from marwright.archive.write import FORMATS, SUFFIXES, ArchiveFormat, write_members
from marwright.recipe.errors import VerifyError


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    format: ArchiveFormat = request.param
    return write_members(tmp_path / f"m{SUFFIXES[format]}", {"a.txt": b"alpha"}, format)


def test_what_the_system_refuses_names_the_file(path: Path) -> None:
    locked = OSError(errno.EACCES, os.strerror(errno.EACCES), "/there/a.txt")
    said = r"^/there/a\.txt: Permission denied$"
    with pytest.raises(VerifyError, match=said), open_archive(path):
        raise locked
    # Of a full disk nothing follows for the archive.
    with pytest.raises(OSError, match="No space left"), open_archive(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/there/a.txt")
    with pytest.raises(VerifyError, match=rf"^{path}: Input/output error$"), open_archive(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("error", [Malformed, Unreadable])
def test_what_changes_meanwhile_names_the_archive(path: Path, error: type[Exception]) -> None:
    with pytest.raises(VerifyError, match=rf"^{path}: a\.txt: changed$"), open_archive(path):
        raise error("a.txt: changed")


def test_other_errors_pass_as_they_are(path: Path) -> None:
    with pytest.raises(KeyError), open_archive(path) as archive:
        archive.read("gone")
