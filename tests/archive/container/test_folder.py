"""Archives that are folders: files and folders, and nothing that leads out of them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import stat
import tempfile
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from marwright.archive.container import budget
from marwright.archive.container import folder as module
from marwright.archive.container.folder import FolderArchive
from marwright.archive.container.limits import MAX_TEXT
from marwright.archive.container.open import open_archive
from marwright.archive.container.types import Unreadable
from marwright.archive.verify import verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "b").mkdir(parents=True)
    (tmp_path / "model" / "a.txt").write_bytes(b"alpha")
    (tmp_path / "model" / "b" / "c.pt").write_bytes(b"weights")
    return tmp_path / "model"


def test_a_folder_is_read_as_an_archive(folder: Path, tmp_path: Path) -> None:
    with open_archive(folder) as archive:
        assert archive.problems == []
        assert (archive.members, archive.size) == ({"a.txt": 5, "b/c.pt": 7}, 12)
        digests = archive.digests()
        assert archive.read("a.txt") == b"alpha"
        archive.unpack(tmp_path / "unpacked")
    members = {"a.txt": b"alpha", "b/c.pt": b"weights"}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    assert (digests.members, digests.problems) == (sums, [])
    lines = f"{sums['a.txt']}  a.txt\n{sums['b/c.pt']}  b/c.pt\n"
    assert digests.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    for name, content in members.items():
        assert (tmp_path / "unpacked" / name).read_bytes() == content


def test_a_folder_that_is_linked_to_is_read(folder: Path) -> None:
    """As TorchServe's model store has them."""
    (folder.parent / "link").symlink_to(folder)
    with open_archive(folder.parent / "link") as archive:
        assert archive.members == {"a.txt": 5, "b/c.pt": 7}


LINKS = {
    "to a file": "a.txt",
    "to a file elsewhere": "/etc/passwd",
    "to a folder": "b",
    "to the folder that it is in": ".",
    "to a folder elsewhere": "/",
    "to nothing": "nothing",
}


@pytest.mark.parametrize("target", LINKS.values(), ids=LINKS)
def test_links_are_refused_and_not_followed(folder: Path, target: str) -> None:
    (folder / "link").symlink_to(target)
    with FolderArchive(folder) as archive:
        assert archive.problems == ["link: is a symbolic link"]
        assert archive.members == {"a.txt": 5, "b/c.pt": 7}


def test_fifos_and_sockets_are_refused_and_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "socket", stat.S_IFSOCK | 0o644)
    with FolderArchive(folder) as archive:
        assert archive.problems == [
            "fifo: is a FIFO, not a file",
            "socket: is a socket, not a file",
        ]


@pytest.mark.parametrize(
    "name", [b"\xc3\xa9.py", b"\xff", b"a\nb", b"a\\b", b"a.", b"a ", b"C:a", b"\x1b[2J"]
)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_names_that_would_not_survive_are_refused(folder: Path, name: bytes, kind: str) -> None:
    path = folder / os.fsdecode(name)
    if kind == "file":
        path.touch()
    elif kind == "folder":
        (path / "b").mkdir(parents=True)
    else:
        path.symlink_to("a.txt")
    with FolderArchive(folder) as archive:
        assert archive.problems == [f"{os.fsdecode(name)!r}: not a plain relative name"]


def test_names_that_differ_by_case_are_refused(folder: Path) -> None:
    (folder / "A.txt").touch()
    with FolderArchive(folder) as archive:
        assert archive.problems == ["A.txt and a.txt differ by case only"]


def test_more_members_than_are_believed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MEMBERS", 1)
    with FolderArchive(folder) as archive:
        assert archive.problems == ["more than 1 members are refused"]


def test_a_listing_without_end_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_LISTED", 1)
    with FolderArchive(folder) as archive:
        assert archive.problems == ["more than 1 files and folders are refused"]
    assert not verify(folder).ok


def test_a_file_that_changes_is_noticed(folder: Path) -> None:
    with FolderArchive(folder) as archive:
        (folder / "a.txt").write_bytes(b"alpha and more")
        assert archive.digests().problems == ["a.txt: the file changed while it was read"]


def test_a_large_member_is_no_text(folder: Path) -> None:
    (folder / "large").write_bytes(bytes(MAX_TEXT + 1))
    with FolderArchive(folder) as archive, pytest.raises(Unreadable) as refusal:
        archive.read("large")
    assert str(refusal.value) == "large: is 1048577 bytes long; that is no text"


def _open_as_nobody(folder: Path, said: Queue[str]) -> None:
    # Root may list everything.
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        with FolderArchive(folder) as archive:
            said.put(str(archive.members))
    except OSError as error:
        said.put(type(error).__name__)


@pytest.mark.parametrize(("mode", "what"), [(0o755, "{'b/c.pt': 0}"), (0o311, "PermissionError")])
def test_a_folder_that_cannot_be_listed_is_an_error(mode: int, what: str) -> None:
    """TorchServe may still be able to open what is in it, by its name."""
    context = multiprocessing.get_context("fork")
    said: Queue[str] = context.Queue()
    # pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory() as name:
        below = Path(name) / "b"
        below.mkdir()
        (below / "c.pt").touch()
        below.parent.chmod(0o755)
        below.chmod(mode)
        child = context.Process(target=_open_as_nobody, args=(below.parent, said))
        child.start()
        assert said.get(timeout=60) == what
        child.join()
        below.chmod(0o755)
