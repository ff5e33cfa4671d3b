"""What packing refuses is named, and the old archive stays; it also survives kills and rivals."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.write import FORMATS, SUFFIXES, ArchiveFormat
from marwright.recipe.errors import PackError
from tests.archive.tiny import ROOT
from tests.archive.unproven import HANDLE, OWN, described, image, make, members, packing, refusal

pytestmark = pytest.mark.usefixtures("here")

# Refusals, and that the old archive stays


REFUSED = [
    ({"model_name": "a b"}, "--model-name 'a b': letters, digits, '.', '_' and '-' only"),
    ({"model_name": "../up"}, "--model-name '../up': letters, digits,"),
    ({"model_name": ""}, "--model-name '': letters, digits,"),
    ({"model_name": "tiny\n"}, "--model-name 'tiny\\n': letters, digits,"),
    ({"version": "1/2"}, "--version '1/2': letters, digits,"),
    ({"runtime": "java"}, "--runtime 'java': one of python, python3, LSP"),
    ({"archive_format": "zip"}, "--archive-format 'zip': one of default, zip-store, tgz, no-"),
    ({"serialized_file": "gone.pt"}, "--serialized-file gone.pt: no such file"),
    ({"serialized_file": "folder"}, "--serialized-file folder: is a folder, not a file"),
    ({"serialized_file": "evil.pt"}, "--serialized-file evil.pt: "),
    ({"model_file": "gone.py"}, "--model-file gone.py: no such file"),
    ({"model_file": "bad.py"}, "bad.py: not Python: "),
    ({"handler": "gone.py"}, "--handler gone.py: there is no file gone.py"),
    ({"handler": "wants_gone.py"}, "wants_gone.py:1: imports gone, which is neither in . nor"),
    ({"handler": "base_handler", "model_file": "two.py"},
     "--model-file two.py: base_handler needs exactly one class in it; it has A, B"),
    ({"handler": "base_handler", "serialized_file": None}, "--handler base_handler: needs "),
    ({"extra_files": "gone.json"}, "--extra-files gone.json: no such file"),
    ({"extra_files": "*.gone"}, "--extra-files *.gone: nothing matches"),
    ({"extra_files": "folder/.env"}, "--extra-files folder/.env: hidden files are not packed"),
    ({"extra_files": "a/x.txt,b/x.txt"}, "x.txt: a/x.txt and b/x.txt would both be called this"),
    ({"extra_files": "b/model.pt"}, "model.pt: model.pt and b/model.pt would both be called this"),
    ({"extra_files": "b/handler.py"}, "handler.py: b/handler.py and handler.py would both be"),
    ({"extra_files": "b/util.py", "handler": "wants_util.py"},
     "util.py: b/util.py and util.py would both be called this"),
    ({"extra_files": "links/dangling"}, "--extra-files links/dangling: a link to nowhere, which"),
    ({"extra_files": "linked"}, "--extra-files linked/dangling: a link to nowhere, which is not"),
    ({"extra_files": "leaving"}, "--extra-files leaving/out: a link out of the folder, to "),
    ({"extra_files": "case"}, "A.txt and a.txt differ by case only: rename one of them"),
    ({"extra_files": "names"}, "'ü.txt': members have plain relative ASCII names"),
    ({"extra_files": "unpacked"}, "unpacked/MAR-INF/MANIFEST.json: would be called MAR-INF/"),
    ({"extra_trees": "gone"}, "--extra-trees gone: no such folder"),
    ({"requirements_file": "gone.txt"}, "--requirements-file gone.txt: no such file"),
    ({"requirements_file": "files.txt"}, "files.txt:2: '-r other.txt' names a file that the"),
    ({"config_file": "gone.yaml"}, "--config-file gone.yaml: no such file"),
    ({"config_file": "empty.yaml"}, "--config-file empty.yaml: empty, which can stop the whole"),
    ({"config_file": "quoted.yaml"}, "--config-file quoted.yaml: batchSize: '8' is not a whole"),
]  # fmt: skip


@pytest.fixture
def traps(here: Path) -> None:
    """Files that are each wrong in a way of their own."""
    make({"folder/.env": "", "bad.py": "def f(:\n", "wants_gone.py": f"import gone\n{HANDLE}"})
    make({"two.py": "class A: pass\nclass B: pass\n", "a/x.txt": "", "b/x.txt": ""})
    make({"b/model.pt": "other", "b/handler.py": "other", "b/util.py": "", "util.py": ""})
    make({"wants_util.py": f"import util\n{HANDLE}", "outside.txt": "", "case/a.txt": ""})
    make({"case/A.txt": "", "names/ü.txt": "", "unpacked/MAR-INF/MANIFEST.json": ""})
    make(
        {"files.txt": "torch\n-r other.txt\n", "empty.yaml": "", "quoted.yaml": "batchSize: '8'\n"}
    )
    for folder, link, to in (
        ("links", "dangling", "nowhere"),
        ("linked", "dangling", "nowhere"),
        ("leaving", "out", "../outside.txt"),
    ):
        (here / folder).mkdir()
        (here / folder / link).symlink_to(to)
    with Path("evil.pt").open("wb") as file:
        pickle.dump(os.system, file)


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize(("options", "why"), REFUSED)
def test_what_is_refused_is_named_and_the_old_archive_stays(
    options: dict[str, Any], why: str
) -> None:
    if "by case" in why and len([*Path("case").iterdir()]) == 1:
        pytest.skip("this file system does not tell A.txt from a.txt")
    old = packing(export_path="out").path
    before, stamp = image(old), old.stat().st_mtime_ns
    message = refusal(export_path="out", force=True, **options)
    assert message.startswith(why)
    assert [*Path("out").iterdir()] == [old]
    assert (image(old), old.stat().st_mtime_ns) == (before, stamp)
    if "version" not in options and "model_name" not in options:
        with pytest.raises(PackError):
            packing(export_path="new", **options)
        assert not Path("new").exists()


def test_all_that_is_wrong_with_the_imports_is_said_at_once() -> None:
    make({"handler.py": f"import gone\nimport pkg.gone\n{HANDLE}", "pkg/__init__.py": ""})
    assert len(refusal().splitlines()) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_archive_that_is_there_is_replaced_only_by_force(format: ArchiveFormat) -> None:
    old = packing(archive_format=format).path
    before = image(old)
    make({"model.pt": "another", "more.txt": ""})
    options: dict[str, Any] = {"archive_format": format, "extra_files": "more.txt"}
    assert refusal(**options) == f"{old}: is there already; --force replaces it"
    assert image(old) == before
    packing(force=True, **options)
    assert members(old)["model.pt"] == b"another"
    make({"model.pt": "a third"})
    packing(force=True, archive_format=format)
    assert "more.txt" not in members(old)


@pytest.mark.parametrize(
    ("format", "there", "why"),
    [
        ("no-archive", "tiny/weights.bin", "has no MAR-INF/inventory.json, "),
        ("no-archive", "tiny", "has no MAR-INF/inventory.json, "),
        ("default", "tiny.mar/x", "is no archive; "),
        ("default", "tiny.mar", "is no archive; "),
        ("tgz", "tiny.tar.gz", "is no archive; "),
        ("tgz", "tiny.tar.gz/MAR-INF/MANIFEST.json", "is no archive; "),
    ],
)
def test_force_replaces_nothing_but_an_archive(format: ArchiveFormat, there: str, why: str) -> None:
    make({there: "mine"})
    message = refusal(archive_format=format, force=True)
    assert message.startswith(f"tiny{SUFFIXES[format]}: is there already and {why}")
    assert Path(there).read_text() == "mine"


def test_force_removes_no_folder_in_which_somebody_works() -> None:
    path = packing(archive_format="no-archive").path
    make({"tiny/notes/mine.txt": "mine"})
    assert refusal(archive_format="no-archive", force=True).startswith(
        "tiny: is there already and holds notes/mine.txt, which `pack` did not write; "
    )
    assert (path / "notes/mine.txt").read_text() == "mine"


def test_force_does_not_replace_what_is_to_be_packed() -> None:
    Path("tiny.mar").write_bytes(b"PK\3\4 a payload")
    said = "--serialized-file tiny.mar: would be replaced by the archive: write that elsewhere"
    assert refusal(serialized_file="tiny.mar", force=True) == said


def test_force_replaces_a_damaged_archive() -> None:
    path = packing().path
    path.write_bytes(path.read_bytes()[:100])
    assert packing(force=True).path == path


def test_export_path_is_made() -> None:
    assert packing(export_path="a/b/c").path.is_file()


@pytest.mark.parametrize("path", ["model.pt", "model.pt/below"])
def test_export_path_that_cannot_be_is_named(path: str) -> None:
    assert refusal(export_path=path) in (
        f"{path}: File exists",
        f"{path}: Not a directory",
    )


# Kills, and two at once

# Says that it is there, then packs two versions in turn until it is killed.
FOREVER = """
import sys
from marwright.archive.pack import pack
sys.stdout.write("ready\\n"); sys.stdout.flush()
while True:
    for payload in ("one.pt", "two.pt"):
        pack(model_name="tiny", version="1.0", handler="handler.py", serialized_file=payload,
             export_path="out", archive_format=sys.argv[1], force=True)
