"""`new` and `init`: projects to begin with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.workflows import tool_findings
from marwright.cli.new import KINDS, SERVER
from marwright.project import find_root
from marwright.recipe.load import load_recipe
from tests.projects import ROOT

# What a user's shell has of ours, and nothing of this checkout but the engine.
BIN = Path(sys.executable).parent
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("MARWRIGHT_")},
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT / "src"),
}


def marwright(*words: str, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marwright", *words], cwd=at, env=ENVIRONMENT, text=True,
        capture_output=True, check=False,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    every = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in every}


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_project_is_whole_and_clean(kind: str, tmp_path: Path) -> None:
    done = marwright("new", "my tïckets", "--kind", kind, at=tmp_path)
    assert done.returncode == 0, done.stderr
    project = tmp_path / "my tïckets"
    assert {*files(project)} == {
        ".github/workflows/models.yml", ".gitignore", "Makefile", "README.md", "pyproject.toml",
        "archive/my_tickets.toml", "train/my_tickets.py", "handlers/my_tickets.py",
        "tests/test_my_tickets.py", "config.properties",
    }  # fmt: skip
    assert not [name for name, content in files(project).items() if b"@N" in content]
    assert find_root(project / "train") == project
    recipe = load_recipe(project / "archive/my_tickets.toml")
    assert recipe.train is not None and recipe.preprocess.__struct_config__.tag == kind
    for command in (["check"], ["format", "--check"]):
        checked = subprocess.run(
            [BIN / "ruff", *command], cwd=project, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout
    assert "cd 'my tïckets'" in done.stdout
    assert len((project / "Makefile").read_text(encoding="utf-8").splitlines()) <= 10


def test_a_workflow_is_one_that_github_takes(tmp_path: Path) -> None:
    assert marwright("new", "one", at=tmp_path).returncode == 0
    assert [*tool_findings([tmp_path / "one/.github/workflows/models.yml"])] == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/notes.txt").write_text("mine")
    done = marwright("new", "one", at=tmp_path)
    assert done.returncode == 2
    assert "one: is not empty: `marwright init` adds what is missing there" in done.stderr
    assert files(tmp_path) == {"one/notes.txt": b"mine"}


@pytest.mark.parametrize("name", ["Tickets", "1a", "verify", "a-b", ""])
def test_a_name_that_no_model_can_have_is_refused(name: str, tmp_path: Path) -> None:
    done = marwright("new", "one", "--name", name, at=tmp_path)
    assert done.returncode == 2
    assert f"--name {name}: a model's name is of small letters" in done.stderr
    assert not (tmp_path / "one").exists()


def test_init_adds_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    own = {
        "pyproject.toml": b'[project]\nname = "theirs"\nversion = "1"\n',
        "Makefile": b"all:\n\ttrue\n",
        "train/theirs.py": b"print('mine')\n",
        "report.py": b"raise SystemExit('never imported')\n",
    }
    for path, content in own.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    done = marwright("init", "--kind", "table", "--name", "theirs", at=tmp_path)
    assert done.returncode == 0, done.stderr
    now = files(tmp_path)
    marked = own["pyproject.toml"] + b"\n[tool.marwright]\n"
    assert now.pop("pyproject.toml") == marked
    assert "pyproject.toml: [tool.marwright] added at its end" in done.stdout
    assert all(now[path] == own[path] for path in own if path != "pyproject.toml")
    assert "Makefile: is there, and stays" in done.stdout
    assert "handlers/theirs.py: written" in done.stdout
    assert find_root(tmp_path) == tmp_path
    # Once more: everything is there.
    assert marwright("init", "--kind", "table", "--name", "theirs", at=tmp_path).returncode == 0
    assert (tmp_path / "pyproject.toml").read_bytes() == marked


def test_the_server_s_settings_are_those_of_this_repository() -> None:
    assert SERVER.read_bytes() == (ROOT / "config.properties").read_bytes()
