"""Extra fields, zip64 and data descriptors: where a zip says one thing in several places."""

from __future__ import annotations

import struct
import zlib

import pytest

from tests.archive.container.conftest import Problems
from tests.archive.container.zips import Member, deflate, extra, one, zip64, zip_of

TIMES = extra(0x5455, b"\3" + bytes(8))
WIDE = 0xFFFFFFFF
EXTRAS = {
    "a name in Unicode": (
        one(both={"extra": extra(0x7075, b"\1\0\0\0\0evil.py")}),
        "has an extra field 0x7075, which may change what it is",
    ),
    "unknown, in the local header only": (
        one(local={"extra": extra(0x4141, b"")}),
        "has an extra field 0x4141, which may change what it is",
    ),
    "encryption": (
        one(both={"extra": extra(0x9901, bytes(7))}),
        "has an extra field 0x9901, which may change what it is",
    ),
    "twice": (one(both={"extra": TIMES * 2}), "has an extra field 0x5455 twice"),
    "longer than it can be": (
        one(both={"extra": extra(0x5455, bytes(14))}),
        "has an extra field 0x5455 of 14 bytes",
    ),
    "a cut off header": (one(both={"extra": b"UT\5"}), "its extra field is cut off"),
    "cut off": (one(both={"extra": TIMES[:-1]}), "its extra field is cut off"),
    "zip64 that is not needed": (
        one(both={"extra": zip64(5, 5)}),
        "its zip64 field does not fit the header",
    ),
    "zip64 that is not needed, in the local header": (
        one(local={"extra": zip64(5, 5)}),
        "its zip64 field does not fit the header",
    ),
    "zip64 that is missing": (
        one(both={"size": WIDE, "packed": WIDE}),
        "its zip64 field is missing",
    ),
    "zip64 that is missing in the local header": (
        one(both={"size": WIDE, "packed": WIDE}, central={"extra": zip64(5, 5)}),
        "its zip64 field is missing",
    ),
    "zip64 that is too short": (
        one(both={"size": WIDE, "packed": WIDE, "extra": zip64(5)}),
        "its zip64 field does not fit the header",
    ),
    "zip64 that is too long": (
        one(both={"size": WIDE, "packed": WIDE, "extra": zip64(5, 5, 0)}),
        "its zip64 field does not fit the header",
    ),
    "zip64 with a disk": (
        one(central={"size": WIDE, "packed": WIDE, "extra": extra(1, bytes(20))}),
        "its zip64 field does not fit the header",
    ),
    "one size in zip64, in the local header": (
        one(local={"size": WIDE, "extra": zip64(5)}),
        "its local header has one size in a zip64 field; both belong there",
    ),
    "other sizes in zip64": (
        one(local={"size": WIDE, "packed": WIDE, "extra": zip64(5, 6)}),
        "its local header and the central directory disagree on its compressed size",
    ),
    "zip64 before a small descriptor": (
        one(deflated=True, descriptor="3I",
            local={"size": WIDE, "packed": WIDE, "extra": zip64(0, 0)}),
        "has a data descriptor, and a zip64 field that it does not need: Java's versions differ "
        "in how they read that",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "problem"), EXTRAS.values(), ids=EXTRAS)
def test_extra_fields(zip_problems: Problems, data: bytes, problem: str) -> None:
    assert zip_problems(data) == [f"a.txt: {problem}"]


A = Member("a.txt", b"alpha")
NO_RECORD = "the zip64 end record is not one"
NO_LOCATOR = "the zip64 locator does not point at the record before it"
DISAGREE = "the end record and the zip64 end record disagree"
END64 = {
    "another count": (zip_of(A, end64={"here": 2, "count": 2}), DISAGREE),
    "another start": (zip_of(A, end64={"start": 39}), DISAGREE),
    "another length": (zip_of(A, end64={"length": 50}), DISAGREE),
    "another disk": (zip_of(A, end64={"disk": 1}), DISAGREE),
    "another count, of which the end record says nothing": (
        zip_of(A, end64={"here": 2, "count": 2}, end={"here": 0xFFFF, "count": 0xFFFF}),
        "entry 2 of the central directory: the directory ends before it",
    ),
    "more members than are believed": (
        zip_of(A, end64={"here": 100_001, "count": 100_001}, end={"here": 0xFFFF, "count": 0xFFFF}),
        "more than 20000 members are refused",
    ),
    "a longer directory than is believed": (
        zip_of(A, end64={"length": 1 << 60}, end={"length": WIDE}),
        "its central directory is 1152921504606846976 bytes long",
    ),
    "a locator that points elsewhere": (zip_of(A, locator={"offset": 90}), NO_LOCATOR),
    "a locator that points nowhere": (zip_of(A, locator={"offset": (1 << 64) - 1}), NO_LOCATOR),
    "a locator on another disk": (zip_of(A, locator={"disk": 1}), NO_LOCATOR),
    "a locator of two disks": (zip_of(A, locator={"disks": 2}), NO_LOCATOR),
    "a locator without a record": (
        zip_of(A, locator={})[:91] + zip_of(A, locator={})[-42:],
        NO_LOCATOR,
    ),
    "a record of another kind": (zip_of(A, end64={"signature": b"PK\6\5"}), NO_RECORD),
    "a record that is longer": (zip_of(A, end64={"rest": 45}), NO_RECORD),
    "a record of a later version": (zip_of(A, end64={"needed": 62}), NO_RECORD),
    "a locator that is none": (
        zip_of(A, locator={"signature": b"PK\6\5"}),
        "the central directory should end at byte 91, and ends at 167: bytes were added before, "
        "behind or inside the archive",
    ),
    "an end record that refers to none": (
        zip_of(A, end={"start": WIDE}),
        "the central directory should end at byte 4294967346, and ends at 91: bytes were added "
        "before, behind or inside the archive",
    ),
}


