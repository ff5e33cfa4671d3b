"""The same words to torch-model-archiver and to `pack` make archives that hold the same."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.container.open import open_archive
from marwright.archive.contents import read_contents
from marwright.archive.rules.handler import STOCK
from marwright.archive.types import INVENTORY, MANIFEST
from marwright.cli.main import main
from tests.archive.theirs import all_archived
from tests.archive.unproven import CLASS, HANDLE, MODEL, make, members

pytestmark = pytest.mark.slow

# Of the archiver's own, and the time.
NOT_COMPARED = {"createdOn", "archiverVersion"}


def write_project() -> None:
    """Write files of all the kinds that the archiver's documentation speaks of."""
    start = "def start(data, context):\n    return data\n"
    make({"handler.py": HANDLE, "model.pt": "not a model", "libmnist.so": "ELF"})
    make({"src/handler.py": HANDLE, "src/classes.py": CLASS, "src/entry.py": start})
    make({"net/model.py": MODEL, "net/weights.pth": "weights", "net/model.onnx": "onnx"})
    make({"index_to_name.json": "{}", "source_vocab.pt": "vocabulary"})
    make({"reqs/requirements.txt": "torch\nPillow>=11\n", "a/one.txt": "1", "a/two.txt": "2"})
    make({"a/sub/three.txt": "3", "a/sub/deep/four.txt": "4", "a/sub/noext": "5"})
    make({"conf/model-config.yaml": "minWorkers: 1\nmaxWorkers: 2\nbatchSize: 4\n"})
    whole = "responseTimeout: 60\nstartupTimeout: 60\nmaxRetryTimeoutInSec: 30\n"
    make({"conf/whole.yaml": f"minWorkers: 1\nmaxWorkers: 1\n{whole}"})


PAYLOAD = "--serialized-file model.pt"
OPTIONS = [
    # Handlers: a file with and without its suffix, an entry point, one in another folder.
    f"--handler handler.py {PAYLOAD}",
    f"--handler handler {PAYLOAD}",
    f"--handler src/handler.py {PAYLOAD}",
    f"--handler src/handler {PAYLOAD}",
    f"--handler ./src/entry:start {PAYLOAD}",
    f"--handler src/classes.py {PAYLOAD}",
    "--handler handler.py",
    # TorchServe's own, with what each is documented to want.
    *(f"--handler {name} {PAYLOAD} --extra-files index_to_name.json" for name in sorted(STOCK)),
    "--handler image_classifier --model-file net/model.py --serialized-file net/weights.pth "
    "--extra-files index_to_name.json",
    "--handler text_classifier --model-file net/model.py --serialized-file net/weights.pth "
    "--extra-files index_to_name.json,source_vocab.pt",
    "--handler base_handler --model-file net/model.py",
    "--handler base_handler --serialized-file net/model.onnx",
    "--handler vllm_handler --config-file conf/whole.yaml",
    # Extra files: lists with and without blanks, folders, wildcards.
    f"--handler handler {PAYLOAD} --extra-files a/one.txt",
    f"--handler handler {PAYLOAD} --extra-files index_to_name.json,a/one.txt,a/sub/three.txt",
    f"--handler handler {PAYLOAD} --extra-files a",
    f"--handler handler {PAYLOAD} --extra-files ./a/",
    f"--handler handler {PAYLOAD} --extra-files a/sub,index_to_name.json",
    f"--handler handler {PAYLOAD} --extra-files a/*.txt",
    f"--handler handler {PAYLOAD} --extra-files a/*",
    f"--handler handler {PAYLOAD} --extra-files a/[ot]*.txt,a/sub/?hree.txt",
    # Requirements, configuration, runtimes, versions.
    f"--handler handler {PAYLOAD} --requirements-file reqs/requirements.txt",
    f"--handler handler {PAYLOAD} -r reqs/requirements.txt -c conf/whole.yaml",
    f"--handler handler {PAYLOAD} --config-file conf/model-config.yaml",
    f"--handler handler {PAYLOAD} -c conf/whole.yaml --extra-files conf/whole.yaml",
    f"--handler handler {PAYLOAD} --runtime python",
    f"--handler handler {PAYLOAD} --runtime python3",
    f"--handler TorchScriptHandler {PAYLOAD} --runtime LSP",
    f"--handler BaseHandler {PAYLOAD} --runtime LSP",
    f"--handler libmnist:MnistHandler {PAYLOAD} --runtime LSP",
    f"--handler handler {PAYLOAD} --force",
    # Formats, with a bit of everything.
    *(
        "--handler src/handler.py --model-file net/model.py --serialized-file net/weights.pth "
        f"--extra-files a,index_to_name.json -r reqs/requirements.txt -c conf/whole.yaml {format}"
        for format in (
            "",
            "--archive-format default",
            "--archive-format zip-store",
            "--archive-format tgz",
            "--archive-format no-archive",
        )
    ),
]


