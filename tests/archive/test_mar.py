"""The writer: the same members give the same bytes, whole or not at all."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.files import sha256_file
from archive.mar import Content, write_mar
from recipes.errors import PackError
from tests.archive.tiny import ROOT, members_of

MEMBERS: dict[str, Content] = {
    "model.pt": bytes(range(256)) * 16,
    "handlers/__init__.py": b"",
    "handlers/classify.py": b"def handle(data, context): ...\n",
    "MAR-INF/MANIFEST.json": b"{}\n",
}

GOLDEN_SHA256 = "0b7e05eab9d884edc1035003e25a15b14ebf7296af218aaf1d2edcb624dbeffb"

# What another machine would do differently, in one process: zone, clock, folder, umask, order.
ELSEWHERE = """
import os, sys, time
from pathlib import Path
os.environ["TZ"] = "Pacific/Kiritimati"
time.tzset()
year_2041 = 2_240_000_000.0
time.time = lambda: year_2041
time.time_ns = lambda: int(year_2041 * 1e9)
local, utc = time.localtime, time.gmtime
time.localtime = lambda seconds=year_2041: local(seconds)
time.gmtime = lambda seconds=year_2041: utc(seconds)
os.umask(0o077)
from archive.mar import write_mar
folder = Path(sys.argv[1])
members = {}
for path in sorted(folder.rglob("*"), reverse=True):
    if path.is_file():
        members[path.relative_to(folder).as_posix()] = path
print(write_mar(folder.parent / "other.mar", members).sha256)
"""


def test_other_folder_zone_year_modes_and_order_give_the_same_bytes(tmp_path: Path) -> None:
    here = write_mar(tmp_path / "here.mar", MEMBERS)
    folder = tmp_path / "elsewhere" / "files"
    for name, content in MEMBERS.items():
        assert isinstance(content, bytes)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o755)
        os.utime(folder / name, (1_000_000_000, 1_000_000_000))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == here.sha256
    assert (tmp_path / "elsewhere" / "other.mar").read_bytes() == here.path.read_bytes()


def test_bytes_and_files_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(b"weights")
    one = write_mar(tmp_path / "one.mar", {"model.pt": b"weights"})
    two = write_mar(tmp_path / "two.mar", {"model.pt": tmp_path / "payload"})
    assert one.sha256 == two.sha256


def test_the_artifact_says_what_was_written(tmp_path: Path) -> None:
    artifact = write_mar(tmp_path / "model.mar", MEMBERS)
    assert artifact.kind == "mar"
    assert artifact.path == tmp_path / "model.mar"
    assert artifact.sha256 == sha256_file(artifact.path)
    assert artifact.size == artifact.path.stat().st_size


def test_the_writing_of_an_archive_never_changes(tmp_path: Path) -> None:
    """Another digest here is another archive for every model: a new format, to be said aloud."""
    artifact = write_mar(tmp_path / "model.mar", MEMBERS)
    assert artifact.sha256 == GOLDEN_SHA256


def test_entries_are_stored_sorted_and_bare(tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(bytes(100_000))
    mar = write_mar(tmp_path / "model.mar", {**MEMBERS, "big.bin": tmp_path / "payload"}).path
    with zipfile.ZipFile(mar) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted([*MEMBERS, "big.bin"])
    for entry in entries:
        assert entry.compress_type == zipfile.ZIP_STORED
        assert entry.compress_size == entry.file_size
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        assert entry.external_attr >> 16 == 0o100644
        assert entry.create_system == 3
        assert (entry.extra, entry.comment, entry.internal_attr) == (b"", b"", 0)


def test_local_headers_are_complete_and_leave_no_gap(tmp_path: Path) -> None:
    """TorchServe's reader goes from one local header to the next, and refuses data descriptors."""
    (tmp_path / "payload").write_bytes(bytes(100_000))
    members: dict[str, Content] = {**MEMBERS, "big.bin": tmp_path / "payload"}
    data = write_mar(tmp_path / "model.mar", members).path.read_bytes()
    position, seen = 0, []
    while data[position : position + 4] == b"PK\x03\x04":
        _, flags, method, _, date, _, packed, size, name, extra = struct.unpack(
            "<HHHHHIIIHH", data[position + 4 : position + 30]
        )
        assert (flags, method, date) == (0, zipfile.ZIP_STORED, 0b100001)
        assert packed == size
        seen.append(data[position + 30 : position + 30 + name].decode())
        position += 30 + name + extra + size
    assert seen == sorted(members)
    assert data[position : position + 4] == b"PK\x01\x02"


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up", "a/../../up", "a\\b", "é.txt", "a//b", "a/", "", ".", "a\0b"]
)
def test_names_that_would_not_survive_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackError) as refusal:
        write_mar(tmp_path / "model.mar", {"good": b"", name: b""})
    assert str(refusal.value) == f"{name!r}: members have plain relative ASCII names"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("Labels.json", "labels.json"), "Labels.json and labels.json differ by case only"),
        (("handlers", "handlers/a.py"), "handlers is a file, and the folder of handlers/a.py"),
    ],
)
def test_names_that_take_each_others_place_are_refused(
    tmp_path: Path, names: tuple[str, str], problem: str
) -> None:
    with pytest.raises(PackError) as refusal:
        write_mar(tmp_path / "model.mar", dict.fromkeys(names, b""))
    assert str(refusal.value) == f"{problem}: rename one of them"
    assert list(tmp_path.iterdir()) == []


