"""What is not refused is unpacked by TorchServe's own class to what we unpack, to the byte."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from marwright.archive.container.open import open_archive
from marwright.archive.write import FORMATS, SUFFIXES, write_members
from tests.archive.container import test_tar, test_zip_damage, test_zip_read
from tests.archive.container.zips import Member, zip_of

UNPACK = Path(__file__).with_name("Unpack.java")


def archives(folder: Path) -> list[Path]:
    """Write archives of all kinds that we let pass."""
    folder.mkdir()
    for what, (data, _) in test_tar.GOOD.items():
        (folder / f"{what}.tar.gz").write_bytes(data)
    (folder / "all kinds of members.mar").write_bytes(test_zip_damage.WHOLE)
    last = Member("last", b"", deflated=True, descriptor="4s3I")
    (folder / "an empty member.mar").write_bytes(zip_of(last, Member("a")))
    for what in ("zipfile, into a pipe", "Info-ZIP", "Java"):
        test_zip_read.WRITERS[what](folder / f"{what}.mar")
    for format in FORMATS:
        if format != "no-archive":
            members = {**test_zip_read.CONTENTS, "c/" * 100 + "c": b"", "d": bytes(70_000)}
            write_members(folder / f"{format}{SUFFIXES[format]}", members, format)
    return sorted(path for path in folder.iterdir() if path.is_file())


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_torchserve_unpacks_what_we_do(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("ts")
    if shutil.which("javac") is None or spec is None or spec.origin is None:
        pytest.skip("there is no Java compiler, or no TorchServe, here")
    jar = Path(spec.origin).parent / "frontend" / "model-server.jar"
    files = archives(tmp_path / "archives")
    pairs = [[str(file), str(tmp_path / "theirs" / file.name)] for file in files]
    command = ["java", "-cp", str(jar), str(UNPACK), *itertools.chain(*pairs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(file) for file in files]
    for file in files:
        with open_archive(file) as archive:
            assert archive.problems == [], file.name
            archive.unpack(tmp_path / "ours" / file.name)
        assert tree(tmp_path / "theirs" / file.name) == tree(tmp_path / "ours" / file.name)
