"""What in a model file could run code when it is unpickled, found without unpickling it."""

from __future__ import annotations

import io
import lzma
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from archive.names import printable
from archive.rules.pickle_walk import ADVICE, MOST_BYTES, Budget, PickleWalk, is_marked

_NESTED = 2
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError,
               RuntimeError, ValueError)  # fmt: skip
_ENDINGS = (".pkl", ".pickle", ".debug_pkl")
# Loaders take these for pickles too, whatever they begin with.
_MODELS = (".pt", ".pth", ".ckpt", ".bin")
_ZIP_STARTS = (b"PK\3\4", b"PK\5\6")
_IN_MEMORY = 16 << 20
# Whether it is a pickle, and what is wrong.
_Look = tuple[bool, list[str]]


def pickle_problems(file: Path, budget: Budget | None = None) -> list[str]:
    """Return what in a model file could run code when it is unpickled: a line each, sorted.

    Looks at a pickle, or two and more in a row, and at those inside of zip files: by their names,
    and by how they begin. The lines name the member, not the file. Several files may share a
    `budget`. Raises `OSError` where the file is not there to be read; a damaged one is a problem.
    """
    with file.open("rb") as opened:
        found = _look(opened, budget or Budget())
        return sorted({line for _, lines in found for line in lines})


def _look(file: IO[bytes], budget: Budget) -> Iterator[_Look]:
    start = file.read(4)
    file.seek(0)
    if start not in _ZIP_STARTS:
        walk = PickleWalk(file, start, budget, named=False)
        if walk.is_pickle():
            yield True, [*walk.problems()]
        if _is_old_tar(file):
            yield True, [f"pickle: in a tar file, as torch wrote until 2016; {ADVICE}"]
    # A zip file is found by its end, whatever it begins with.
    if start in _ZIP_STARTS or _opens_as_zip(file):
        yield from _look_into_zip(file, "", 0, budget)


def _look_into_zip(file: IO[bytes], where: str, depth: int, budget: Budget) -> Iterator[_Look]:
    try:
        with zipfile.ZipFile(file) as archive:
            if not _has_one_directory(file):
                yield False, [f"{where}two readers of zip files can see different members in it"]
            for info in archive.infolist():
                name = f"{where}{printable(info.filename)}: "
                with archive.open(info) as member:
                    yield from _look_at_member(member, info, name, depth, budget)
    except _UNREADABLE as error:
        yield False, [f"{where}cannot be read as a zip file: {error}"]


def _look_at_member(
    member: IO[bytes], info: zipfile.ZipInfo, where: str, depth: int, budget: Budget
) -> Iterator[_Look]:
    start, name = member.read(4), info.filename.lower()
    named = name.endswith(_ENDINGS)
    member.seek(0)
    if start == _ZIP_STARTS[0]:
        packed = info.compress_type != zipfile.ZIP_STORED
        if depth == _NESTED or (packed and info.file_size > MOST_BYTES):
            yield False, [f"{where}a zip file that is too deep or too large to look into"]
            return
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
            shutil.copyfileobj(member, copy)
            yield from _look_into_zip(copy, where, depth + 1, budget)
    elif named or is_marked(start) or name.endswith(_MODELS):
        walk = PickleWalk(member, start, budget, named=named)
        if walk.is_pickle():
            yield True, [where + line for line in walk.problems()]


def _opens_as_zip(file: IO[bytes]) -> bool:
    try:
        zipfile.ZipFile(file).close()
    except _UNREADABLE:
        return False
    return True


def _is_old_tar(file: IO[bytes]) -> bool:
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            return "pickle" in tar.getnames()
    except (tarfile.TarError, *_UNREADABLE):
        return False


def _has_one_directory(file: IO[bytes]) -> bool:
    """Whether the directory is where the records at the end say, and they are where they belong.

    Python's reader goes by the end of the file, torch's by the offsets: made to differ, they find
    two directories.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 100))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    length, offset, comment = struct.unpack("<LLH", tail[at + 12 : at + 22])
    end = size - len(tail) + at
    if tail[at - 20 : at - 16] == b"PK\6\7":
        end -= 76
        record, length, offset = struct.unpack("<4s36xQQ", tail[at - 76 : at - 20])
        if record != b"PK\6\6" or struct.unpack("<Q", tail[at - 12 : at - 4]) != (end,):
            return False
    return bool(at + 22 + comment == len(tail) and offset + length == end)
