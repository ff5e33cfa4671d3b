"""A file is old or new, never half: after an error, a kill, and in what is synced when."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from archive.files import replacing, sha256_file, sync, write_bytes
from tests.archive.tiny import ROOT

OLD = b"the old file, which someone still needs"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    file = tmp_path / "model.mar"
    file.write_bytes(OLD)
    return file


def test_block_that_ends_well_replaces_the_file(target: Path) -> None:
    with replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == OLD
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "file", b"new")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_leaves_the_old_file_and_nothing_else(
    target: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), replacing(target) as file:
        file.write(b"half of the new fi")
        raise error
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


def test_error_without_an_old_file_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), replacing(tmp_path / "file") as file:
        file.write(b"half")
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


def test_kill_in_the_middle_leaves_the_old_file(target: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from archive.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'x' * 100_000)\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == OLD
    # What it leaves is no archive to TorchServe, and in nobody's way.
    left = [path for path in target.parent.iterdir() if path != target]
    assert [path.suffix for path in left] == [".tmp"]
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"


def test_bytes_are_durable_before_the_name_and_then_the_folder(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        seen = os.fstat(descriptor)
        done.append("folder" if stat.S_ISDIR(seen.st_mode) else f"{seen.st_size} bytes")
        fsync(descriptor)

    def noted_replace(self: Path, other: Path) -> Path:
        done.append("rename")
        return replace(self, other)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_bytes(target, b"new")
    assert done == ["3 bytes", "rename", "folder"]


def test_sync_reports_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "nothing")


# Around the size of the pieces that it is read in.
@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sha256_is_that_of_the_whole_file(tmp_path: Path, size: int) -> None:
    content = bytes(size)
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
