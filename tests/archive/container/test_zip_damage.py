"""Damage: a zip cut off anywhere, with any bit flipped, or with bytes put in or taken out."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.archive.container.zip_read import ZipArchive
from tests.archive.container.conftest import Problems
from tests.archive.container.zips import Member, extra, pieces, zip_of

pytestmark = pytest.mark.slow

FOLDER = 0o040755 << 16 | 0x10
TIMES = {"extra": extra(0x5455, b"\3" * 9)}
# What zlib makes of them; in full, so that another zlib changes nothing here.
C, D = bytes.fromhex("2b4fcd4ccf282956 28c7410300"), bytes.fromhex("2b4fcd4ccf28290600")
# All that a member can look like: stored, a folder, deflated, with descriptors, with Unix' times.
KINDS = (
    Member("a.txt", b"alpha"),
    Member("b/", b"", central={"attributes": FOLDER}),
    Member("b/c.pt", b"weights " * 4, deflated=True, packed=C, both=TIMES),
    Member("d", b"weights", deflated=True, packed=D, descriptor="4s3I"),
    Member("e", b"", deflated=True, packed=b"\3\0", descriptor="3I"),
)
PIECES = pieces(*KINDS, end64={})
WHOLE = zip_of(*KINDS, end64={})

# Bits that may be other ones, and why.
HARMLESS = {
    # Who made it, and by which version; readers go by the features that it uses.
    "central made": 0xFFFF,
    "zip64 end made": 0xFFFF,
    # Any version up to the one that knows zip64, 4.5: 20 is 0b10100, 45 is 0b101101.
    "local needed": 0b01_1111,
    "central needed": 0b01_1111,
    "zip64 end needed": 0b10_1101,
    # Whether it is text.
    "central internal": 1,
    # Permissions, which nothing takes from here, and DOS's; whether Unix's type is given at all.
    "central attributes": 0o107777 << 16 | 0o040000 << 16 | 0x37,
    # When it was changed: seconds that only some readers look at.
    "local extra": int.from_bytes(bytes(4) + b"\xff" * 9, "little"),
    "central extra": int.from_bytes(bytes(4) + b"\xff" * 9, "little"),
    # Of the last byte of the three deflate streams, what is behind their last code.
    "data": 0xFE << 96 | 0xFC << 64 | 0xFC << 8,
    # Before a descriptor: 0, or as in `e` what the directory says, 2.
    "local packed": 2,
}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of what is not damaged."""
    file = tmp_path_factory.mktemp("healthy") / "model.mar"
    file.write_bytes(WHOLE)
    with ZipArchive(file) as archive:
        assert archive.problems == []
        return archive.digests().members


def test_cut_off_anywhere(zip_problems: Problems) -> None:
    for length in range(len(WHOLE)):
        assert len(zip_problems(WHOLE[:length])) == 1, length


def test_every_bit_counts_or_is_known_not_to(tmp_path: Path, healthy: dict[str, str]) -> None:
    file = tmp_path / "model.mar"
    passed: defaultdict[str, int] = defaultdict(int)
    start = 0
    for kind, data in PIECES:
        for bit in range(8 * len(data)):
            flipped = bytearray(WHOLE)
            flipped[start + bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            with ZipArchive(file) as archive:
                if archive.problems or (digests := archive.digests()).problems:
                    continue
            assert digests.members == healthy, (kind, bit)
            passed[kind] |= 1 << bit
        start += len(data)
    assert dict(passed) == HARMLESS


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    where=st.integers(0, len(WHOLE)),
    removed=st.integers(0, 40),
    inserted=st.binary(max_size=40) | st.sampled_from([WHOLE, *(data for _, data in PIECES)]),
)
def test_damage_is_found_or_changes_no_member(
    tmp_path_factory: pytest.TempPathFactory,
    healthy: dict[str, str],
    where: int,
    removed: int,
    inserted: bytes,
) -> None:
    """Whatever happens to the bytes: no exception, and what passes holds the same members."""
    file = tmp_path_factory.getbasetemp() / "damaged.mar"
    file.write_bytes(WHOLE[:where] + inserted + WHOLE[where + removed :])
    with ZipArchive(file) as archive:
        if not archive.problems and not (digests := archive.digests()).problems:
            assert digests.members == healthy
