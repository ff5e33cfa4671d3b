"""What is packed inside of a model file: members of zip and tar files, compressed streams, arrays.

Every byte and every member that comes out counts in the budget, at all levels together.
"""

from __future__ import annotations

import bz2
import io
import itertools
import lzma
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from archive.container.budget import Budget, Exhausted
from archive.container.limits import MAX_DIRECTORY

ZIP_STARTS = (b"PK\3\4", b"PK\5\6")
# What reading a damaged file raises.
UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError,
              RuntimeError, ValueError)  # fmt: skip
_CHUNK = 1 << 18
_IN_MEMORY = 16 << 20
_CENTRAL, _CENTRAL_LENGTHS = 46, struct.Struct("<3H")


class Packed(io.RawIOBase):
    """The bytes of something packed, counted in the budget as they come out."""

    def __init__(self, member: IO[bytes], budget: Budget) -> None:
        self._member, self._budget = member, budget

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self._member.read(size)
        self._budget.unpack(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go back to the start, which decompresses again."""
        return self._member.seek(offset, whence)


def zip_members(file: IO[bytes], budget: Budget) -> Iterator[tuple[zipfile.ZipInfo, IO[bytes]]]:
    """Yield the members of a zip file, after its directory was counted.

    Raises one of `UNREADABLE`, and `Exhausted`.
    """
    _count_members(file, budget)
    with zipfile.ZipFile(file) as archive:
        _check_apart(archive.infolist())
        for info in archive.infolist():
            with archive.open(info) as member:
                yield info, Packed(member, budget)  # type: ignore[misc]


def opens_as_zip(file: IO[bytes], budget: Budget) -> bool:
    """Whether Python's reader finds a zip file in it, wherever it begins. Raises `Exhausted`."""
    try:
        _count_members(file, budget)
        zipfile.ZipFile(file).close()
    except UNREADABLE:
        return False
    return True


def has_one_directory(file: IO[bytes]) -> bool:
    """Whether the directory is where the records at the end say, and they are where they belong.

    Python's reader goes by the end of the file, torch's by the offsets: made to differ, they find
    two directories.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 100))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + 22 > len(tail):
        # Python's reader says what is wrong with it.
        return True
    length, offset, comment = struct.unpack("<LLH", tail[at + 12 : at + 22])
    end = size - len(tail) + at
    if tail[at - 20 : at - 16] == b"PK\6\7":
        end -= 76
        record, length, offset = struct.unpack("<4s36xQQ", tail[at - 76 : at - 20])
        if record != b"PK\6\6" or struct.unpack("<Q", tail[at - 12 : at - 4]) != (end,):
            return False
    return bool(at + 22 + comment == len(tail) and offset + length == end)


def _count_members(file: IO[bytes], budget: Budget) -> None:
    """Count the entries of the directory that Python's reader will read, before it does."""
    record = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if record is None:
        raise zipfile.BadZipFile("File is not a zip file")
    length, end = record[5], record[9]
    if length > MAX_DIRECTORY:
        raise Exhausted(f"a central directory of {length} bytes")
    # As zipfile does: the directory ends where the end records begin.
    if record[0] == b"PK\6\6":
        end -= 76
    if end < length:
        raise zipfile.BadZipFile("its central directory begins before the file does")
    file.seek(end - length)
    directory = file.read(length)
    budget.unpack(length)
    at = 0
    while at + _CENTRAL <= length:
        budget.enter()
        at += _CENTRAL + sum(_CENTRAL_LENGTHS.unpack_from(directory, at + 28))


def _check_apart(infos: list[zipfile.ZipInfo]) -> None:
    """Refuse members that share bytes, of which a small file can unpack to any size."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    for one, other in itertools.pairwise(ordered):
        header = 30 + len(one.orig_filename)
        if one.header_offset + header + one.compress_size > other.header_offset:
            raise zipfile.BadZipFile("its members overlap")


class Part(io.RawIOBase):
    """Some bytes of a file, as a file that one can seek in."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        left = max(0, self._size - self._at)
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; returns where."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return where it is."""
        return self._at


def is_tar(start: bytes) -> bool:
    """Whether a file's first block is a tar header, whose checksum is right."""
    try:
        tarfile.TarInfo.frombuf(start[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def tar_members(file: IO[bytes], budget: Budget) -> Iterator[tuple[str, Part]]:
    """Yield the names and the bytes of what is in a tar file, up to where it is none.

    Raises `Exhausted`.
    """
    size = file.seek(0, io.SEEK_END)
    at, name = 0, ""
    while at + tarfile.BLOCKSIZE <= size:
        file.seek(at)
        block = file.read(tarfile.BLOCKSIZE)
        if not is_tar(block):
            return
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        budget.enter()
        at += tarfile.BLOCKSIZE
        length = max(0, info.size) if info.type not in _WITHOUT_BYTES else 0
        if info.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            name = _long_name(file, info)
        else:
            yield name or info.name, Part(file, at, min(length, size - at))
            name = ""
        at += length + -length % tarfile.BLOCKSIZE


# Their headers may say a size, and nothing follows.
_WITHOUT_BYTES = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                  tarfile.DIRTYPE, tarfile.FIFOTYPE)  # fmt: skip


def _long_name(file: IO[bytes], info: tarfile.TarInfo) -> str:
    data = file.read(min(max(0, info.size), 1 << 16))
    if info.type == tarfile.XHDTYPE:
        data = data.partition(b" path=")[2].partition(b"\n")[0]
    return data.rstrip(b"\0").decode("utf-8", "surrogateescape")


# How compressed streams begin, and what unpacks them; joblib writes all of these.
_STREAMS: tuple[tuple[bytes, Callable[[], _Inflate]], ...] = (
    (b"\x1f\x8b\x08", lambda: zlib.decompressobj(16 + zlib.MAX_WBITS)),
    *((b"x" + level, zlib.decompressobj) for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", lzma.LZMADecompressor),
    (b"\x5d\0\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE)),
)


# How files begin that Python's own library cannot open.
_SEALED = {b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4",
           b"7z\xbc\xaf\x27\x1c": "7z"}  # fmt: skip


def sealed_kind(start: bytes) -> str:
    """Return the kind of a file of files, or of a stream, that is not looked into; else empty."""
    return next((kind for begins, kind in _SEALED.items() if start.startswith(begins)), "")


class _Inflate(Protocol):
    """What zlib, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@contextmanager
def unpacked(file: IO[bytes], start: bytes, budget: Budget) -> Iterator[IO[bytes] | None]:
    """Yield what a compressed stream holds, up to where it is damaged; None for any other file."""
    make = next((make for begins, make in _STREAMS if start.startswith(begins)), None)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
        size = 0
        for piece in _inflated(file, make()) if make else ():
            budget.unpack(len(piece))
            size += copy.write(piece)
        copy.seek(0)
        yield copy if size else None


def _inflated(file: IO[bytes], inflate: _Inflate) -> Iterator[bytes]:
    """Yield plain bytes up to the end of the stream, or to where it is damaged."""
    file.seek(0)
    while not inflate.eof:
        tail = getattr(inflate, "unconsumed_tail", b"")
        waits = getattr(inflate, "needs_input", True)
        data = tail or (file.read(_CHUNK) if waits else b"")
        try:
            plain = inflate.decompress(data, _CHUNK)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
            return
        yield plain
        if not plain and not data:
            return


@contextmanager
def copied(packed: IO[bytes]) -> Iterator[IO[bytes]]:
    """Give a copy of something packed, in which one can seek."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
        packed.seek(0)
        while piece := packed.read(_CHUNK):
            copy.write(piece)
        copy.seek(0)
        yield copy


def skip_array_header(file: IO[bytes], start: bytes) -> bool:
    """Go to the pickle in an array of objects as NumPy saves it; False for anything else."""
    if not start.startswith(b"\x93NUMPY"):
        return False
    file.seek(8)
    form = "<H" if start[6:7] == b"\1" else "<I"
    length = file.read(struct.calcsize(form))
    if len(length) < struct.calcsize(form):
        return False
    (size,) = struct.unpack(form, length)
    header = file.read(min(size, 1 << 16))
    # What else has an O in its type, as records have, is an array of objects too.
    descr = header.partition(b"descr")[2].partition(b"fortran_order")[0]
    return b"O" in descr
