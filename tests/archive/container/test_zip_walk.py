"""Hostile zips: readers that go by the directory and those that do not must see the same."""

from __future__ import annotations

import stat

import pytest

from tests.archive.container.conftest import Problems
from tests.archive.container.zips import MODE, Member, extra, one, zip_of

A = Member("a.txt", b"alpha")
B = Member("b/model.pt")
HIDDEN = Member("a.txt", b"ALPHA", listed=False)

NEVER_READ = {
    "a member in front": (
        zip_of(HIDDEN, B),
        "b/model.pt: begins 40 bytes after what is before it: something is hidden there",
    ),
    "a member between others": (
        zip_of(A, HIDDEN, B),
        "b/model.pt: begins 40 bytes after what is before it: something is hidden there",
    ),
    "a member at the end": (
        zip_of(A, B, HIDDEN),
        "40 bytes between the last member and the central directory: a member is hidden there",
    ),
    "bytes at the end": (
        zip_of(A, gap=b"x"),
        "1 bytes between the last member and the central directory: a member is hidden there",
    ),
    "a member in an extra field": (
        one(both={"extra": extra(0xCAFE, zip_of(HIDDEN))}),
        "a.txt: has an extra field 0xcafe of 62 bytes",
    ),
    "a member in the comment of another": (
        one(central={"comment": zip_of(HIDDEN)}),
        "a.txt: has a comment of 62 bytes",
    ),
    "a member in the comment of the archive": (
        zip_of(A, end={"comment_length": 40}, behind=zip_of(HIDDEN)[:40]),
        "a comment of 40 bytes behind the end of the archive",
    ),
    "an archive in the comment of the archive": (
        zip_of(A, end={"comment_length": 62}, behind=zip_of(HIDDEN)),
        "the central directory should end at byte 40, and ends at 153: bytes were added before, "
        "behind or inside the archive",
    ),
    "a comment of the archive": (
        zip_of(A, end={"comment_length": 5}, behind=b"hello"),
        "a comment of 5 bytes behind the end of the archive",
    ),
    "a comment that is not there": (
        zip_of(A, end={"comment_length": 5}),
        "the end record announces a comment that is not there",
    ),
    "bytes behind the archive": (
        zip_of(A, behind=b"hello"),
        "5 bytes behind the end of the archive",
    ),
    "a script in front": (
        b"#!/bin/sh\n" + zip_of(A),
        "the central directory should end at byte 91, and ends at 101: bytes were added before, "
        "behind or inside the archive",
    ),
    "a script in front, counted in": (
        zip_of(Member("a.txt", b"alpha", before=b"#!/bin/sh\n")),
        "a.txt: begins 10 bytes after what is before it: something is hidden there",
    ),
    "a second end record": (
        zip_of(A) + zip_of(A)[-22:],
        "the central directory should end at byte 91, and ends at 113: bytes were added before, "
        "behind or inside the archive",
    ),
    "a second archive": (
        zip_of(A) + zip_of(A),
        "the central directory should end at byte 91, and ends at 204: bytes were added before, "
        "behind or inside the archive",
    ),
    "bytes behind the directory's entries": (
        zip_of(A, inside=b"junk"),
        "the central directory holds 4 bytes behind its entries",
    ),
    "an entry more than the end record says": (
        zip_of(A, B, end={"here": 1, "count": 1}),
        "the central directory holds 56 bytes behind its entries",
    ),
    "an entry fewer than the end record says": (
        zip_of(A, end={"here": 2, "count": 2}),
        "entry 2 of the central directory: the directory ends before it",
    ),
    "a directory longer than said": (
        zip_of(A, end={"length": 50}),
        "the central directory should end at byte 90, and ends at 91: bytes were added before, "
        "behind or inside the archive",
    ),
    "a directory elsewhere": (
        zip_of(A, end={"start": 41, "length": 50}),
        "entry 1 of the central directory: is not one",
    ),
    "an entry that is none": (
        one(central={"signature": b"PK\1\1"}),
        "entry 1 of the central directory: is not one",
    ),
    "a name that reaches out of the directory": (
        one(central={"name_length": 6}),
        "entry 1 of the central directory: the directory ends before it",
    ),
    "an entry of the directory only": (
        zip_of(Member("ghost", here=False), A),
        "ghost: its local header calls it b'a.txt'",
    ),
    "an entry of the directory only, at the end": (
        zip_of(A, Member("ghost", here=False)),
        "ghost: there is no local header where the directory says",
    ),
    "two entries for one member": (
        zip_of(A, Member("a.txt", b"alpha", here=False, central={"offset": 0})),
        "a.txt: overlaps what is before it",
    ),
    "two names for one member": (
        zip_of(A, Member("evil", b"alpha", here=False, central={"offset": 0})),
        "evil: overlaps what is before it",
    ),
    "a member within another": (
        zip_of(
            Member("a", zip_of(Member("b"))[:38]),
            Member("b", here=False, central={"offset": 31}),
        ),
        "b: overlaps what is before it",
    ),
    "a member that reaches into the directory": (
        one(both={"packed": 6, "size": 6}),
        "the last member reaches into the central directory",
    ),
    "a member behind the end of the file": (
        one(central={"offset": 1000}),
        "a.txt: begins 1000 bytes after what is before it: something is hidden there",
    ),
    "a local header that is none": (
        one(local={"signature": b"PK\3\3"}),
        "a.txt: there is no local header where the directory says",
    ),
    "another disk": (
        zip_of(A, end={"disk": 1}),
        "is one part of an archive that was split over several files",
    ),
    "a directory on another disk": (
        zip_of(A, end={"start_disk": 1}),
        "is one part of an archive that was split over several files",
    ),
    "fewer entries on this disk": (
        zip_of(A, end={"here": 0}),
        "is one part of an archive that was split over several files",
    ),
    "a member on another disk": (
        one(central={"disk": 1}),
        "a.txt: lies in another file of a split archive",
    ),
}

