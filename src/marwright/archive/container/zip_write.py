"""Write zip files of stored members: one pass over the bytes, the same bytes every time."""

from __future__ import annotations

import struct
import zlib
from datetime import UTC, datetime
from typing import BinaryIO

from marwright.archive.container.stream import Buffer, Sink
from marwright.archive.container.writer import Writer
from marwright.archive.container.zip_format import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    END,
    END64,
    END64_SIGNATURE,
    END_SIGNATURE,
    EXTRA_ZIP64,
    LIMIT_16,
    LIMIT_32,
    LOCAL,
    LOCAL_CRC_OFFSET,
    LOCAL_SIGNATURE,
    LOCATOR,
    LOCATOR_SIGNATURE,
    STORED,
    UNIX,
    VERSION,
    VERSION_64,
)

_MODE = 0o100644 << 16


class ZipWriter(Writer):
    """Adds members to an open, empty, seekable file. Nothing of this machine gets into it.

    Stored, because weights do not shrink, the server unpacks stored bytes several times faster,
    and compressed bytes would depend on the version of zlib.
    """

    def __init__(self, file: BinaryIO, date: datetime) -> None:
        self._file = file
        self._offset = 0
        self._start = 0
        self._crc = 0
        self._central: list[bytes] = []
        date = date.astimezone(UTC)
        # Seconds count by twos.
        time = date.hour << 11 | date.minute << 5 | date.second // 2
        day = (date.year - 1980) << 9 | date.month << 5 | date.day
        # Of all headers: flags, method, time and date.
        self._common = 0, STORED, time, day

    def _begin(self, name: str, size: int) -> Sink:
        self._start, large = self._offset, size >= LIMIT_32
        shown = LIMIT_32 if large else size
        extra = struct.pack("<2H2Q", EXTRA_ZIP64, 16, size, size) if large else b""
        # No CRC-32 yet.
        header = LOCAL.pack(
            LOCAL_SIGNATURE, VERSION_64 if large else VERSION, *self._common, 0, shown, shown,
            len(name), len(extra),
        )  # fmt: skip
        self._write(header + name.encode("ascii") + extra)
        self._crc = 0
        return self._take

    def _end(self, name: str, size: int) -> None:
        # Only now known; a data descriptor behind the member is nothing that TorchServe reads.
        self._file.seek(self._start + LOCAL_CRC_OFFSET)
        self._file.write(struct.pack("<I", self._crc))
        self._file.seek(self._offset)
        wide = [value for value in (size, size, self._start) if value >= LIMIT_32]
        extra = struct.pack(f"<2H{len(wide)}Q", EXTRA_ZIP64, 8 * len(wide), *wide) if wide else b""
        version = VERSION_64 if wide else VERSION
        size, offset = min(size, LIMIT_32), min(self._start, LIMIT_32)
        entry = CENTRAL.pack(
            CENTRAL_SIGNATURE, UNIX << 8 | version, version, *self._common, self._crc, size, size,
            len(name), len(extra), 0, 0, 0, _MODE, offset,
        )  # fmt: skip
        self._central.append(entry + name.encode("ascii") + extra)

    def close(self) -> None:
        """Write the central directory; the file itself stays open."""
        start, count = self._offset, len(self._central)
        for entry in self._central:
            self._write(entry)
        size, end = self._offset - start, self._offset
        if count >= LIMIT_16 or size >= LIMIT_32 or start >= LIMIT_32:
            version = UNIX << 8 | VERSION_64, VERSION_64
            self._write(
                END64.pack(
                    END64_SIGNATURE, END64.size - 12, *version, 0, 0, count, count, size, start
                )
            )
            self._write(LOCATOR.pack(LOCATOR_SIGNATURE, 0, end, 1))
        count = min(count, LIMIT_16)
        places = min(size, LIMIT_32), min(start, LIMIT_32)
        self._write(END.pack(END_SIGNATURE, 0, 0, count, count, *places, 0))

    def _take(self, data: Buffer) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._write(data)

    def _write(self, data: Buffer) -> None:
        self._file.write(data)
        self._offset += len(data)
