"""Reading zips: deflate streams, bombs, and what other tools write."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.container import budget, zip_end
from marwright.archive.container.limits import MAX_TEXT
from marwright.archive.container.open import open_archive
from marwright.archive.container.stream import CHUNK
from marwright.archive.container.types import Unreadable
from marwright.archive.container.zip_read import ZipArchive
from tests.archive.container.conftest import Problems
from tests.archive.container.zips import Member, deflate, one, zip64, zip_of

ALPHA = deflate(b"alpha")
STREAMS = {
    "bytes behind its end": (ALPHA + b"x", 5, "has bytes behind the end of its compressed data"),
    "another stream behind its end": (
        ALPHA + ALPHA, 5, "has bytes behind the end of its compressed data",
    ),
    "cut off": (ALPHA[:-1], 5, "its compressed data do not end"),
    "empty": (b"", 0, "its compressed data do not end"),
    "longer than announced": (ALPHA, 4, "unpacks to more than the 4 bytes announced"),
    "longer than nothing": (ALPHA, 0, "unpacks to more than the 0 bytes announced"),
    "shorter than announced": (ALPHA, 6, "unpacks to 5 bytes, announced are 6"),
    "of other bytes": (
        deflate(b"alphA"), 5, f"its CRC-32 is {zlib.crc32(b'alphA'):08x}, "
        f"recorded is {zlib.crc32(b'alpha'):08x}",
    ),
    "no deflate": (
        b"\xff" * 9, 5,
        "its compressed bytes are damaged: Error -3 while decompressing data: invalid block type",
    ),
    "with zlib's header": (
        zlib.compress(b"alpha"), 5, "its compressed bytes are damaged: Error -3 while "
        "decompressing data: invalid stored block lengths",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("packed", "size", "problem"), STREAMS.values(), ids=STREAMS)
def test_deflate_streams(zip_problems: Problems, packed: bytes, size: int, problem: str) -> None:
    data = one(deflated=True, packed=packed, both={"size": size})
    assert zip_problems(data) == [f"a.txt: {problem}"]


def test_a_stored_members_bytes_are_checked(zip_problems: Problems) -> None:
    assert zip_problems(one(packed=b"alphA")) == [
        f"a.txt: its CRC-32 is {zlib.crc32(b'alphA'):08x}, recorded is {zlib.crc32(b'alpha'):08x}"
    ]


def test_a_folder_that_is_deflated_to_something_is_refused(zip_problems: Problems) -> None:
    folder = Member("a/", b"", True, packed=ALPHA, central={"attributes": 0})
    assert zip_problems(zip_of(folder)) == ["a/: unpacks to more than the 0 bytes announced"]


def zeros(size: int) -> bytes:
    """Return a deflate stream of so many MiB of zeros, without making them all."""
    squeeze = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    squeeze.compress(bytes(1 << 20))
    squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return block * size + deflate(b"")


def bomb(name: str, mebibytes: int, **both: Any) -> Member:
    announced = {"size": mebibytes << 20, **both}
    return Member(name, b"", deflated=True, packed=zeros(mebibytes), both=announced)


TIB = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "extra": zip64(2 << 40, len(zeros(1)))}
BOMBS = {
    "of a GiB": (
        zip_of(bomb("a", 1025)),
        "unpacks to 1074790400 bytes, {times} times its own size; no weights shrink like that",
    ),
    "of a GiB in three": (
        zip_of(bomb("a", 350), bomb("b", 350), bomb("c", 325)),
        "unpacks to 1074790400 bytes, {times} times its own size; no weights shrink like that",
    ),
    "of two TiB": (
        zip_of(bomb("a", 1, **TIB)),
        "unpacks to 2199023255552 bytes; more than 1099511627776 are refused",
    ),
    "that hides its size": (
        zip_of(bomb("a", 1025, size=10 << 20)),
        "a: unpacks to more than the 10485760 bytes announced",
    ),
}


@pytest.mark.parametrize(("data", "problem"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_not_unpacked(zip_problems: Problems, data: bytes, problem: str) -> None:
    tracemalloc.start()
    try:
        assert zip_problems(data) == [problem.format(times=(1025 << 20) // len(data))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * CHUNK


def test_more_members_than_are_believed(
    zip_problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MEMBERS", 1)
    data = zip_of(Member("a"), Member("b"))
    assert zip_problems(data) == ["more than 1 members are refused"]


def test_a_larger_directory_than_is_believed(
    zip_problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_end, "MAX_DIRECTORY", 50)
    assert zip_problems(one()) == ["its central directory is 51 bytes long"]


NO_ZIP = {
    b"": "not a zip file: it is too short to be one",
    b"PK\5\6": "not a zip file: it is too short to be one",
    b"PK\3\4 but nothing more" * 100: "not a zip file, or cut off: there is no end record",
    bytes(70_000): "not a zip file, or cut off: there is no end record",
    bytes(40) + b"PK\5\6" + bytes(10): "cut off in the middle of its end record",
}


@pytest.mark.parametrize(("data", "problem"), NO_ZIP.items(), ids=range(len(NO_ZIP)))
def test_what_is_no_zip(zip_problems: Problems, data: bytes, problem: str) -> None:
    assert zip_problems(data) == [problem]


def test_a_file_that_grows_is_not_taken_for_the_one_that_was_walked(tmp_path: Path) -> None:
    file = tmp_path / "model.mar"
    file.write_bytes(one())
    with ZipArchive(file) as archive, file.open("ab") as more:
        more.write(b"more")
        more.flush()
        assert archive.digests().problems == ["the file changed while it was read"]


# Around the pieces that are read and unpacked at a time.
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5]


@pytest.mark.parametrize("deflated", [False, True])
def test_members_of_all_sizes_are_read(tmp_path: Path, deflated: bool) -> None:
    contents = {str(size): os.urandom(size // 2) + bytes(size - size // 2) for size in SIZES}
    (tmp_path / "model.mar").write_bytes(
        zip_of(*(Member(name, content, deflated) for name, content in contents.items()))
    )
    with ZipArchive(tmp_path / "model.mar") as archive:
        digests = archive.digests()
        assert (archive.problems, digests.problems) == ([], [])
        assert digests.members == {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()}
        archive.unpack(tmp_path / "unpacked")
        for name, content in contents.items():
            assert (tmp_path / "unpacked" / name).read_bytes() == content
            if len(content) <= MAX_TEXT:
                assert archive.read(name) == content
        with pytest.raises(Unreadable) as refusal:
            archive.read(str(SIZES[-1]))
    assert str(refusal.value) == "3145733: is 3145733 bytes long; that is no text"


def test_a_damaged_member_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "model.mar").write_bytes(one(deflated=True, packed=ALPHA[:-1]))
    with ZipArchive(tmp_path / "model.mar") as archive, pytest.raises(Unreadable) as refusal:
        archive.read("a.txt")
    assert str(refusal.value) == "a.txt: its compressed data do not end"


CONTENTS = {"a.txt": b"alpha", "b/c.pt": b"weights " * 1000, "b/empty": b""}


class Pipe(io.BytesIO):
    """A stream that cannot go back, as a pipe or a socket."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError("no way back")

    def tell(self) -> int:
        raise OSError("nobody knows")


