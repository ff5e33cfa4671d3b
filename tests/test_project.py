"""A project's root, and how a name in a recipe is found: by its form, wherever the engine lies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.project import environment
from marwright.cli.main import main
from marwright.project import ENGINE, Named, enter, find_root, load_module, named, place
from tests.projects import ROOT

OURS = '[project]\nname = "theirs"\n[tool.marwright]\n'


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path = path.with_suffix(".toml" if name == "pyproject" else ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_this_repository_is_a_project() -> None:
    assert find_root(ROOT) == find_root(ROOT / "docs" / "adr") == ROOT


@pytest.mark.parametrize("text", [OURS, "[tool]\nmarwright = {}\n", "[tool.marwright.x]\n"])
def test_the_nearest_folder_with_our_table_is_the_root(tmp_path: Path, text: str) -> None:
    write(tmp_path, pyproject=OURS)
    inner = write(tmp_path / "ä b", pyproject=text)
    write(inner / "deep", pyproject="[tool.ruff]\n# not a [tool.marwright]\n")
    (inner / "deep" / "down").mkdir()
    assert find_root(inner / "deep" / "down") == inner
    assert find_root(tmp_path / "elsewhere") == tmp_path


def test_without_our_table_there_is_none(tmp_path: Path) -> None:
    assert find_root(write(tmp_path, pyproject="[tool.other]\n")) is None
    (tmp_path / "pyproject.toml").write_bytes(b"\xff [tool.marwright]")
    assert find_root(tmp_path) is None
    with pytest.raises(ValueError, match=r"pyproject\.toml: not TOML: "):
        find_root(write(tmp_path, pyproject="[tool.marwright\n"))


@pytest.mark.parametrize(
    ("name", "file", "function"),
    [
        ("mlp", "marwright/training/models/mlp.py", "build"),
        ("net.py", "net.py", "build"),
        ("train/net.py", "train/net.py", "build"),
        ("train/net.py:small", "train/net.py", "small"),
        ("ranker.net:make", "ranker/net.py", "make"),
        ("ranker:make", "ranker.py", "make"),
    ],
)
def test_a_name_is_found_by_its_form(name: str, file: str, function: str) -> None:
    assert named(name, "training/models", "build") == Named(file=file, function=function)


def test_nobody_s_file_replaces_another_s(tmp_path: Path) -> None:
    root = write(tmp_path, marwright__train__models__mlp="", mlp="", train__models__mlp="")
    assert (
        place("marwright/training/models/mlp.py", root)
        == ENGINE / "marwright/training/models/mlp.py"
    )
    assert place("mlp.py", root) == root / "mlp.py"


def test_a_file_is_loaded_although_another_has_its_folder_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write(tmp_path / "one", train="WHERE = 'train'\n", train__net="WHERE = 'one'\n")
    two = write(tmp_path / "two", train__net="WHERE = 'two'\n")
    monkeypatch.syspath_prepend(one)
    assert load_module("train/net.py", one).WHERE == "one"
    assert load_module("train.py", one).WHERE == "train"
    assert load_module("train/net.py", two).WHERE == "two"
    assert load_module("train/net.py", one).WHERE == "one"
    write(two, train__broken="1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load_module("train/broken.py", two)


def test_looking_for_a_file_runs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path, train="1 / 0\n", train__net="WHERE = 'net'\n")
    monkeypatch.delitem(sys.modules, "train", raising=False)
    monkeypatch.syspath_prepend(root)
    assert load_module("train/net.py", root).WHERE == "net"


def test_modules_are_found_in_the_root_and_the_engine_is_what_it_was(tmp_path: Path) -> None:
    """A project may have modules that are called as the engine's rooms, or as the engine."""
    root = write(
        tmp_path / "ä b",
        report="WHOSE = 'theirs'\n", train="WHOSE = 'theirs'\n", marwright="WHOSE = 'theirs'\n",
        ci__x="WHOSE = 'theirs'\n",
        user="import ci.x, report, train\nfrom marwright import recipe\n",
    )  # fmt: skip
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from marwright.project import enter, load_module\n"
        "root = Path(sys.argv[1])\n"
        "enter(root)\n"
        "found = load_module('user.py', root)\n"
        "names = [found.report.WHOSE, found.train.WHOSE, found.ci.x.WHOSE, found.recipe.__name__]\n"
        "print(json.dumps([names, str(Path.cwd()), sys.path[0]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(root)], env=environment(ROOT),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = ["theirs", "theirs", "theirs", "marwright.recipe"]
    assert json.loads(done.stdout) == [names, str(root), str(root)]


def test_the_working_folder_s_modules_are_not_the_command_s(tmp_path: Path) -> None:
    root = write(tmp_path, pyproject=OURS, argparse="raise SystemExit(9)\n", json="1 / 0\n")
    done = subprocess.run(
        [sys.executable, "-m", "marwright", "list"], cwd=root, env=environment(ROOT),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "marwright: archive/: no recipes; add one as archive/<model>.toml\n"


def test_a_verb_says_that_there_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"marwright: {tmp_path}: no project: neither here nor above is a ")
    assert main(["list", "--project", "gone"]) == 2
    assert capsys.readouterr().err == "marwright: --project gone: no such folder\n"
    # What is about files needs none.
    assert main(["inspect", "gone.mar"]) == 4
    write(tmp_path, pyproject="[tool.marwright\n")
    assert main(["list"]) == 2
    assert "pyproject.toml: not TOML: " in capsys.readouterr().err


def test_a_project_is_found_from_a_folder_in_it_and_named_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "p", pyproject=OURS)
    shutil.copytree(ROOT / "archive", root / "archive")
    monkeypatch.chdir(root / "archive")
    assert main(["list", "--model", "digits_source"]) == 0
    listed = capsys.readouterr().out
    assert "digits" in listed
    monkeypatch.chdir(tmp_path)
    assert main(["list", "--model", "digits_source", "--project", "p"]) == 0
    assert capsys.readouterr().out == listed


def test_the_root_stays_first_however_often_it_is_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/a", str(ENGINE), "/b"])
    for _ in range(2):
        enter(tmp_path)
    assert sys.path == [str(tmp_path), "/a", "/b", str(ENGINE)]
