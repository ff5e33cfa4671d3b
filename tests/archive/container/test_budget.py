"""A budget ends at its limits, for a member and for the whole, and nowhere else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from archive.container import budget as module
from archive.container.budget import Budget, Exhausted, Metered
from archive.container.open import open_archive
from archive.verify import verify
from archive.write import FORMATS, ArchiveFormat
from recipes.errors import PackError
from tests.archive.container.zips import Member, zip_of
from tests.archive.hostile import WHOLE
from tests.archive.unproven import HANDLE, make, members, packing


def test_limits_grow_with_the_size() -> None:
    small, large = Budget(0), Budget(1_000_000_000)
    assert (small.seconds, large.seconds) == (10, 20)
    assert (small.members, large.members) == (20_000, 120_000)
    assert (small.plain, large.plain) == (512 << 20, 20_000_000_000)
    assert (small.opcodes, large.opcodes) == (4_000_000, 9_000_000)


def test_bytes_count_for_the_member_and_the_whole() -> None:
    whole = Budget(0)
    half = whole.plain // 2
    first, second, third = whole.share(0), whole.share(0), whole.share(0)
    first.unpack(half)
    second.unpack(half)
    with pytest.raises(Exhausted, match="unpacks to more than 536870912 bytes"):
        third.unpack(1)
    alone = Budget(0).share(0)
    with pytest.raises(Exhausted):
        alone.unpack(whole.plain + 1)


def test_members_of_one_are_not_those_of_another() -> None:
    whole = Budget(0)
    for _ in range(3):
        whole.share(0).enter(20_000)
    with pytest.raises(Exhausted, match="more than 20000 members are refused"):
        whole.share(0).enter(20_001)


def test_time_ends_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "process_time", lambda: clock[0])
    whole = Budget(100_000_000)
    share, source = whole.share(5), Metered(io.BytesIO(b"ab"), whole)
    clock[0] = 10.9
    share.check()
    assert source.readinto(memoryview(bytearray(1))) == 1
    clock[0] = 11.1
    for spends in (share.check, share.enter, whole.check):
        with pytest.raises(Exhausted, match="takes more than 11 s of processor time"):
            spends()
    with pytest.raises(Exhausted):
        source.readinto(memoryview(bytearray(1)))


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_archive_whose_time_is_over_is_refused_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Whichever look at the clock is the one that ends it, the cause is said."""
    (tmp_path / "m.mar").write_bytes(zip_of(*(Member(f"{n}", bytes(9)) for n in range(9))))
    looks = iter(range(1_000_000))
    monkeypatch.setattr(module.time, "process_time", lambda: 1e9 * (next(looks) > after))
    report = verify(tmp_path / "m.mar")
    assert any("s of processor time" in line for line in report.problems) or (
        # All was read before.
        "MAR-INF/MANIFEST.json: missing; this is not a model archive" in report.problems
    )
    assert not report.ok


def test_an_archive_has_one_budget_from_its_opening(tmp_path: Path) -> None:
    (tmp_path / "m.mar").write_bytes(WHOLE)
    with open_archive(tmp_path / "m.mar") as archive:
        assert archive.budget.seconds == 10 + sum(archive.members.values()) / 1e8
        assert archive.budget.seconds < 10 + len(WHOLE) / 1e8
        with pytest.raises(Exhausted):
            archive.budget.enter(20_000)


@pytest.mark.parametrize("format", FORMATS)
def test_pack_and_verify_have_one_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: ArchiveFormat
) -> None:
    """Its limits depend on the bytes: `pack` knows those before they lie in a zip or tar file."""
    monkeypatch.chdir(tmp_path)
    make({"handler.py": HANDLE, "model.pt": "not a model"})
    make({f"tree/{n}/file.txt": "ab" for n in range(8)})
    options = {"archive_format": format, "extra_trees": "tree"}
    path = packing(**options).path
    size = sum(map(len, members(path).values()))
    # A folder's folders count as well.
    count = 22 if format == "no-archive" else 12
    # The last byte of the size brings the last member that is allowed.
    for most, part, allowed in ((count, 1 << 40, True), (count - 1, size, True),
                                (count - 1, size + 1, False)):  # fmt: skip
        monkeypatch.setattr(module, "MEMBERS", most)
        monkeypatch.setattr(module, "BYTES_A_MEMBER", part)
        with open_archive(path) as archive:
            assert archive.problems == [f"more than {most} members are refused"] * (not allowed)
        if allowed:
            packing(**options, export_path=f"{most}-{part}")
        else:
            with pytest.raises(
                PackError, match=f": more than {most} members are refused: pack few"
            ):
                packing(**options, export_path=f"{most}-{part}")


def test_compressed_archive_has_the_budget_of_its_own_size(tmp_path: Path) -> None:
    """What it claims to unpack to buys no time."""
    data = zip_of(Member("a", bytes(1 << 20), deflated=True))
    (tmp_path / "m.mar").write_bytes(data)
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("m/a")
        info.size = 1 << 20
        tar.addfile(info, io.BytesIO(bytes(1 << 20)))
    for path in tmp_path.iterdir():
        with open_archive(path) as archive:
            assert archive.problems == []
            assert archive.budget.seconds == 10 + path.stat().st_size / 1e8
