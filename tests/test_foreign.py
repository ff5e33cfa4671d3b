"""The wheel in somebody else's repository: `ci/foreign.py`, with this checkout's dependencies."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from ci.foreign import build_wheel, rehearse
from tests.projects import ROOT

pytestmark = [pytest.mark.torch, pytest.mark.onnx, pytest.mark.serve]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; what it depends on is found in this one's."""
    folder = tmp_path_factory.mktemp("foreign")
    place = folder / "environment"
    venv.create(place, with_pip=False)
    subprocess.run(
        [ROOT / ".venv/bin/uv", "pip", "install", "--quiet", "--offline", "--no-deps",
         "--python", place / "bin/python", build_wheel(folder)],
        check=True,
    )  # fmt: skip
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # A folder in a .pth file: its own .pth files, our editable install among them, are not read.
    (place / "lib" / version / "site-packages/dependencies.pth").write_text(
        sysconfig.get_path("purelib")
    )
    return place


def test_ours_is_the_wheel(environment: Path) -> None:
    done = subprocess.run(
        [environment / "bin/python", "-c", "import marwright; print(marwright.__file__)"],
        capture_output=True, text=True, check=True, cwd=environment,
    )  # fmt: skip
    assert Path(done.stdout.strip()).is_relative_to(environment.resolve())


def test_a_foreign_repository_trains_proves_serves_and_answers(
    environment: Path, tmp_path: Path
) -> None:
    seen = rehearse(tmp_path, environment, "table")
    assert seen[-1].startswith('200 {"predictions":[') and "points of disease" in seen[-1]
