"""The writer: the same members give the same bytes, whole or not at all."""

from __future__ import annotations

import getpass
import hashlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path, PosixPath

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.archive.container.open import open_archive
from marwright.archive.container.stream import CHUNK
from marwright.archive.container.writer import Content
from marwright.archive.types import INVENTORY, Inventory
from marwright.archive.write import (
    EPOCH,
    FORMATS,
    SUFFIXES,
    ArchiveFormat,
    archive_date,
    write_archive,
    write_members,
)
from marwright.recipe.errors import PackError
from tests.archive.tiny import ROOT

MEMBERS: dict[str, Content] = {
    "MAR-INF/MANIFEST.json": b"{}\n",
    "model.pt": bytes(range(256)) * 16,
    "handlers/__init__.py": b"",
    "handlers/classify.py": b"def handle(data, context): ...\n",
    "Zebra": b"comes before MAR-INF all the same",
}
ORDER = [
    "Zebra", "handlers/__init__.py", "handlers/classify.py", "model.pt", "MAR-INF/MANIFEST.json",
    INVENTORY,
]  # fmt: skip
ONE_FILE: tuple[ArchiveFormat, ...] = ("default", "zip-store", "tgz")
every_format = pytest.mark.parametrize("format", FORMATS)


def target_in(folder: Path, format: ArchiveFormat) -> Path:
    return folder / f"model{SUFFIXES[format]}"


def write(folder: Path, format: ArchiveFormat, members: dict[str, Content] = MEMBERS) -> Path:
    return write_archive(target_in(folder, format), members, proven=False, format=format).path


def image(path: Path) -> dict[str, bytes]:
    """Return all that is at a path: a file's bytes, or the files in a folder and its folders."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {
        f"{file.relative_to(path)} {file.stat().st_mode:o}": file.read_bytes()
        if file.is_file()
        else b""
        for file in (path, *path.rglob("*"))
    }


def contents(path: Path) -> dict[str, bytes]:
    """Return the members, as our own readers read them."""
    with open_archive(path) as archive:
        assert archive.problems == []
        assert archive.digests().problems == []
        return {name: archive.read(name) for name in archive.members}


# What the bytes are


@pytest.mark.parametrize("format", ["default", "zip-store"])
def test_zip_entries_are_stored_sorted_and_bare(tmp_path: Path, format: ArchiveFormat) -> None:
    with zipfile.ZipFile(write(tmp_path, format)) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
        assert archive.comment == b""
    assert [entry.filename for entry in entries] == ORDER
    for entry in entries:
        assert entry.compress_type == zipfile.ZIP_STORED
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        assert entry.external_attr == 0o100644 << 16
        assert (entry.create_system, entry.extract_version, entry.flag_bits) == (3, 20, 0)
        assert (entry.extra, entry.comment, entry.internal_attr) == (b"", b"", 0)


def test_tar_entries_lie_in_one_folder_sorted_and_bare(tmp_path: Path) -> None:
    with tarfile.open(write(tmp_path, "tgz")) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == [f"model/{name}" for name in ORDER]
    for entry in entries:
        assert (entry.mode, entry.mtime, entry.type) == (0o644, EPOCH.timestamp(), tarfile.REGTYPE)
        assert (entry.uid, entry.gid, entry.uname, entry.gname) == (0, 0, "", "")


def test_gzip_says_nothing_and_stores(tmp_path: Path) -> None:
    data = write(tmp_path, "tgz").read_bytes()
    assert data[:10] == b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    assert bytes(range(256)) * 16 in data


# Another digest here is another archive for every model: a new format, to be said aloud.
GOLDEN_SHA256 = {
    "default": "df893ff11c82817f66415ed6160e369d7cea7bd8382ef7ffd080c755efea3d0b",
    "zip-store": "df893ff11c82817f66415ed6160e369d7cea7bd8382ef7ffd080c755efea3d0b",
    "tgz": "66f7dd65f78c9d07c77fabb3d92190b342ab5f946d9f421bc64ca56e2ef40a02",
    "no-archive": "bd374916728f2ca7552cbc5b06e303bcbb5adfdce2c55aa61712c7ad6d89d020",
}


@every_format
def test_the_writing_of_an_archive_never_changes(tmp_path: Path, format: ArchiveFormat) -> None:
    with open_archive(write(tmp_path, format)) as archive:
        assert archive.digests().sha256 == GOLDEN_SHA256[format]


# What another machine would do differently: zone, language, hash seed, folder, umask, order.
ELSEWHERE = """
import os, sys
from pathlib import Path
os.umask(0o077)
from marwright.archive.write import FORMATS, SUFFIXES, write_archive
folder = Path(sys.argv[1])
files = [path for path in folder.rglob("*") if path.is_file()]
members = {path.relative_to(folder).as_posix(): path for path in sorted(files, reverse=True)}
for format in FORMATS:
    target = Path(f"{format}/model{SUFFIXES[format]}")
    write_archive(target, members, proven=False, format=format)
