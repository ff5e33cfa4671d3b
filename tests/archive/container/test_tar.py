"""Hostile .tar.gz archives: refused where readers could differ, or leave the folder."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import struct
import subprocess
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.archive.container import budget, limits, tar_read
from marwright.archive.container.limits import MAX_TEXT
from marwright.archive.container.open import open_archive
from marwright.archive.container.stream import CHUNK
from marwright.archive.container.tar_read import TarGzArchive
from marwright.archive.container.types import Unreadable
from tests.archive.container.conftest import Problems
from tests.archive.container.tars import (
    END,
    GNU,
    header,
    long_name,
    member,
    packed,
    padded,
    pax,
)

A = member(b"r/a", b"alpha")
B = member(b"r/b/c.pt")
EVIL = member(b"r/evil", b"evil")

NOT_POSIX = "its header is not in the format of POSIX"
TWO_SIZES = "r/evil: is of two sizes: 0 and 4 bytes"
BEHIND = "bytes behind the end of the archive"
BEHIND_GZIP = "bytes behind the end of the gzip stream"

HOSTILE = {
    "a symbolic link": (packed(A, header(b"r/b", 0, b"2")), "r/b: is a link"),
    "a hard link": (packed(A, header(b"r/b", 0, b"1")), "r/b: is a link"),
    "a link with content": (packed(A, member(b"r/b", EVIL, b"1")), "r/b: is a link"),
    **{
        f"a {what}": (packed(A, header(b"r/b", 0, kind)), "r/b: is neither a file nor a folder")
        for what, kind in (
            ("character device", b"3"), ("block device", b"4"), ("fifo", b"6"),
            ("contiguous file", b"7"), ("sparse file of GNU", b"S"), ("volume label", b"V"),
            ("continued file", b"M"), ("folder of an incremental dump", b"D"), ("long link", b"K"),
            ("Solaris header", b"X"), ("type of its own", b"Z"),
        )
    },
    "a header for all members": (
        packed(pax((b"path", b"r/evil"), kind=b"g"), A),
        "PaxHeader: is neither a file nor a folder",
    ),
    "a folder with content": (
        packed(A, member(b"r/b/", EVIL, b"5")), "r/b: is a folder with content",
    ),
    "a file in no folder": (
        packed(member(b"a")), "a: does not lie in a folder, as TorchServe needs it",
    ),
    "two folders": (packed(A, member(b"s/a")), "its members are not all below one folder"),
    "a member twice": (packed(A, A), "r/a: stands in the archive twice"),
    "a folder twice": (
        packed(*[header(b"r/b/", 0, b"5")] * 2), "r/b/: stands in the archive twice",
    ),
    "names that differ by case": (
        packed(member(b"r/Labels"), member(b"r/labels")),
        "r/Labels and r/labels differ by case only",
    ),
    "a file that is a folder": (
        packed(A, member(b"r/a/b")), "r/a is a file, and the folder of r/a/b",
    ),
    # TorchServe goes by the slash: to it, this is a folder.
    "a file with a folder's name": (
        packed(A, member(b"r/b/", b"evil")), "'r/b/': not a plain relative name",
    ),
    "a file with a folder's long name": (
        packed(A, pax((b"path", b"r/evil/")), EVIL), "'r/evil/': not a plain relative name",
    ),
    "an old file with a folder's name": (
        packed(A, member(b"r/b/", b"evil", b"\0")), "r/b: is a folder with content",
    ),
    "a path in an extended header": (
        packed(pax((b"path", b"r/../../evil")), A), "'r/../../evil': not a plain relative name",
    ),
    "a NUL in an extended header": (
        packed(pax((b"path", b"r/a\0.py")), A),
        "an extended header says that path is 'r/a\\x00.py'",
    ),
    "a path in GNU's header": (
        packed(long_name(b"/etc/passwd\0"), A), "'/etc/passwd': not a plain relative name",
    ),
    "a prefix that leads out": (
        packed(member(b"evil", prefix=b"r/..")), "'r/../evil': not a plain relative name",
    ),
    # The same bytes are the time of the last access to GNU, and 1 to who takes it for a prefix.
    "a prefix that is a time to others": (
        packed(member(b"1/a"), member(b"x/evil", magic=GNU, prefix=b"1")),
        f"'1/x/evil': {NOT_POSIX}",
    ),
    "a prefix before there were any": (
        packed(member(b"a", magic=bytes(8), prefix=b"r")), f"'r/a': {NOT_POSIX}",
    ),
    "a header of xstar": (
        packed(member(b"r/a", rest=bytes(8) + b"tar\0")), f"'r/a': {NOT_POSIX}",
    ),
    "a size in an extended header": (
        packed(A, pax((b"size", b"4")), header(b"r/evil") + padded(b"evil")), TWO_SIZES,
    ),
    "a smaller size in an extended header": (
        packed(A, pax((b"size", b"0")), header(b"r/evil", 512), A),
        "r/evil: is of two sizes: 512 and 0 bytes",
    ),
    "a negative size in an extended header": (
        packed(A, pax((b"size", b"-512")), header(b"r/evil")),
        "an extended header says that size is '-512'",
    ),
    "a sparse file of POSIX": (
        packed(pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9999999")), A),
        "an extended header says 'GNU.sparse.major', which may change what a member is",
    ),
    "a time in words": (
        packed(pax((b"mtime", b"today")), A), "an extended header says that mtime is 'today'",
    ),
    "another character set": (
        packed(pax((b"hdrcharset", b"BINARY")), A),
        "an extended header says 'hdrcharset', which may change what a member is",
    ),
    "two paths in an extended header": (
        packed(pax((b"path", b"r/a"), (b"path", b"r/b")), A),
        "an extended header says 'path', which may change what a member is",
    ),
    "two extended headers": (
        packed(pax((b"path", b"r/a")), pax((b"path", b"r/b")), A),
        "r/a: is neither a file nor a folder",
    ),
    "an extended header and GNU's": (
        packed(pax((b"path", b"r/a")), long_name(b"r/b\0"), A),
        "r/a: is neither a file nor a folder",
    ),
    "an old folder that has a file's long name": (
        packed(A, long_name(b"r/evil"), header(b"r/", 0, b"\0")),
        "'r': an old header behind an extended one",
    ),
    "a huge extended header": (
        packed(pax((b"comment", bytes(1 << 16))), A), "an extended header of 65551 bytes",
    ),
    **{
        f"the extended header {raw!r}": (
            packed(pax(raw=raw), A), "an extended header is damaged",
        )
        for raw in (
            b"junk", b"9 path=r/evil\n", b"99 path=r/evil\n", b"14 path=r/evil\0", b"0 path=r/a\n",
            b"-1 path=r/evil\n", b"8 r/evil\n", b"14 path=r/evil\n\0", b" 14 path=r/evil\n",
        )
    },
    **{
        f"the size {size!r}": (
            packed(header(b"r/a", size)), "'r/a': its size is not a number",
        )
        for size in (
            b"-0000000001\0", b"0o000000001\0", b"+0000000001\0", b"0000_000001\0", bytes(12),
        )
    },
    "a size that is no number": (
        packed(header(b"r/a", b"x" * 12)), "a header is damaged: invalid header",
    ),
    "a negative binary size": (
        packed(A, header(b"r/b", b"\xff" * 11 + b"\0")), "'r/b': its size is not a number",
    ),
    "a size far behind the end": (
        packed(header(b"r/a", b"\x80" + b"\x7f" * 11)),
        "r/a: the archive ends in the middle of it",
    ),
    "another checksum": (
        packed(A[:148] + b"000000\0 " + A[156:]), "a header is damaged: bad checksum",
    ),
    "bytes behind a member": (packed(A[:-1] + b"x"), "bytes behind the end of a member"),
    "bytes behind an extended header": (
        packed(pax((b"path", b"r/a"))[:-1] + b"x", A), "bytes behind the end of a member",
    ),
    "a member behind the end": (packed(A, end=END + B + END), BEHIND),
    "bytes behind the end": (packed(A, end=END + bytes(10_000) + b"x"), BEHIND),
    "no end": (packed(A, end=b""), "the archive ends before its end record"),
    "half an end": (packed(A, end=bytes(100)), "the archive ends before its end record"),
    "bytes behind gzip's end": (packed(A) + b"x", BEHIND_GZIP),
    "zeros behind gzip's end": (packed(A) + bytes(512), BEHIND_GZIP),
    # TorchServe stops where the first stream ends.
    "a second gzip stream": (packed(A, end=b"") + packed(EVIL), BEHIND_GZIP),
    "an empty second gzip stream": (packed(A) + gzip.compress(b""), BEHIND_GZIP),
    "a second gzip stream of zeros": (packed(A) + gzip.compress(END), BEHIND_GZIP),
    "nothing but gzip": (gzip.compress(b""), "the archive ends before its end record"),
    "no tar": (gzip.compress(b"hello" * 200), "a header is damaged: invalid header"),
    "no gzip": (b"hello", "not a .tar.gz, or damaged: Error -3 while decompressing data: "
                          "incorrect header check"),
    "nothing": (b"", "the gzip stream is cut off"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "problem"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives(tar_problems: Problems, data: bytes, problem: str) -> None:
    assert tar_problems(data) == [problem]


NAMES = [b"/etc/passwd", b"../evil", b"r/../evil", b"r/a\\b", b"r/a\nb", "r/é".encode(), b"r//a",
         b"./r/a", b"r/a.", b"r/C:a"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(tar_problems: Problems, name: bytes) -> None:
    shown = name.decode("utf-8")
    assert tar_problems(packed(A, member(name))) == [f"{shown!r}: not a plain relative name"]


LONG = b"r/" + b"a" * 120
GOOD = {
    "files": (packed(A, B), {"a", "b/c.pt"}),
    "folders": (packed(header(b"r/", 0, b"5"), header(b"r/b/", 0, b"5"), B), {"b/c.pt"}),
    "old folders": (packed(header(b"r/b/", 0, b"\0"), B), {"b/c.pt"}),
    "old files": (packed(member(b"r/a", kind=b"\0", magic=bytes(8))), {"a"}),
    "files of GNU": (packed(member(b"r/a", magic=GNU)), {"a"}),
    "a prefix": (packed(member(b"c.pt", prefix=b"r/b")), {"b/c.pt"}),
    "a long name": (packed(pax((b"path", LONG), (b"mtime", b"1.5")), A), {"a" * 120}),
    "a long name of GNU": (packed(long_name(LONG + b"\0"), A), {"a" * 120}),
    "one block of zeros for an end": (packed(A, end=bytes(512)), {"a"}),
    "many blocks of zeros for an end": (packed(A, end=bytes(1 << 20)), {"a"}),
    "nothing": (packed(), set()),
}


@pytest.mark.parametrize(("data", "names"), GOOD.values(), ids=GOOD)
def test_archives_that_all_readers_read_alike(tmp_path: Path, data: bytes, names: set[str]) -> None:
    (tmp_path / "model.tar.gz").write_bytes(data)
    with TarGzArchive(tmp_path / "model.tar.gz") as archive:
        assert (archive.problems, archive.digests().problems) == ([], [])
        assert archive.members.keys() == names
        archive.unpack(tmp_path / "unpacked")
    for name in names:
        assert (tmp_path / "unpacked" / name).is_file()


PLAIN = b"".join((header(b"r/", 0, b"5"), A, pax((b"path", LONG)), B, END))
# As our own writer has it: one stored block.
STORED = b"".join((
    gzip.compress(b"")[:3], bytes(6), b"\xff",
    struct.pack("<B2H", 1, len(PLAIN), len(PLAIN) ^ 0xFFFF), PLAIN,
    struct.pack("<2I", zlib.crc32(PLAIN), len(PLAIN)),
))  # fmt: skip
WHOLE = gzip.compress(PLAIN)
# Of gzip's header: whether it may be text; when, how hard and where it was packed. And what fills
# up the byte of a stored block's header.
HARMLESS = {8 * 3, *range(8 * 4, 8 * 10), *range(8 * 10 + 3, 8 * 11)}


def test_cut_off_anywhere(tar_problems: Problems) -> None:
    for length in range(len(WHOLE)):
        assert tar_problems(WHOLE[:length]) == ["the gzip stream is cut off"], length


def digests(file: Path, data: bytes) -> dict[str, str]:
    """Return the members' digests; none when something is wrong."""
    file.write_bytes(data)
    with TarGzArchive(file) as archive:
        if archive.problems:
            return {}
        found = archive.digests()
    assert found.problems == []
    return found.members