def test_failure_in_the_middle_leaves_the_old_archive(tmp_path: Path) -> None:
    mar = write_mar(tmp_path / "model.mar", MEMBERS).path
    old = mar.read_bytes()
    with pytest.raises(FileNotFoundError):
        write_mar(mar, {"a": b"first", "b": tmp_path / "nothing", "c": b"last"})
    assert mar.read_bytes() == old
    assert list(tmp_path.iterdir()) == [mar]


def test_kill_in_the_middle_leaves_the_old_archive(tmp_path: Path) -> None:
    mar = write_mar(tmp_path / "model.mar", MEMBERS).path
    old = mar.read_bytes()
    (tmp_path / "payload").write_bytes(bytes(1 << 20))
    code = (
        "import os, shutil, signal, sys; from pathlib import Path\n"
        "from archive.mar import write_mar\n"
        "def killed(source, entry, length):\n"
        "    entry.write(source.read(1000))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "shutil.copyfileobj = killed\n"
        "write_mar(Path(sys.argv[1]), {'a': b'first', 'b': Path(sys.argv[2])})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(mar), str(tmp_path / "payload")], cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert mar.read_bytes() == old


def test_large_files_go_through_little_memory(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    with payload.open("wb") as file:
        file.truncate(48 << 20)
    tracemalloc.start()
    try:
        artifact = write_mar(tmp_path / "model.mar", {"model.pt": payload})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert artifact.size > 48 << 20
    assert peak < 8 << 20


NAME = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}", fullmatch=True)


@settings(max_examples=25, deadline=None)
@given(members=st.dictionaries(NAME, st.binary(max_size=64), min_size=1, max_size=6))
def test_what_was_written_is_read_back_and_written_again_equal(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("mar")
    try:
        first = write_mar(folder / "first.mar", dict(members))
    except PackError as refusal:
        assert "is a file, and the folder of" in str(refusal)
        return
    assert members_of(first.path) == members
    backwards = dict(reversed(list(members.items())))
    assert write_mar(folder / "second.mar", dict(backwards)).sha256 == first.sha256


def test_an_independent_reader_can_unpack_it(tmp_path: Path) -> None:
    mar = write_mar(tmp_path / "model.mar", MEMBERS).path
    with zipfile.ZipFile(io.BytesIO(mar.read_bytes())) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unpacked")
    for name, content in MEMBERS.items():
        assert (tmp_path / "unpacked" / name).read_bytes() == content