"""


def test_elsewhere_the_bytes_are_the_same(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name, content in MEMBERS.items():
        assert isinstance(content, bytes)
        file = elsewhere / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755)
        os.utime(file, (1_000_000_000, 1_000_000_000))
    there = {
        "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7", "LC_ALL": "C", "USER": "somebody",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-c", ELSEWHERE, str(elsewhere / "files")]
    subprocess.run(command, cwd=elsewhere, env=there, check=True)
    for format in FORMATS:
        here = write(tmp_path / format, format)
        assert image(here) == image(target_in(elsewhere / format, format)), format


@every_format
def test_nothing_of_this_machine_is_in_it(tmp_path: Path, format: ArchiveFormat) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    members: dict[str, Content] = {"model.pt": tmp_path / "weights"}
    everything = b"".join(image(write(tmp_path / "out", format, members)).values())
    now = datetime.now(UTC)
    for word in (socket.gethostname(), getpass.getuser(), str(tmp_path), str(ROOT), str(now.year)):
        assert word.encode() not in everything, word


@every_format
def test_bytes_and_files_give_the_same_bytes(tmp_path: Path, format: ArchiveFormat) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    one = write(tmp_path / "one", format, {"model.pt": b"weights"})
    two = write(tmp_path / "two", format, {"model.pt": tmp_path / "weights"})
    assert image(one) == image(two)


# SOURCE_DATE_EPOCH


@pytest.mark.parametrize(
    ("value", "date"),
    [
        ("", EPOCH),
        ("0", EPOCH),
        ("-1", EPOCH),
        ("315532799", EPOCH),
        ("315532801", datetime(1980, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("4354819198", datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)),
    ],
)
def test_the_date_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, date: datetime
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    assert archive_date() == date


@pytest.mark.parametrize(
    "value", ["now", "1.5", "0x10", " ", "1e9", "9" * 19, "9" * 5000, "-" + "9" * 30]
)
@every_format
def test_a_date_that_is_no_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, format: ArchiveFormat
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(PackError) as refusal:
        write(tmp_path, format)
    assert str(refusal.value) == f"SOURCE_DATE_EPOCH={value}: not a number of seconds"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["4354819199", "99999999999"])
def test_a_date_that_no_zip_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(PackError) as refusal:
        write(tmp_path, "default")
    assert str(refusal.value) == (
        f"SOURCE_DATE_EPOCH={value}: no zip file can hold a date after 2107"
    )


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Anchorage"])
def test_members_have_the_date_in_utc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("TZ", zone)
    with zipfile.ZipFile(write(tmp_path, "default")) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    with tarfile.open(write(tmp_path, "tgz")) as archive:
        assert {entry.mtime for entry in archive.getmembers()} == {1_700_000_000}


# Inventory and artifact


@every_format
@pytest.mark.parametrize("proven", [False, True])
def test_the_inventory_has_the_digest_of_every_other_member(
    tmp_path: Path, format: ArchiveFormat, proven: bool
) -> None:
    target = target_in(tmp_path, format)
    artifact = write_archive(target, MEMBERS, proven=proven, format=format)
    sums = {name: hashlib.sha256(c).hexdigest() for name, c in contents(target).items()}
    inventory = msgspec.json.decode(contents(target)[INVENTORY], type=Inventory)
    assert inventory.proven == proven
    assert {**inventory.members, INVENTORY: sums[INVENTORY]} == sums == artifact.members
    size = sum(map(len, contents(target).values()))
    assert artifact.size == (size if format == "no-archive" else target.stat().st_size)
    assert artifact.path == target


def test_the_inventory_may_have_another_name(tmp_path: Path) -> None:
    """As a workflow archive has it."""
    target = tmp_path / "flow.war"
    write_archive(target, {"a": b""}, proven=False, inventory="WAR-INF/inventory.json")
    assert list(contents(target)) == ["a", "WAR-INF/inventory.json"]


@every_format
def test_members_alone_are_written_without_an_inventory(
    tmp_path: Path, format: ArchiveFormat
) -> None:
    target = write_members(target_in(tmp_path, format), MEMBERS, format)
    assert contents(target) == MEMBERS


# Names


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up", "a/../../up", "a\\b", "é.txt", "a//b", "a/", "", ".", "a\0b"]
)
@every_format
def test_names_that_would_not_survive_are_refused(
    tmp_path: Path, name: str, format: ArchiveFormat
) -> None:
    with pytest.raises(PackError) as refusal:
        write(tmp_path, format, {"good": b"", name: b""})
    assert str(refusal.value) == f"{name!r}: members have plain relative ASCII names"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("Labels.json", "labels.json"), "Labels.json and labels.json differ by case only"),
        (("handlers", "handlers/a.py"), "handlers is a file, and the folder of handlers/a.py"),
        ((INVENTORY,), f"{INVENTORY}: stands in the archive twice"),
        (("MAR-INF",), f"MAR-INF is a file, and the folder of {INVENTORY}"),
    ],
)
def test_names_that_take_each_others_place_are_refused(
    tmp_path: Path, names: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(PackError) as refusal:
        write(tmp_path, "default", dict.fromkeys(names, b""))
    assert str(refusal.value) == f"{problem}: rename one of them"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["é", "a b\n", "a\\b", ""])
def test_a_name_that_no_folder_in_a_tar_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackError) as refusal:
        write_members(tmp_path / f"{name}.tar.gz", MEMBERS, "tgz")
    assert str(refusal.value) == f"{name!r}: members have plain relative ASCII names"
    assert list(tmp_path.iterdir()) == []


# Whole or not at all


class Changing(PosixPath):
    """A file that gets another size right after it was looked at."""

    after: int

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        found = super().stat(follow_symlinks=follow_symlinks)
        os.truncate(self, self.after)
        return found


@every_format
@pytest.mark.parametrize("after", [0, 4, 6, 3 * CHUNK])
@pytest.mark.parametrize("before", [5, 2 * CHUNK])
def test_a_file_that_changes_while_it_is_packed_is_refused(
    tmp_path: Path, format: ArchiveFormat, before: int, after: int
) -> None:
    weights = Changing(tmp_path / "weights")
    weights.write_bytes(bytes(before))
    weights.after = after
    with pytest.raises(PackError) as refusal:
        write(tmp_path / "out", format, {"model.pt": weights})
    assert str(refusal.value) == "model.pt: the file changed while it was packed"
    assert list((tmp_path / "out").iterdir()) == []


@every_format
def test_failure_in_the_middle_leaves_the_old_archive(
    tmp_path: Path, format: ArchiveFormat
) -> None:
    target = write(tmp_path, format)
    old = image(target)
    with pytest.raises(FileNotFoundError):
        write(tmp_path, format, {"a": b"first", "b": tmp_path / "nothing", "c": b"last"})
    assert image(target) == old
    assert list(tmp_path.iterdir()) == [target]


# In a process of its own: what happens to it, then an archive with a large member.
WRITES = """
import os, resource, signal, sys
from pathlib import Path, PosixPath
from marwright.archive.write import write_archive
target, weights, format = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
{what}
write_archive(target, {{"a": bytes(100_000), "b": weights, "c": b""}}, proven=False, format=format)
"""
KILLED = """
class Killing(PosixPath):
    def stat(self, **how):
        os.kill(os.getpid(), signal.SIGKILL)