SAID_DIFFERENTLY = {
    "name": (one(local={"name": b"b.txt"}), "its local header calls it b'b.txt'"),
    "length of the name": (one(local={"name": b"a.tx"}), "its local header calls it b'a.tx'"),
    **{
        field: (
            one(local={field: value}),
            f"its local header and the central directory disagree on {word}",
        )
        for field, value, word in (
            ("flags", 1 << 11, "its flags"),
            ("method", 8, "how it is compressed"),
            ("time", 1, "its time"),
            ("date", 34, "its date"),
            ("crc", 1, "its CRC-32"),
            ("packed", 4, "its compressed size"),
            ("size", 4, "its size"),
        )
    },
    "size before a descriptor": (
        one(deflated=True, descriptor="3I", local={"size": 4, "crc": 0, "packed": 7}),
        "its local header and the central directory disagree on its CRC-32\n"
        "its local header and the central directory disagree on its size",
    ),
}

NAMES = {
    name: f"{name!r}: not a plain relative name"
    for name in (
        "../evil.py", "/evil.py", "a/../../evil.py", "a/..", "..", ".", "./a", "a//b", "//", "/",
        "", "C:\\evil.py", "C:evil.py", "a\\..\\evil.py", "a\0.py", "a\nb", "a\x1b[2J", "a\x7f",
        "a.", "a./b", "a ", "model.pt:stream", "a" * 256, "a/" * 600 + "a",
    )
}  # fmt: skip

RAW_NAMES = {
    "UTF-8, said": one(both={"name": "é.py".encode(), "flags": 1 << 11}),
    "UTF-8, not said": one(both={"name": "é.py".encode()}),
    "cp437": one(both={"name": "é.py".encode("cp437")}),
    "in the directory only": one(central={"name": "é.py".encode()}),
}

COLLISIONS = {
    ("a.txt", "a.txt"): "a.txt: stands in the archive twice",
    ("Labels", "labels"): "Labels and labels differ by case only",
    ("a", "a/b.py"): "a is a file, and the folder of a/b.py",
    ("A", "a/b.py"): "A is a file, and the folder of a/b.py",
    ("a", "a/"): "a is a file, and the folder of a/",
}

MODES = {
    stat.S_IFLNK | 0o777: "is a symbolic link",
    stat.S_IFIFO | 0o644: "is neither a file nor a folder: its mode is 10644",
    stat.S_IFBLK | 0o644: "is neither a file nor a folder: its mode is 60644",
    stat.S_IFCHR | 0o644: "is neither a file nor a folder: its mode is 20644",
    stat.S_IFSOCK | 0o644: "is neither a file nor a folder: its mode is 140644",
    stat.S_IFDIR | 0o755: "is neither a file nor a folder: its mode is 40755",
    0o170644: "is neither a file nor a folder: its mode is 170644",
}

