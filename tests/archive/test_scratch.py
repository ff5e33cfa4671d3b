"""Temporary folders: gone in the end, or with the next, and never anybody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from marwright.archive.scratch import scratch_folder
from marwright.files import try_lock
from tests.servers import ROOT

HOLDS = """
import sys
from pathlib import Path
from marwright.archive.scratch import scratch_folder
with scratch_folder("verify", Path(sys.argv[1])) as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_text("x")
    (folder / "inner").chmod(0o500)
    print(folder, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(place: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(place)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield Path(process.stdout.readline().strip()), process
        finally:
            process.kill()


def test_a_folder_is_private_empty_and_gone_in_the_end(tmp_path: Path) -> None:
    with scratch_folder("verify", tmp_path) as folder:
        assert folder.parent == tmp_path.resolve()
        assert [*folder.iterdir()] == []
        assert folder.stat().st_mode & 0o777 == 0o700
    assert [*tmp_path.iterdir()] == []


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    with holding(tmp_path) as (left, process):
        with scratch_folder("verify", tmp_path):
            # It lives.
            assert (left / "inner" / "weights").exists()
        process.kill()
        process.wait()
        assert left.exists()
        with scratch_folder("run", tmp_path):
            # Another kind's.
            assert left.exists()
        with scratch_folder("verify", tmp_path):
            assert not left.exists()


def test_nobody_elses_is_touched(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    place = tmp_path / "place"
    place.mkdir()
    (place / "marwright-verify-abcdefgh").symlink_to(elsewhere)
    (place / "marwright-verify-file0000").touch()
    for name in (
        "marwright-verify-",
        "marwright-verify-longer-name",
        "marwright-0-0123456789abcdef",
    ):
        (place / name).mkdir()
    before = sorted(place.iterdir())
    with scratch_folder("verify", place):
        pass
    assert sorted(place.iterdir()) == before
    assert (elsewhere / "kept").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_another_users_is_left(tmp_path: Path) -> None:
    theirs = tmp_path / "marwright-verify-01234567"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with scratch_folder("verify", tmp_path):
        pass
    assert theirs.exists()


def test_a_sweep_of_another_process_between_making_and_locking_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def swept(path: Path) -> int | None:
        calls.append(path)
        if len(calls) == 1:
            path.rmdir()
        return try_lock(path)

    monkeypatch.setattr("marwright.archive.scratch.try_lock", swept)
    with scratch_folder("verify", tmp_path) as folder:
        assert folder.is_dir()
        assert folder.name == calls[1].name
    assert [*tmp_path.iterdir()] == []