weights = Killing(weights)
"""
FULL = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
"""


def write_in_a_process(target: Path, format: str, what: str) -> subprocess.CompletedProcess[str]:
    weights = target.parent.parent / "weights"
    with weights.open("wb") as file:
        file.truncate(4 << 20)
    command = [sys.executable, "-c", WRITES.format(what=what), str(target), str(weights), format]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@every_format
def test_a_kill_in_the_middle_leaves_the_old_archive(tmp_path: Path, format: ArchiveFormat) -> None:
    target = write(tmp_path / "out", format)
    old = image(target)
    assert write_in_a_process(target, format, KILLED).returncode == -signal.SIGKILL
    assert image(target) == old
    # Nobody takes what it left for an archive, and the next one to write sweeps it up.
    (left,) = (path for path in target.parent.iterdir() if path != target)
    assert (left.name[:7], left.suffix) == (".model.", ".tmp")
    write(tmp_path / "out", format)
    assert image(target) == old
    assert list(target.parent.iterdir()) == [target]


@every_format
def test_a_full_disk_leaves_the_old_archive(tmp_path: Path, format: ArchiveFormat) -> None:
    target = write(tmp_path / "out", format)
    old = image(target)
    done = write_in_a_process(target, format, FULL)
    assert done.stderr.splitlines()[-1] == "OSError: [Errno 27] File too large"
    assert image(target) == old
    assert list(target.parent.iterdir()) == [target]


