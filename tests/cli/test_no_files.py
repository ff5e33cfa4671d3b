"""Where a file is expected, a FIFO, a device or a socket is refused at once."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.archive.hostile import WHOLE
from tests.projects import make_project

ROOT = Path(__file__).resolve().parent.parent.parent
HANDLER = "def handle(data, context):\n    return [b'ok'] * len(data or ())\n"
RECIPE = """\
version = "1.0"
task = "classification"

[data]
dataset = "{dataset}"
files = ["{file}"]
params = {params}

[preprocess]
{preprocess}

[model]
factory = "{factory}"

[serve]
handler = "{handler}"
"""
TABLE = {
    "preprocess": 'kind = "table"',
    "factory": "mlp",
    "handler": "classify_table",
    "params": '{target = "y"}',
}
IMAGE = {
    "preprocess": 'kind = "image"\nchannels = 3\nheight = 16\nwidth = 16',
    "factory": "small_cnn",
    "handler": "classify_image",
    "params": "{}",
}


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def zero(path: Path) -> None:
    """A link to a device: nobody who is not root can make one."""
    path.symlink_to("/dev/zero")


pytestmark = pytest.mark.slow
KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "FIFO": (fifo, "is a FIFO, not a file"),
    "socket": (bound, "is a socket, not a file"),
    "device": (zero, "is a device, not a file"),
}
PACK = "pack --model-name m --version 1.0 --export-path out --handler handler.py"
# What is asked for, with what is no file in it, and how it ends.
CASES = {
    "verify": ("verify odd.mar", 4, "odd.mar"),
    "verify a tar": ("verify odd.tar.gz", 4, "odd.tar.gz"),
    "inspect": ("inspect odd.mar", 4, "odd.mar"),
    "diff": ("diff odd.mar good.mar", 4, "odd.mar"),
    "diff the other way": ("diff good.mar odd.mar", 4, "odd.mar"),
    "run an archive": ("run odd.mar good.mar", 4, "odd.mar"),
    "run a request": ("run good.mar odd.png", 2, "odd.png"),
    "predict": ("predict --model m --input odd.json", 2, "odd.json"),
    "a store": ("verify --store store", 4, "store/odd.mar"),
    "payload": (f"{PACK} --serialized-file odd.pt", 9, "odd.pt"),
    "model file": (f"{PACK} --model-file odd.py", 9, "odd.py"),
    "extra file": (f"{PACK} --extra-files odd.json", 9, "odd.json"),
    "extra tree": (f"{PACK} --extra-trees tree", 9, "tree/odd.txt"),
    "extra folder": (f"{PACK} --extra-files tree", 9, "tree/odd.txt"),
    "requirements": (f"{PACK} --requirements-file odd.txt", 9, "odd.txt"),
    "configuration": (f"{PACK} --config-file odd.yaml", 9, "odd.yaml"),
    "handler": ("pack --model-name m --version 1.0 --handler odd.py", 9, "odd.py"),
    "what the handler imports": (f"{PACK.replace('handler.py', 'imports.py')}", 9, "odd"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.marwright]\n")
    (tmp_path / "handler.py").write_text(HANDLER)
    (tmp_path / "imports.py").write_text(f"import odd\n{HANDLER}")
    (tmp_path / "good.mar").write_bytes(WHOLE)
    return tmp_path


def ended(project: Path, command: str, root: Path = ROOT) -> tuple[int, str]:
    words = [sys.executable, "-m", "marwright", *command.split()]
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "300"}
    done = subprocess.run(words, cwd=project, env=environment, timeout=60, check=False,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_what_is_no_file_is_refused(project: Path, case: str, kind: str) -> None:
    command, code, name = CASES[case]
    make, said = KINDS[kind]
    if case == "a store":
        said = "a store holds files only"
    if kind == "device" and name.startswith("tree/"):
        said = "a link out of the folder, to /dev/zero"
    if case == "what the handler imports":
        # It is none that Python would import either.
        said = "odd"
    for path in ("odd.mar", "odd.tar.gz", "odd.png", "odd.json", "odd.pt", "odd.py", "odd.txt",
                 "odd.yaml", "tree/odd.txt", "store/odd.mar"):  # fmt: skip
        make(project / path)
    found, output = ended(project, command)
    assert "Traceback" not in output
    assert (found, name in output, said in output) == (code, True, True), output


def recipe_of(project: Path, name: str, **what: str) -> None:
    (project / "archive" / f"{name}.toml").write_text(RECIPE.format_map(what))


@pytest.mark.parametrize("kind", KINDS)
def test_recipes_and_data_that_are_no_files_are_refused(tmp_path: Path, kind: str) -> None:
    make, said = KINDS[kind]
    project = make_project(tmp_path / "project", models=())
    for folder in ("photos/dark", "photos/light"):
        (project / folder).mkdir(parents=True)
    for path in ("archive/odd.toml", "rows.csv", "photos/dark/odd.png", "model_store/odd.mar"):
        (project / path).parent.mkdir(exist_ok=True)
        make(project / path)
    shutil.copy(ROOT / "config.properties", project)
    recipe_of(project, "table", dataset="csv", file="rows.csv", **TABLE)
    recipe_of(project, "photos", dataset="image_folder", file="photos", **IMAGE)
    cases = {
        "train --model odd": (3, "archive/odd.toml"),
        "train --model table": (5, "rows.csv"),
        "train --model photos": (5, "photos/dark/odd.png"),
        "summary --model table": (5, "rows.csv"),
        "list --model table": (0, "table"),
        "explain --model table": (5, "rows.csv"),
        "serve": (11, "odd.mar"),
    }
    for command, (code, name) in cases.items():
        found, output = ended(project, command, project)
        assert "Traceback" not in output, command
        assert (found, name in output) == (code, True), (command, output)
        assert command.startswith(("list", "serve")) or said in output, (command, output)
