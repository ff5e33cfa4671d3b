"""Write archives: the same members give the same bytes, on any machine, in any year."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

from archive.files import replacing, sha256_file
from archive.names import collisions, is_plain
from archive.types import Artifact
from recipes.errors import PackError

# The oldest date that a zip can hold.
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_MODE = 0o100644

Content = bytes | Path


def write_mar(target: Path, members: Mapping[str, Content]) -> Artifact:
    """Write an archive, atomically; names are POSIX and relative, contents bytes or files.

    Members are sorted and stored uncompressed: weights do not shrink, and the server unpacks
    stored bytes several times faster. Raises `PackError` for a name that would not survive.
    """
    _check_names(members)
    with replacing(target) as file, zipfile.ZipFile(file, "w") as archive:
        for name in sorted(members):
            content = members[name]
            info = zipfile.ZipInfo(name, date_time=_DATE)
            info.create_system = _UNIX
            info.external_attr = _MODE << 16
            if isinstance(content, bytes):
                archive.writestr(info, content)
                continue
            info.file_size = content.stat().st_size
            with content.open("rb") as source, archive.open(info, "w") as entry:
                shutil.copyfileobj(source, entry, 1 << 20)
    return Artifact(kind="mar", path=target, sha256=sha256_file(target), size=target.stat().st_size)


def _check_names(members: Mapping[str, Content]) -> None:
    for name in members:
        if not is_plain(name):
            raise PackError(f"{name!r}: members have plain relative ASCII names")
    for problem in collisions(members):
        raise PackError(f"{problem}: rename one of them")
