"""Packing any model: what is written, whatever the format, and which handlers there are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.container.open import open_archive
from marwright.archive.types import INVENTORY, MANIFEST, Inventory, read_json
from marwright.archive.write import FORMATS, SUFFIXES, ArchiveFormat
from tests.archive.unproven import (
    CLASS,
    HANDLE,
    MODEL,
    OWN,
    described,
    image,
    make,
    members,
    packing,
    refusal,
)

pytestmark = pytest.mark.usefixtures("here")

# What is written


def test_archive_holds_what_was_named_and_describes_it() -> None:
    packed = packing()
    assert packed.path == Path("tiny.mar")
    assert packed.size == Path("tiny.mar").stat().st_size
    found = members(packed.path)
    assert set(packed.members) == set(found) == {"handler.py", "model.pt"} | OWN
    assert (found["handler.py"], found["model.pt"]) == (HANDLE.encode(), b"not a model")
    assert json.loads(found[MANIFEST]) == {
        "archiverVersion": "marwright-0.1",
        "createdOn": "01/01/1980 00:00:00",
        "runtime": "python",
        "model": {
            "modelName": "tiny",
            "modelVersion": "1.0",
            "handler": "handler.py",
            "serializedFile": "model.pt",
        },
    }
    assert (packed.imported, packed.left_out, packed.notes) == ((), (), ())


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_the_same(format: ArchiveFormat) -> None:
    make({"tree/sub/a.txt": "a"})
    path = packing(archive_format=format, extra_trees="tree", export_path="out").path
    assert path == Path(f"out/tiny{SUFFIXES[format]}")
    assert path.is_dir() == (format == "no-archive")
    assert set(members(path)) == {"handler.py", "model.pt", "tree/sub/a.txt"} | OWN


@pytest.mark.parametrize("format", FORMATS)
def test_archive_says_that_it_is_unproven(format: ArchiveFormat, tmp_path: Path) -> None:
    path = packing(archive_format=format).path
    with open_archive(path) as archive:
        archive.unpack(tmp_path / "unpacked")
    inventory = read_json(tmp_path / "unpacked" / INVENTORY, Inventory)
    assert inventory is not None
    assert not inventory.proven
    assert set(inventory.members) == {"handler.py", "model.pt", MANIFEST}


@pytest.mark.parametrize("format", FORMATS)
def test_same_files_give_the_same_bytes_wherever_they_lie(
    format: ArchiveFormat, tmp_path: Path
) -> None:
    make({"tree/a.txt": "a", "tree/b.txt": "b", "util.py": ""})
    make({"handler.py": f"import util\n{HANDLE}"})
    options: dict[str, Any] = {"archive_format": format, "extra_files": ["tree"]}
    first = packing(export_path=tmp_path / "first", **options).path
    elsewhere = tmp_path / "else" / "where"
    for name in ("util.py", "tree/b.txt", "tree/a.txt", "model.pt", "handler.py"):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_bytes(Path(name).read_bytes())
    os.chdir(elsewhere)
    again = packing(export_path=tmp_path / "again", **options).path
    found = [
        {name.replace(str(path), ""): data for name, data in image(path).items()}
        for path in (first, again)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "key", "value", "member"),
    [
        ({"serialized_file": "a/weights.pth"}, "serializedFile", "weights.pth", "weights.pth"),
        ({"model_file": "a/net.py"}, "modelFile", "net.py", "net.py"),
        ({"requirements_file": "a/reqs.txt"}, "requirementsFile", "reqs.txt", "reqs.txt"),
        ({"config_file": "a/config.yaml"}, "configFile", "config.yaml", "config.yaml"),
        ({"version": "2024.1-rc_1"}, "modelVersion", "2024.1-rc_1", "model.pt"),
        ({"model_name": "Model-2.b_c"}, "modelName", "Model-2.b_c", "model.pt"),
        ({"serialized_file": None}, "serializedFile", None, "handler.py"),
        ({"serialized_file": Path("a/weights.pth")}, "serializedFile", "weights.pth",
         "weights.pth"),
    ],
)  # fmt: skip
def test_manifest_names_what_each_option_names(
    options: dict[str, Any], key: str, value: str | None, member: str
) -> None:
    make({"a/weights.pth": "x", "a/net.py": MODEL, "a/reqs.txt": "torch\n"})
    make({"a/config.yaml": "minWorkers: 1\nmaxWorkers: 1\n"})
    packed = packing(**options)
    assert described(packed.path).get(key) == value
    assert member in packed.members


@pytest.mark.parametrize("runtime", ["python", "python3", "LSP"])
def test_runtime_is_written_down(runtime: Any) -> None:
    handler = "BaseHandler" if runtime == "LSP" else "handler"
    found = members(packing(runtime=runtime, handler=handler).path)
    assert json.loads(found[MANIFEST])["runtime"] == runtime


def test_named_files_lie_at_the_root_and_folders_keep_their_trees() -> None:
    make({"a/one.json": "1", "data/two.json": "2", "data/sub/three.json": "3"})
    packed = packing(extra_files=["a/one.json, data"], extra_trees=["data"])
    assert set(packed.members) - OWN == {
        "handler.py", "model.pt", "one.json", "two.json", "sub/three.json",
        "data/two.json", "data/sub/three.json",
    }  # fmt: skip


def test_folder_that_is_named_by_a_link_has_the_links_name() -> None:
    make({"src/mylib-1.2/__init__.py": "", "handler.py": f"import mylib\n{HANDLE}"})
    Path("mylib").symlink_to("src/mylib-1.2")
    packed = packing(extra_trees="mylib", source_root="src")
    assert "mylib/__init__.py" in packed.members


@pytest.mark.parametrize("value", ["a.txt,b.txt", ["a.txt", "b.txt"], [Path("a.txt"), "b.txt"]])
def test_lists_may_be_text_as_on_the_command_line(value: Any) -> None:
    make({"a.txt": "", "b.txt": ""})
    assert {"a.txt", "b.txt"} < set(packing(extra_files=value).members)


def test_what_is_left_out_of_folders_is_named() -> None:
    make({"lib/a.py": "", "lib/.env": "SECRET=1", "lib/.git/config": "", "lib/__pycache__/a": ""})
    packed = packing(extra_files="lib")
    assert set(packed.members) == {"handler.py", "model.pt", "a.py"} | OWN
    assert packed.left_out == ("lib/.env", "lib/.git/", "lib/__pycache__/")


def test_folder_that_the_archive_is_written_to_can_be_packed_again_and_again() -> None:
    first = packing(extra_files=".")
    data = first.path.read_bytes()
    again = packing(extra_files=".", force=True)
    assert again.path.read_bytes() == data
    assert again.left_out == ("tiny.mar",)


# Handlers


@pytest.mark.parametrize(
    ("handler", "written", "member"),
    [
        ("handler.py", "handler.py", "handler.py"),
        ("handler", "handler", "handler.py"),
        ("./handler.py", "handler.py", "handler.py"),
        ("handler:handle", "handler:handle", "handler.py"),
        ("handler.py:handle", "handler.py:handle", "handler.py"),
        ("a/entry.py:start", "entry.py:start", "entry.py"),
        ("a/entry:start", "entry:start", "entry.py"),
        ("classes.py", "classes.py", "classes.py"),
        ("pkg.sub.deep:start", "pkg.sub.deep:start", "pkg/sub/deep.py"),
        ("pkg.sub.classes", "pkg.sub.classes", "pkg/sub/classes.py"),
        ("image_classifier", "image_classifier", "model.pt"),
    ],
)
def test_handler_is_a_file_a_module_or_one_of_torchserves_own(
    handler: str, written: str, member: str
) -> None:
    start = "def start(data, context):\n    return data\n"
    make({"a/entry.py": start, "classes.py": CLASS, "pkg/sub/deep.py": start})
    make({"pkg/__init__.py": "", "pkg/sub/__init__.py": "", "pkg/sub/classes.py": CLASS})
    packed = packing(handler=handler)
    assert described(packed.path)["handler"] == written
    assert member in packed.members
    assert ("pkg/sub/__init__.py" in packed.imported) == handler.startswith("pkg")


def test_dotted_handler_is_found_below_the_source_root() -> None:
    make({"src/pkg/__init__.py": "", "src/pkg/handler.py": f"from . import util\n{HANDLE}"})
    make({"src/pkg/util.py": "import other\n", "src/other.py": ""})
    packed = packing(handler="pkg.handler:handle", source_root="src")
    assert set(packed.members) - OWN == {
        "model.pt", "pkg/__init__.py", "pkg/handler.py", "pkg/util.py", "other.py",
    }  # fmt: skip
    assert packed.imported == ("other.py", "pkg/__init__.py", "pkg/util.py")


@pytest.mark.parametrize(
    ("files", "handler", "why"),
    [
        ({}, "gone.py", "--handler gone.py: there is no file gone.py and no module"),
        ({}, "a.b.gone:handle", "there is no file a.b.gone.py and no module a/b/gone.py; "
                                "TorchServe's own are base_handler, "),
        ({}, "image_clasifier", "TorchServe's own are base_handler, dali_image_classifier, "
                                "image_classifier"),
        ({"x.py/y": ""}, "x", "--handler x.py: is a folder, not a file"),
        ({"bad.py": "def f(:\n"}, "bad.py", "bad.py: not Python: "),
        ({"text_classifier.py": HANDLE}, "text_classifier.py",
         "text_classifier.py: has the name of TorchServe's own text_classifier"),
        ({"a.py": "x = 1\n"}, "a.py", "a.py: needs a function `handle`, or exactly one class"),
        ({"a.py": HANDLE}, "a:start", "a.py: has no start; TorchServe would look for a class"),
        ({"a.py": "class A: pass\nclass B: pass\n"}, "a.py", "exactly one class; it has A, B"),
        ({"a.py": HANDLE, "lib/a/__init__.py": ""}, "a.py",
         "a.py: Python would import a/__init__.py in its place: rename one of them"),
        ({"pkg/a.py": f"from .b import c\n{HANDLE}", "pkg/b.py": ""}, "pkg/a.py",
         "pkg/a.py: imports from the package that it is in (.b), and at the archive's root there "
         "is none: name it as a module, as in package.handler:handle"),
        ({"my.handler.py": HANDLE}, "my.handler.py", "my/handler.py is not in the archive"),
    ],
)  # fmt: skip
def test_handler_that_torchserve_could_not_load_is_refused(
    files: dict[str, str], handler: str, why: str
) -> None:
    make(files)
    extra = {"extra_files": "lib"} if Path("lib").exists() else {}
    assert why in refusal(handler=handler, **extra)
    assert not Path("tiny.mar").exists()


@pytest.mark.parametrize("handler", ["lib/libmnist:Mnist", "lib/libmnist.so:Mnist"])
@pytest.mark.skipif(sys.platform != "linux", reason="TorchServe looks for .so on Linux only")
def test_handler_of_the_cpp_backend_is_a_library(handler: str) -> None:
    make({"lib/libmnist.so": "ELF"})
    packed = packing(handler=handler, runtime="LSP")
    assert set(packed.members) == {"libmnist.so", "model.pt"} | OWN
    assert described(packed.path)["handler"] == handler.removeprefix("lib/")


# `model-config.yaml`


def test_config_gets_the_timeouts_that_its_presence_would_reset() -> None:
    make({"model-config.yaml": "# mine\nminWorkers: 1\nmaxWorkers: 1\nresponseTimeout: 7"})
    packed = packing(config_file="model-config.yaml")
    text = members(packed.path)["model-config.yaml"].decode()
    assert text.startswith("# mine\nminWorkers: 1\nmaxWorkers: 1\nresponseTimeout: 7\n")
    assert "startupTimeout: 120\n" in text
    assert packed.notes == ()


def test_config_may_be_named_as_an_extra_file_too() -> None:
    make({"model-config.yaml": "minWorkers: 1\nmaxWorkers: 1\n"})
    packed = packing(config_file="model-config.yaml", extra_files="model-config.yaml")
    assert b"startupTimeout: 120\n" in members(packed.path)["model-config.yaml"]


def test_keys_that_only_the_handler_reads_are_told() -> None:
    make({"model-config.yaml": "handler:\n  top_k: 2\nmyOwn: 1\n"})
    packed = packing(config_file="model-config.yaml")
    assert packed.notes == ("model-config.yaml: read by the handler only: handler, myOwn",)