NOT_FOR_US = {
    "encrypted": (one(both={"flags": 1}), "is encrypted"),
    "strongly encrypted": (one(both={"flags": 1 | 1 << 6}), "is encrypted"),
    "a strong encryption flag alone": (
        one(both={"flags": 1 << 6}),
        "has flags that TorchServe does not know: 0x40",
    ),
    "masked headers": (
        one(both={"flags": 1 << 13}),
        "has flags that TorchServe does not know: 0x2000",
    ),
    "a patch": (one(both={"flags": 1 << 5}), "has flags that TorchServe does not know: 0x20"),
    **{
        f"method {method}": (
            one(both={"method": method}),
            f"compressed by method {method}, which TorchServe cannot read",
        )
        for method in (1, 6, 9, 12, 14, 93, 95, 98, 99)
    },
    "stored, with a descriptor": (
        one(descriptor="4s3I"),
        "is stored with a data descriptor, which TorchServe refuses",
    ),
    "stored, of two sizes": (
        one(both={"size": 6}),
        "is stored, and of two sizes: 5 and 6 bytes",
    ),
    "a reader of bzip2 is needed": (
        one(both={"needed": 46}),
        "needs a reader of zip 4.6\nits local header needs a reader of zip 4.6",
    ),
    "another system's version is needed": (
        one(central={"needed": 0x0314}), "needs a reader of zip 78.8",
    ),
    "a later version in the local header": (
        one(local={"needed": 63}), "its local header needs a reader of zip 6.3",
    ),
    "a folder's attribute": (
        one(central={"attributes": MODE | 0x10}), "has attributes that it cannot have: 0x10",
    ),
    "a reparse point of Windows": (
        one(central={"attributes": MODE | 0x400}), "has attributes that it cannot have: 0x400",
    ),
    "internal attributes": (
        one(central={"internal": 2}), "has internal attributes that are not in use: 0x2",
    ),
    "a comment": (one(central={"comment": b"hello"}), "has a comment of 5 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "problem"), NEVER_READ.values(), ids=NEVER_READ)
def test_bytes_that_only_one_of_two_readers_sees(
    zip_problems: Problems, data: bytes, problem: str
) -> None:
    assert zip_problems(data) == [problem]


HEADERS = SAID_DIFFERENTLY | NOT_FOR_US


@pytest.mark.parametrize(("data", "problems"), HEADERS.values(), ids=HEADERS)
def test_headers(zip_problems: Problems, data: bytes, problems: str) -> None:
    assert zip_problems(data) == [f"a.txt: {problem}" for problem in problems.split("\n")]


@pytest.mark.parametrize(("name", "problem"), NAMES.items(), ids=[repr(name) for name in NAMES])
def test_names_that_lead_elsewhere(zip_problems: Problems, name: str, problem: str) -> None:
    assert zip_problems(zip_of(B, Member(name))) == [problem]


@pytest.mark.parametrize("data", RAW_NAMES.values(), ids=RAW_NAMES)
def test_names_that_are_not_ascii(zip_problems: Problems, data: bytes) -> None:
    (problem,) = zip_problems(data)
    assert problem.endswith(": entry 1 of the central directory has a name that is not ASCII")


@pytest.mark.parametrize(
    ("both", "problem"), COLLISIONS.items(), ids=["-".join(b) for b in COLLISIONS]
)
def test_members_that_take_each_others_place(
    zip_problems: Problems, both: tuple[str, str], problem: str
) -> None:
    bare = {"attributes": 0}
    first, second = (Member(name, b"", central=bare) for name in both)
    assert zip_problems(zip_of(first, B, second)) == [problem]


@pytest.mark.parametrize(("mode", "problem"), MODES.items(), ids=[oct(mode) for mode in MODES])
def test_members_that_are_no_files(zip_problems: Problems, mode: int, problem: str) -> None:
    assert zip_problems(one(central={"attributes": mode << 16})) == [f"a.txt: {problem}"]


def test_a_folder_has_no_content(zip_problems: Problems) -> None:
    folder = Member("a/", b"content", central={"attributes": 0})
    assert zip_problems(zip_of(folder)) == ["a/: is a folder with content"]
