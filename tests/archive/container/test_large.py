"""Large archives: flat memory, and zip64 where a zip needs it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from marwright.archive.container import budget
from marwright.archive.container.stream import CHUNK
from marwright.archive.container.zip_read import ZipArchive
from marwright.archive.container.zip_write import ZipWriter
from marwright.archive.write import EPOCH, SUFFIXES, ArchiveFormat, write_members
from tests.archive.tiny import ROOT

pytestmark = pytest.mark.slow

MEASURED = """
import resource, sys
from pathlib import Path
from marwright.archive.write import write_archive
target, weights, format = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
write_archive(target, {"model.pt": b""}, proven=False, format=format)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_archive(target, {"model.pt": weights}, proven=False, format=format)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("format", ["default", "tgz", "no-archive"])
def test_large_files_go_through_little_memory(tmp_path: Path, format: ArchiveFormat) -> None:
    weights = tmp_path / "weights"
    with weights.open("wb") as file:
        file.truncate(512 << 20)
    target = tmp_path / "out" / f"model{SUFFIXES[format]}"
    command = [sys.executable, "-c", MEASURED, str(target), str(weights), format]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    kibibytes = int(done.stdout)
    assert kibibytes < 64 << 10
    shutil.rmtree(target.parent)


class Holes(io.FileIO):
    """A file in which zeros take no room."""

    _ZEROS = bytes(CHUNK)

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        if len(data) == CHUNK and bytes(data) == self._ZEROS:
            self.seek(CHUNK, os.SEEK_CUR)
            return CHUNK
        return super().write(data)


SHARED = Path("/dev/shm")


def test_more_than_4_gib(tmp_path: Path) -> None:
    """The first member's size needs zip64, the second's offset, and where the directory is."""
    # Zeros come fastest where files lie in memory.
    with (
        tempfile.NamedTemporaryFile(dir=SHARED if SHARED.is_dir() else tmp_path) as weights,
        Holes(tmp_path / "model.mar", "w+") as file,
    ):
        weights.truncate((4 << 30) + CHUNK)
        writer = ZipWriter(file, EPOCH)  # type: ignore[arg-type]
        writer.add("model.pt", Path(weights.name))
        writer.add("small", b"behind it")
        writer.close()
    with zipfile.ZipFile(tmp_path / "model.mar") as archive:
        large, small = archive.infolist()
        assert archive.read("small") == b"behind it"
    assert (large.file_size, large.compress_size) == ((4 << 30) + CHUNK,) * 2
    assert (large.extract_version, small.extract_version) == (45, 45)
    assert small.header_offset > 4 << 30
    with ZipArchive(tmp_path / "model.mar") as ours:
        assert ours.problems == []
        assert ours.members == {"model.pt": (4 << 30) + CHUNK, "small": 9}
        assert ours.read("small") == b"behind it"


def test_more_than_65535_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MEMBERS", 1 << 17)
    names = [f"{number:05}" for number in range(65_536)]
    target = write_members(tmp_path / "model.mar", dict.fromkeys(names, b""))
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == names
    with ZipArchive(target) as ours:
        assert ours.problems == []
        assert list(ours.members) == names