"""
# Kills that hit it while it wrote; a few more come before or between.
HALVES = 4


@pytest.mark.parametrize("format", ["default", "no-archive"])
def test_killed_packer_leaves_a_whole_archive(format: ArchiveFormat) -> None:
    sizes = {"one.pt": 3 << 20, "two.pt": 2 << 20}
    for name, size in sizes.items():
        Path(name).write_bytes(random.Random(name).randbytes(size))
    target = packing(archive_format=format, serialized_file="one.pt", export_path="out").path
    chance, halves = random.Random(0), 0
    command = [sys.executable, "-c", FOREVER, format]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    while halves < HALVES:
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as packer:
            assert packer.stdout is not None
            assert packer.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, 0.05))
            packer.send_signal(signal.SIGKILL)
        assert packer.returncode == -signal.SIGKILL
        found, payload = members(target), described(target)["serializedFile"]
        assert found[payload] == Path(payload).read_bytes()
        assert set(found) == {"handler.py", payload} | OWN
        halves += len([*Path("out").iterdir()]) > 1
    # What a kill left half done goes with the next one that ends.
    packing(archive_format=format, serialized_file="one.pt", export_path="out", force=True)
    assert [*Path("out").iterdir()] == [target]


def pack_when(wait: Callable[[], object], payload: str) -> None:
    wait()
    packing(serialized_file=payload, export_path="out", force=True)


def test_two_at_once_leave_one_whole_archive() -> None:
    for name in ("one.pt", "two.pt"):
        Path(name).write_bytes(random.Random(name).randbytes(200_000))
    context = multiprocessing.get_context("fork")
    for _ in range(4):
        barrier = context.Barrier(2)
        pair = [context.Process(target=pack_when, args=(barrier.wait, payload))
                for payload in ("one.pt", "two.pt")]  # fmt: skip
        for packer in pair:
            packer.start()
        for packer in pair:
            packer.join()
            assert packer.exitcode == 0
        payload = described(Path("out/tiny.mar"))["serializedFile"]
        found = members(Path("out/tiny.mar"))
        assert found[payload] == Path(payload).read_bytes()
        assert set(found) == {"handler.py", payload} | OWN
        assert [*Path("out").iterdir()] == [Path("out/tiny.mar")]