@pytest.mark.parametrize(("data", "problem"), END64.values(), ids=END64)
def test_zip64_end_records(zip_problems: Problems, data: bytes, problem: str) -> None:
    assert zip_problems(data) == [problem]


def test_zip64_end_records_may_be_there_without_need(zip_problems: Problems) -> None:
    assert zip_problems(zip_of(A, end64={})) == []
    limits = {"here": 0xFFFF, "count": 0xFFFF, "length": WIDE, "start": WIDE}
    assert zip_problems(zip_of(A, end64={}, end=limits)) == []


def described(content: bytes, descriptor: bytes) -> bytes:
    """Return a zip whose first member has these bytes for its descriptor."""
    data, crc = deflate(content), zlib.crc32(content)
    zero, sums = (
        {"crc": 0, "packed": 0, "size": 0},
        {"crc": crc, "packed": len(data), "size": len(content)},
    )
    packed = {"packed": data + descriptor, "deflated": True}
    first = Member("a.txt", both={"flags": 8}, local=zero, central=sums, **packed)
    return zip_of(first, Member("b.txt"))


SUMS = zlib.crc32(b"alpha"), len(deflate(b"alpha")), 5
SIGNATURE = b"PK\7\x08"


@pytest.mark.parametrize("signature", [b"", SIGNATURE])
def test_a_descriptor_says_what_the_directory_says(
    zip_problems: Problems, signature: bytes
) -> None:
    assert zip_problems(described(b"alpha", signature + struct.pack("<3I", *SUMS))) == []


DESCRIPTORS = {
    "missing": b"",
    "cut off": struct.pack("<2I", *SUMS[:2]),
    "with another CRC-32": struct.pack("<3I", SUMS[0] ^ 1, *SUMS[1:]),
    "with another compressed size": struct.pack("<3I", SUMS[0], 8, 5),
    "with another size": struct.pack("<3I", *SUMS[:2], 6),
    "with another signature": b"PK\7\7" + struct.pack("<3I", *SUMS),
    "with bytes behind it": struct.pack("<3I", *SUMS) + bytes(4),
    # Java's reader takes the sizes of a small member for narrow ones.
    "wide": struct.pack("<I2Q", *SUMS),
    "wide, with a signature": SIGNATURE + struct.pack("<I2Q", *SUMS),
}


@pytest.mark.parametrize("descriptor", DESCRIPTORS.values(), ids=DESCRIPTORS)
def test_another_descriptor_is_refused(zip_problems: Problems, descriptor: bytes) -> None:
    assert zip_problems(described(b"alpha", descriptor)) == [
        "a.txt: what follows it is not its data descriptor"
    ]


def test_a_descriptor_far_behind_the_file_is_not_looked_for(zip_problems: Problems) -> None:
    """Such an offset is none that a file can be asked for."""
    wide = {"packed": WIDE, "size": WIDE, "extra": zip64((1 << 64) - 1, (1 << 64) - 1)}
    data = one(deflated=True, descriptor="3I", central=wide)
    assert zip_problems(data) == [
        "unpacks to 18446744073709551615 bytes; more than 1099511627776 are refused",
        "a.txt: what follows it is not its data descriptor",
    ]


def test_a_small_descriptor_is_not_read_as_the_rest_of_the_file(zip_problems: Problems) -> None:
    data = one(deflated=True, descriptor="3I", central={"packed": 60})
    assert zip_problems(data) == ["a.txt: what follows it is not its data descriptor"]