def words(options: str) -> list[str]:
    return ["--model-name", "tiny", "--version", "1.0", *options.split()]


def manifest(found: dict[str, bytes]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(found[MANIFEST])
    return {key: value for key, value in read.items() if key not in NOT_COMPARED}


@pytest.mark.parametrize("options", OPTIONS)
def test_both_hold_the_same(options: str, tmp_path: Path, theirs_of: dict[str, Path]) -> None:
    path = theirs_of[options]
    assert main(["pack", *words(options), "--export-path", str(tmp_path / "ours")]) == 0
    theirs, ours = members(path), members(tmp_path / "ours" / path.name)
    assert ours.keys() - theirs.keys() == {INVENTORY}
    assert theirs.keys() - ours.keys() == set()
    assert manifest(ours) == manifest(theirs)
    assert json.loads(ours[MANIFEST]).keys() == json.loads(theirs[MANIFEST]).keys()
    different = {name for name in theirs if name != MANIFEST and ours[name] != theirs[name]}
    # Timeouts that its mere presence would reset are added; the rest stays as it is.
    assert different == ({"model-config.yaml"} if "model-config.yaml" in options else set())
    for name in different:
        assert ours[name].startswith(theirs[name])
    with open_archive(path) as archive:
        assert read_contents(archive, archive.digests()).problems == []


USUAL = f"--handler handler.py {PAYLOAD}"
# What is different on purpose: what theirs then holds, and what ours says or holds


def swallowed(found: dict[str, bytes]) -> bool:
    return found["x.txt"] == b"second"


DIFFERENT: dict[str, tuple[str, Callable[[dict[str, bytes]], bool], str | set[str]]] = {
    "two files of one name": ("--extra-files first/x.txt,second/x.txt", swallowed, "x.txt: first/"),
    "an extra file that is called as the handler": (
        "--extra-files other/handler.py",
        lambda found: found["handler.py"] == b"other",
        "handler.py: other/handler.py and handler.py would both be called this",
    ),
    "an extra folder that holds the name": (
        "--extra-files first,second", swallowed, "x.txt: first/x.txt and second/x.txt would both"
    ),
    "a manifest of somebody else's": (
        "--archive-format no-archive --extra-files unpacked",
        lambda found: b"modelName" in found[MANIFEST],
        "unpacked/MAR-INF/MANIFEST.json: would be called MAR-INF/MANIFEST.json, which is for",
    ),
    "what is hidden, and bytecode": (
        "--extra-files lib,lib/__pycache__",
        lambda found: found.keys() >= {".env", "a.pyc", "a.cpython-311.pyc"},
        {"a.py"},
    ),
    "a hidden file by its name": (
        "--extra-files lib/.env", lambda found: ".env" in found, "hidden files are not packed"
    ),
    "a link out of the folder": (
        "--extra-files leaving",
        lambda found: found["out.txt"] == b"outside",
        "--extra-files leaving/out.txt: a link out of the folder, to ",
    ),
    "a dangling link": (
        "--extra-files dangling",
        lambda found: "gone.txt" not in found,
        "--extra-files dangling/gone.txt: a link to nowhere, which is not there",
    ),
    "a wildcard without a match": (
        "--extra-files *.gone", lambda found: len(found) == 3, "--extra-files *.gone: nothing"
    ),
    "an import": ("--handler importing.py", lambda found: "util.py" not in found, {"util.py"}),
    "an import that nobody has": (
        "--handler lacking.py",
        lambda found: "lacking.py" in found,
        "lacking.py:1: imports not_there_at_all, which is neither in",
    ),
    "a handler that cannot be parsed": (
        "--handler broken.py", lambda found: "broken.py" in found, "broken.py: not Python"
    ),
    "a handler with the name of TorchServe's own": (
        "--handler named/text_classifier.py",
        lambda found: "text_classifier.py" in found,
        "text_classifier.py: has the name of TorchServe's own",
    ),
    "a configuration that the server would not understand": (
        "--config-file quoted.yaml",
        lambda found: found["quoted.yaml"] == b"batchSize: '8'",
        "--config-file quoted.yaml: batchSize: '8' is not a whole number",
    ),
    "a version that no URL can carry": (
        "--version 1/2 --archive-format zip-store",
        lambda found: json.loads(found[MANIFEST])["model"]["modelVersion"] == "1/2",
        "--version '1/2': letters, digits",
    ),
    "a payload that runs code when it is read": (
        "--serialized-file evil.pt", lambda found: "evil.pt" in found, "--serialized-file evil.pt: "
    ),
    "a payload that the handler cannot load": (
        "--handler image_classifier --serialized-file net/weights.pth",
        lambda found: "weights.pth" in found,
        "--serialized-file net/weights.pth: without --model-file, image_classifier loads",
    ),
    "a name that is not ASCII": (
        "--extra-files names", lambda found: "ü.txt" in found, "'ü.txt': members have plain"
    ),
}  # fmt: skip


def write_oddities() -> None:
    """Write files that torch-model-archiver packs without a word, and those that it loses."""
    make({"first/x.txt": "first", "second/x.txt": "second", "other/handler.py": "other"})
    make({"unpacked/MAR-INF/MANIFEST.json": "{}", "lib/a.py": "", "lib/.env": "", "lib/a.pyc": ""})
    make({"lib/__pycache__/a.cpython-311.pyc": "", "outside.txt": "outside", "names/ü.txt": ""})
    make({"importing.py": f"import util\n{HANDLE}", "util.py": "", "broken.py": "def f(:\n"})
    make({"lacking.py": f"import not_there_at_all\n{HANDLE}", "quoted.yaml": "batchSize: '8'"})
    make({"named/text_classifier.py": HANDLE})
    for link, to in (("leaving/out.txt", "../outside.txt"), ("dangling/gone.txt", "nowhere")):
        Path(link).parent.mkdir()
        Path(link).symlink_to(to)
    with Path("evil.pt").open("wb") as file:
        pickle.dump(os.system, file)


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_is_different_on_purpose(
    what: str, tmp_path: Path, theirs_of: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options, theirs, ours = DIFFERENT[what]
    assert theirs(unpacked(theirs_of[what]))
    code = main(["pack", *words(f"{USUAL} {options}"), "--export-path", str(tmp_path / "ours")])
    if isinstance(ours, str):
        assert (code, ours in capsys.readouterr().err) == (9, True)
        assert not (tmp_path / "ours").exists()
    else:
        assert code == 0
        handler = "importing.py" if what == "an import" else "handler.py"
        found = members(tmp_path / "ours" / "tiny.mar")
        assert found.keys() == {handler, "model.pt", MANIFEST, INVENTORY} | ours


@pytest.fixture(scope="module")
def theirs_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What torch-model-archiver makes, by options, or by what is different."""
    every = {options: options for options in OPTIONS}
    every |= {what: f"{USUAL} {options}" for what, (options, _, _) in DIFFERENT.items()}
    with contextlib.chdir(tmp_path_factory.mktemp("project")):
        write_project()
        write_oddities()
        paths = all_archived([words(options) for options in every.values()], Path("theirs"))
        return {what: path.resolve() for what, path in zip(every, paths, strict=True)}


@pytest.fixture(autouse=True)
def in_project(theirs_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(next(iter(theirs_of.values())).parents[2])


def unpacked(path: Path) -> dict[str, bytes]:
    """Return what anybody would unpack, whatever we say of it."""
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.is_file())
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
