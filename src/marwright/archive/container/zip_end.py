"""Find a zip file's central directory by the records at its end, which must be all there is."""

from __future__ import annotations

import io

from marwright.archive.container.budget import Budget
from marwright.archive.container.limits import MAX_DIRECTORY
from marwright.archive.container.types import Malformed
from marwright.archive.container.zip_format import (
    END,
    END64,
    END64_SIGNATURE,
    END_SIGNATURE,
    LIMIT_16,
    LIMIT_32,
    LOCATOR,
    LOCATOR_SIGNATURE,
    VERSION_64,
)


def find_directory(file: io.FileIO, size: int, budget: Budget) -> tuple[int, int, int]:
    """Return where the central directory starts, how many entries it has and where it ends."""
    if size < END.size:
        raise Malformed("not a zip file: it is too short to be one")
    tail_at = size - END.size
    fields = END.unpack(read_at(file, tail_at, END.size, "the end record"))
    if fields[0] != END_SIGNATURE:
        raise Malformed(_why_no_end(file, size))
    _, disk, start_disk, here, count, length, start, comment = fields
    if comment:
        raise Malformed("the end record announces a comment that is not there")
    end = tail_at
    if LOCATOR.size <= end and (
        read_at(file, end - LOCATOR.size, 4, "the zip64 locator") == LOCATOR_SIGNATURE
    ):
        values = _zip64_end(file, end - LOCATOR.size)
        for narrow, wide, limit in zip(
            (disk, start_disk, here, count, length, start), values,
            (LIMIT_16,) * 4 + (LIMIT_32,) * 2, strict=True,
        ):  # fmt: skip
            if narrow not in (wide, limit):
                raise Malformed("the end record and the zip64 end record disagree")
        disk, start_disk, here, count, length, start = values
        end -= LOCATOR.size + END64.size
    if disk or start_disk or here != count:
        raise Malformed("is one part of an archive that was split over several files")
    # Before any of it is read.
    budget.enter(count)
    if length > MAX_DIRECTORY:
        raise Malformed(f"its central directory is {length} bytes long")
    if start + length != end:
        raise Malformed(
            f"the central directory should end at byte {start + length}, and ends at {end}: bytes "
            "were added before, behind or inside the archive"
        )
    return start, count, end


def _why_no_end(file: io.FileIO, size: int) -> str:
    first = max(0, size - END.size - LIMIT_16)
    tail = read_at(file, first, size - first, "the end of the file")
    at = tail.rfind(END_SIGNATURE)
    if at < 0:
        return "not a zip file, or cut off: there is no end record"
    extra = len(tail) - at - END.size
    if extra < 0:
        return "cut off in the middle of its end record"
    comment = END.unpack_from(tail, at)[-1]
    what = f"a comment of {extra} bytes" if comment == extra else f"{extra} bytes"
    return f"{what} behind the end of the archive"


def _zip64_end(file: io.FileIO, locator_at: int) -> tuple[int, ...]:
    _, disk, at, disks = LOCATOR.unpack(
        read_at(file, locator_at, LOCATOR.size, "the zip64 locator")
    )
    if disk or disks != 1 or at + END64.size != locator_at:
        raise Malformed("the zip64 locator does not point at the record before it")
    record = END64.unpack(read_at(file, at, END64.size, "the zip64 end record"))
    signature, rest, _, needed, *values = record
    if signature != END64_SIGNATURE or rest != END64.size - 12 or needed > VERSION_64:
        raise Malformed("the zip64 end record is not one")
    return tuple(values)


def read_at(file: io.FileIO, offset: int, size: int, what: str) -> bytes:
    """Return bytes of a file. Raises `Malformed`, naming what they are, where it ends before."""
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise Malformed(f"{what}: the file ends in the middle of it")
    return data