def by_zipfile(target: Path, method: int, **how: bool) -> None:
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.mkdir("b")
        for name, content in CONTENTS.items():
            with archive.open(name, "w", **how) as member:
                member.write(content)


def by_zipfile_into_a_pipe(target: Path) -> None:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    target.write_bytes(pipe.getvalue())


def by_tool(*command: str) -> Callable[[Path], None]:
    def write(target: Path) -> None:
        if shutil.which(command[0]) is None:
            pytest.skip(f"there is no {command[0]} here")
        folder = target.parent / "files"
        for name, content in CONTENTS.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        filled = [str(target) if word == "TARGET" else word for word in command]
        subprocess.run(filled, cwd=folder, check=True, capture_output=True)

    return write


WRITERS: dict[str, Callable[[Path], None]] = {
    "zipfile, stored": lambda target: by_zipfile(target, zipfile.ZIP_STORED),
    "zipfile, deflated": lambda target: by_zipfile(target, zipfile.ZIP_DEFLATED),
    "zipfile, zip64 by force": lambda target: by_zipfile(
        target, zipfile.ZIP_DEFLATED, force_zip64=True
    ),
    "zipfile, into a pipe": by_zipfile_into_a_pipe,
    "Info-ZIP": by_tool("zip", "-qr", "TARGET", "."),
    "Info-ZIP, stored, without extra fields": by_tool("zip", "-qr0X", "TARGET", "."),
    "Info-ZIP, without folders": by_tool("zip", "-qrD", "TARGET", "."),
    "Java": by_tool("jar", "cf", "TARGET", "."),
    "Java, without its manifest": by_tool("jar", "cfM", "TARGET", "."),
    "Java, stored": by_tool("jar", "cf0", "TARGET", "."),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_others_write_is_read(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "model.mar")
    with open_archive(tmp_path / "model.mar") as archive:
        assert archive.problems == []
        assert archive.digests().problems == []
        assert {name: archive.read(name) for name in CONTENTS} == CONTENTS
        archive.unpack(tmp_path / "unpacked")
    for name, content in CONTENTS.items():
        assert (tmp_path / "unpacked" / name).read_bytes() == content
