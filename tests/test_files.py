"""A file is old or new, never half: after an error, a kill, and in what is synced when."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from marwright.files import replacing, replacing_folder, sha256_file, sync, write_bytes
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
        "import os, signal, sys; from pathlib import Path\n"
        "from marwright.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'x' * 100_000)\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == OLD
    # What it leaves is no archive to TorchServe, and goes when the file is written next.
    left = [path for path in target.parent.iterdir() if path != target]
    assert [path.suffix for path in left] == [".tmp"]
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def leftover(target: Path, number: int = 0) -> Path:
    return target.with_name(f".{target.name}.{number:016x}.tmp")


def test_leftovers_of_killed_writers_go(target: Path) -> None:
    leftover(target).write_bytes(b"half")
    leftover(target, 1).mkdir()
    (leftover(target, 1) / "file").write_bytes(b"half")
    leftover(target, 2).symlink_to(target.parent, target_is_directory=True)
    write_bytes(target, b"new")
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    "name",
    [".model.mar.tmp", ".model.mar.0.tmp", "model.mar.0123456789abcdef.tmp", ".model.mar.notes.tmp",
     ".model.mar.0123456789abcdef.tmp2", ".other.mar.0123456789abcdef.tmp",
     ".model.mar.v2.0123456789abcdef.tmp", ".modelxmar.0123456789abcdef.tmp"],
)  # fmt: skip
def test_what_is_somebody_elses_stays(target: Path, name: str) -> None:
    (target.parent / name).write_bytes(b"theirs")
    write_bytes(target, b"new")
    assert (target.parent / name).read_bytes() == b"theirs"


def test_leftovers_go_whatever_the_name_means_to_a_shell(tmp_path: Path) -> None:
    target = tmp_path / "model[1]*.mar"
    leftover(target).write_bytes(b"half")
    write_bytes(target, b"new")
    assert list(tmp_path.iterdir()) == [target]


def test_files_of_live_writers_stay(target: Path) -> None:
    with replacing(target) as slow:
        slow.write(b"slow")
        write_bytes(target, b"quick")
        assert target.read_bytes() == b"quick"
        with replacing_folder(target.with_name("folder")), replacing(target) as other:
            other.write(b"other")
        assert target.read_bytes() == b"other"
    assert target.read_bytes() == b"slow"
    assert set(target.parent.iterdir()) == {target, target.with_name("folder")}


def test_files_of_live_processes_stay(target: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from marwright.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'slow')\n"
        "    print('begun', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as slow:
        assert slow.stdout is not None
        assert slow.stdout.readline() == "begun\n"
        write_bytes(target, b"quick")
        assert target.read_bytes() == b"quick"
        slow.communicate()
    assert slow.returncode == 0
    assert target.read_bytes() == b"slow"
    assert list(target.parent.iterdir()) == [target]


def fill(folder: Path, content: bytes) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "b").write_bytes(content)


def nothing(target: Path) -> None:
    """Leave the place empty."""


def a_file(target: Path) -> None:
    target.write_bytes(OLD)


def an_empty_folder(target: Path) -> None:
    target.mkdir()


def a_folder(target: Path) -> None:
    target.mkdir()
    fill(target, OLD)
    (target / "only in the old one").touch()


def a_link_to_a_folder(target: Path) -> None:
    a_folder(target.with_name("elsewhere"))
    target.symlink_to("elsewhere", target_is_directory=True)


def a_link_to_nothing(target: Path) -> None:
    target.symlink_to("nothing")


@pytest.mark.parametrize(
    "before",
    [nothing, a_file, an_empty_folder, a_folder, a_link_to_a_folder, a_link_to_nothing],
)
def test_a_folder_takes_the_place_of_what_was_there(
    tmp_path: Path, before: Callable[[Path], None]
) -> None:
    target = tmp_path / "model"
    before(target)
    others = {path for path in tmp_path.iterdir() if path != target}
    with replacing_folder(target) as folder:
        fill(folder, b"new")
    assert [path.name for path in target.iterdir()] == ["a"]
    assert (target / "a" / "b").read_bytes() == b"new"
    assert set(tmp_path.iterdir()) == {target, *others}
    assert all((path / "a" / "b").read_bytes() == OLD for path in others)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_leaves_the_old_folder_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "model"
    a_folder(target)
    with pytest.raises(error), replacing_folder(target) as folder:
        fill(folder, b"new")
        raise error
    assert (target / "a" / "b").read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_went_and_came_meanwhile_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "model"
    a_folder(target)
    with replacing_folder(target) as folder:
        fill(folder, b"new")
        shutil.rmtree(target)
        with replacing_folder(target) as other:
            fill(other, b"other")
        assert (target / "a" / "b").read_bytes() == b"other"
    assert (target / "a" / "b").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_folders_are_synced_before_the_name_and_then_the_one_that_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync = os.fsync

    def noted_fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        done.append(name if (tmp_path / "model").exists() else f"{name}, before")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    with replacing_folder(tmp_path / "model") as folder:
        fill(folder, b"new")
    assert done == [f"{folder.name}, before", "a, before", tmp_path.name]


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


@pytest.mark.parametrize("content", [b"old", b""])
def test_without_force_what_came_meanwhile_stays(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "a.mar"
    with pytest.raises(FileExistsError), replacing(target, force=False) as file:
        file.write(b"new")
        target.write_bytes(content)
    assert target.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.mar"]


def test_without_force_a_folder_that_came_meanwhile_stays(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with pytest.raises(FileExistsError), replacing_folder(target, force=False) as folder:
        (folder / "new").touch()
        target.mkdir()
        (target / "old").touch()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_without_force_a_new_name_is_taken(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.mar", force=False) as file:
        file.write(b"new")
    with replacing_folder(tmp_path / "a", force=False) as folder:
        (folder / "new").touch()
    assert (tmp_path / "a.mar").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.mar"]
    assert (tmp_path / "a" / "new").exists()