@pytest.mark.slow
@pytest.mark.parametrize("whole", [STORED, WHOLE], ids=["stored", "deflated"])
def test_every_bit_counts_or_is_known_not_to(tmp_path: Path, whole: bytes) -> None:
    healthy, passed = digests(tmp_path / "a.tar.gz", whole), set()
    assert healthy.keys() == {"a", "a" * 120}
    # Of the many bytes of members' headers, one bit each.
    ends = {*range(15), *range(len(whole) - 8, len(whole))}
    for bit in range(8 * len(whole)):
        if whole == STORED and bit // 8 not in ends and bit % 8 != bit // 8 % 8:
            continue
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        if found := digests(tmp_path / "a.tar.gz", flipped):
            assert found == healthy, bit
            assert gzip.decompress(flipped) == PLAIN, bit
            passed.add(bit)
    # Deflate can say the same in several ways.
    inside = {*range(8 * 10, 8 * (len(whole) - 8))} if whole == WHOLE else set()
    assert passed - inside == HARMLESS - inside


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    where=st.integers(0, len(PLAIN)),
    removed=st.sampled_from([0, 1, 512]),
    inserted=st.binary(max_size=8) | st.sampled_from([A, B, END, header(b"r/x", 512)]),
)
def test_damage_before_packing_raises_nothing(
    tmp_path_factory: pytest.TempPathFactory, where: int, removed: int, inserted: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged.tar.gz"
    file.write_bytes(gzip.compress(PLAIN[:where] + inserted + PLAIN[where + removed :], 1))
    with TarGzArchive(file) as archive:
        assert archive.problems or not archive.digests().problems


BOMBS = {"a member": header(b"r/a", 64 << 20), "behind the end": A + END}


@pytest.mark.parametrize("before", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_not_unpacked(
    tar_problems: Problems, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    monkeypatch.setattr(limits, "RATIO_COUNTS_FROM", 16 << 20)
    data = gzip.compress(before + bytes(64 << 20))
    tracemalloc.start()
    try:
        (problem,) = tar_problems(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # It stops at the first piece that is too much.
    assert re.fullmatch(
        r"unpacks to 1[67]\d{6} bytes, \d+ times its own size; no weights shrink like that", problem
    )
    assert peak < 8 * CHUNK


def test_more_members_than_are_believed(
    tar_problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MEMBERS", 1)
    assert tar_problems(packed(A, B)) == ["more than 1 members are refused"]


def test_small_members_are_read_without_inflating_again(tmp_path: Path) -> None:
    file = tmp_path / "model.tar.gz"
    file.write_bytes(packed(A, B))
    with TarGzArchive(file) as archive:
        file.unlink()
        assert archive.read("b/c.pt") == b"weights"


def test_an_archive_that_changes_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_read, "_KEPT", 0)
    file = tmp_path / "model.tar.gz"
    file.write_bytes(packed(A, B))
    with TarGzArchive(file) as archive:
        file.write_bytes(packed(A, B)[:40])
        assert archive.digests().problems == [
            "the file changed while it was read: the gzip stream is cut off"
        ]
        with pytest.raises(Unreadable) as refusal:
            archive.read("b/c.pt")
        assert str(refusal.value) == "b/c.pt: the gzip stream is cut off"
        file.write_bytes(packed(A))
        with pytest.raises(Unreadable) as refusal:
            archive.read("b/c.pt")
        assert str(refusal.value) == "b/c.pt: is gone"


# Around the pieces that are read and unpacked at a time.
SIZES = [0, 1, 511, 512, 513, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]


def test_members_of_all_sizes_are_read(tmp_path: Path) -> None:
    contents = {str(size): os.urandom(size // 2) + bytes(size - size // 2) for size in SIZES}
    parts = (member(f"r/{name}".encode(), content) for name, content in contents.items())
    (tmp_path / "model.tar.gz").write_bytes(packed(*parts))
    with TarGzArchive(tmp_path / "model.tar.gz") as archive:
        assert archive.problems == []
        found = archive.digests().members
        assert found == {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()}
        archive.unpack(tmp_path / "unpacked")
        for name, content in contents.items():
            assert (tmp_path / "unpacked" / name).read_bytes() == content
            if len(content) <= MAX_TEXT:
                assert archive.read(name) == content
        with pytest.raises(Unreadable) as refusal:
            archive.read(str(SIZES[-1]))
    assert str(refusal.value) == "3145733: is 3145733 bytes long; that is no text"


CONTENTS = {"a.txt": b"alpha", "b" * 60 + "/" + "c" * 60: b"weights " * 1000, "b/empty": b""}


def by_tarfile(format: int) -> Callable[[Path, Path], None]:
    def write(folder: Path, target: Path) -> None:
        with tarfile.open(target, "w:gz", format=format) as archive:
            archive.add(folder, arcname="model")

    return write


def by_tar(*options: str) -> Callable[[Path, Path], None]:
    def write(folder: Path, target: Path) -> None:
        if shutil.which("tar") is None:
            pytest.skip("there is no tar here")
        command = ["tar", "-czf", str(target), *options, "-C", str(folder.parent), folder.name]
        subprocess.run(command, check=True, capture_output=True)

    return write


WRITERS = {
    "tarfile, pax": by_tarfile(tarfile.PAX_FORMAT),
    "tarfile, GNU": by_tarfile(tarfile.GNU_FORMAT),
    "tar": by_tar(),
    "tar, pax": by_tar("--format=posix"),
    "tar, ustar": by_tar("--format=ustar"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_others_write_is_read(tmp_path: Path, write: Callable[[Path, Path], None]) -> None:
    for name, content in CONTENTS.items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(content)
    write(tmp_path / "model", tmp_path / "model.tar.gz")
    with open_archive(tmp_path / "model.tar.gz") as archive:
        assert archive.problems == []
        assert archive.digests().problems == []
        assert {name: archive.read(name) for name in CONTENTS} == CONTENTS
