"""What `make wheel` makes: the engine under its one name, whole, and nothing beside it."""

from __future__ import annotations

import re
import shlex
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.projects import ROOT

pytestmark = pytest.mark.slow

TEMPLATES = {
    *(f"common/{name}" for name in (".gitignore", "Makefile", "README.md", "pyproject.toml")),
    "common/.github/workflows/models.yml",
    *(
        f"{kind}/{name}"
        for kind in ("image", "table", "text")
        for name in ("archive/NAME.toml", "train/NAME.py", "handlers/NAME.py", "tests/test_NAME.py")
    ),
}
NOT_CODE = {
    "py.typed", "recipe/schema.json", "serve/log4j2.xml", "serve/config.properties",
    *(f"cli/templates/{name}.in" for name in TEMPLATES),
}  # fmt: skip


def make_wheel(folder: Path) -> Path:
    """Do what `make wheel` does, into a folder."""
    [line] = re.findall(r"^wheel: .*\n\t@(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    line = line.replace("$(PY)", ".venv/bin/python").replace("--out-dir dist", "--out-dir")
    subprocess.run(f"{line} {shlex.quote(str(folder))}", shell=True, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheel(tmp_path_factory.mktemp("dist"))


def sources() -> set[str]:
    """Return what git has of the engine; leftovers of a checkout do not count."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/marwright"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name.removeprefix("src/") for name in listed.stdout.splitlines()}


def test_the_wheel_holds_the_engine_and_nothing_else(dist: Path) -> None:
    [wheel] = dist.glob("marwright-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {*archive.namelist()}
        [entry] = [name for name in names if name.endswith("/entry_points.txt")]
        scripts = archive.read(entry).decode()
    ours = {name for name in names if ".dist-info/" not in name}
    assert ours == sources()
    assert {name for name in ours if not name.endswith(".py")} == {
        f"marwright/{name}" for name in NOT_CODE
    }
    assert scripts.split() == ["[console_scripts]", "marwright=marwright.__main__:run"]
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_sdist_is_what_a_wheel_is_made_of(dist: Path) -> None:
    [sdist] = dist.glob("marwright-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {f"src/{name}" for name in sources()}
    assert names == expected | {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def test_another_build_gives_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path)
    names = sorted(file.name for file in dist.iterdir() if file.name.startswith("marwright"))
    assert len(names) == 2
    for name in names:
        assert (dist / name).read_bytes() == (tmp_path / name).read_bytes()
