"""What was built: a record for each step, and whether its outputs are still those."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from marwright.archive.types import read_json
from marwright.files import sha256_file, write_bytes
from marwright.pipeline.keys import Parts


class Output(Struct, frozen=True, kw_only=True):
    """A file as it was recorded: its digest, and what `stat` said of it then."""

    sha256: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Output:
        """Hash a file. The stat comes first: a change in between makes the record distrusted."""
        stat = path.stat()
        return cls(
            sha256=sha256_file(path),
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            ctime_ns=stat.st_ctime_ns,
            inode=stat.st_ino,
        )

    def looks_untouched(self, path: Path) -> bool:
        """Compare what `stat` says. Cannot be fooled by keeping size and mtime: ctime moves."""
        stat = os.stat(path)  # noqa: PTH116
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode) == (
            stat.st_size,
            stat.st_mtime_ns,
            stat.st_ctime_ns,
            stat.st_ino,
        )


class Record(Struct, frozen=True, kw_only=True):
    """A step's last complete run; written last, so its presence means complete outputs."""

    step: str
    key: str
    parts: Parts
    outputs: dict[str, Output]
    note: str


def read_record(path: Path) -> Record | None:
    """Return the record, or None when there is none that can be read."""
    return read_json(path, Record)


def write_record(record: Record, path: Path) -> None:
    """Write a record, atomically."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(record, order="deterministic")))


def changed_outputs(record: Record, root: Path, *, rehash: bool) -> list[str]:
    """Return a line for each output that is missing or not what was recorded.

    Unless `rehash` is set, a file that `stat` finds untouched is trusted; one that was touched is
    hashed, because a copy or a restored backup has the same bytes under other times.
    """
    problems = []
    for path, output in record.outputs.items():
        file = root / path
        if not file.is_file():
            problems.append(f"{path}: missing")
        elif (rehash or not output.looks_untouched(file)) and sha256_file(file) != output.sha256:
            problems.append(f"{path}: changed since step {record.step} made it")
    return problems
