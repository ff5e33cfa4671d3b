"""Write .tar.gz files: one pass over the bytes, the same bytes every time."""

from __future__ import annotations

import struct
import tarfile
import zlib
from datetime import UTC, datetime
from typing import BinaryIO

from marwright.archive.container.stream import Buffer, Sink
from marwright.archive.container.writer import Writer

# RFC 1952: no name, no time, no hint at a system or a level.
_GZIP_HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))
# RFC 1951: the most that one stored block holds.
_BLOCK = 0xFFFF


class TarGzWriter(Writer):
    """Adds members below one folder, `root`, as torch-model-archiver does.

    The gzip stream holds stored blocks: weights do not shrink, and what zlib makes of the rest
    depends on its version.
    """

    def __init__(self, file: BinaryIO, root: str, date: datetime) -> None:
        self._file = file
        self._root = root
        self._time = int(date.astimezone(UTC).timestamp())
        self._crc = 0
        self._size = 0
        self._rest = bytearray()
        file.write(_GZIP_HEADER)

    def _begin(self, name: str, size: int) -> Sink:
        info = tarfile.TarInfo(f"{self._root}/{name}")
        info.size, info.mtime, info.mode = size, self._time, 0o644
        self._write(info.tobuf(tarfile.PAX_FORMAT))
        return self._write

    def _end(self, name: str, size: int) -> None:
        self._write(bytes(-size % tarfile.BLOCKSIZE))

    def close(self) -> None:
        """Write the ends of both formats; the file itself stays open."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write_block(self._rest, last=True)
        self._file.write(struct.pack("<2I", self._crc, self._size & 0xFFFFFFFF))

    def _write(self, data: Buffer) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        # Blocks are cut by position alone, whatever the sizes of the pieces.
        data = memoryview(data)
        if self._rest:
            missing = _BLOCK - len(self._rest)
            self._rest += data[:missing]
            data = data[missing:]
            if len(self._rest) < _BLOCK:
                return
            self._write_block(self._rest)
            self._rest = bytearray()
        whole = len(data) - len(data) % _BLOCK
        for at in range(0, whole, _BLOCK):
            self._write_block(data[at : at + _BLOCK])
        self._rest += data[whole:]

    def _write_block(self, data: bytearray | memoryview, *, last: bool = False) -> None:
        size = len(data)
        self._file.write(struct.pack("<B2H", last, size, size ^ 0xFFFF))
        self._file.write(data)