# Side by side

VERSIONS = [{"a": bytes([n]) * 50_000, "b/c": bytes([n]) * 50_000} for n in range(2)]


def write_version(
    target: Path, format: ArchiveFormat, version: int, wait: Callable[[], object]
) -> None:
    wait()
    write_members(target, VERSIONS[version], format)


@every_format
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_two_at_once_leave_one_whole_archive(
    tmp_path: Path, format: ArchiveFormat, kind: str
) -> None:
    target = target_in(tmp_path, format)
    context = multiprocessing.get_context("fork")
    for number in range(10):
        barrier = threading.Barrier(2) if kind == "threads" else context.Barrier(2)
        make = threading.Thread if kind == "threads" else context.Process
        pair = [
            make(target=write_version, args=(target, format, version, barrier.wait))
            for version in range(2)
        ]
        for writer in pair:
            writer.start()
        for writer in pair:
            writer.join()
            assert getattr(writer, "exitcode", 0) == 0
        assert contents(target) in VERSIONS
        assert list(tmp_path.iterdir()) == [target]
        if number % 2:
            # So that half of them begin where nothing is.
            target.unlink() if target.is_file() else shutil.rmtree(target)


def test_a_folder_is_never_missing_or_mixed(tmp_path: Path) -> None:
    target = write_members(tmp_path / "model", VERSIONS[0], "no-archive")
    seen: set[bytes] = set()
    problems: list[str] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                seen.add((target / "a").read_bytes()[:1])
            except OSError as error:
                problems.append(str(error))
            # Of one folder, which may be on its way out, all is of one version.
            folder = os.open(target, os.O_RDONLY)
            found = set()
            for name in ("a", "b/c"):
                try:
                    file = os.open(name, os.O_RDONLY, dir_fd=folder)
                except FileNotFoundError:
                    continue
                found.add(os.read(file, 100_000))
                os.close(file)
            os.close(folder)
            if len(found) > 1:
                problems.append("mixed")

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        write_members(target, VERSIONS[number % 2], "no-archive")
    ended.set()
    reader.join()
    assert (problems, seen) == ([], {b"\0", b"\1"})


# Written and read


NAME = st.from_regex(r"[a-zA-Z0-9_. -]{0,3}[a-z](/[a-z]{1,3}){0,2}|MAR-INF/[a-z]", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(members=st.dictionaries(NAME, st.binary(max_size=2000), max_size=6))
def test_what_was_written_is_read_back_and_written_again_equal(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, Content]
) -> None:
    folder = tmp_path_factory.mktemp("archives")
    backwards = dict(reversed(members.items()))
    for format in FORMATS:
        try:
            first = write_members(target_in(folder / "1", format), members, format)
        except PackError as refusal:
            assert str(refusal).endswith(": rename one of them")
            return
        assert contents(first) == members
        again = write_members(target_in(folder / "2", format), backwards, format)
        assert image(again) == image(first)
    with zipfile.ZipFile(target_in(folder / "1", "default")) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == members


@pytest.mark.parametrize(
    ("format", "command"),
    [
        ("default", ("unzip", "-tqq")),
        ("default", ("zip", "-qT")),
        ("default", ("jar", "tf")),
        ("tgz", ("tar", "-tzf")),
        ("tgz", ("gzip", "-t")),
    ],
)
def test_other_tools_have_nothing_to_say(
    tmp_path: Path, format: ArchiveFormat, command: tuple[str, str]
) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    target = write(tmp_path, format)
    done = subprocess.run([*command, str(target)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
