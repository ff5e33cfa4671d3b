"""A release holds what was just built from clean, or nothing changes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from marwright.files import sha256_file
from tests.projects import built, edit, make_project, pipeline

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def test_release_from_clean(built_project: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", models=("tiny_a",))
    # Whatever lies there from earlier must not get in.
    (project / "dist").mkdir()
    (project / "dist/old.mar").write_bytes(b"old")
    built(project, "release", "--version", "1.2.0")
    dist = project / "dist"
    assert sorted(path.name for path in dist.iterdir()) == [
        "SHA256SUMS", "parity.json", "tiny_a-1.2.0.mar", "tiny_a-1.2.0.onnx",
    ]  # fmt: skip
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    listed = subprocess.run(check, cwd=dist, capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) == 3
    assert json.loads((dist / "parity.json").read_bytes())["tiny_a"]["ok"] is True
    # Another folder, from clean: the archive that any build of these inputs gives.
    released = sha256_file(dist / "tiny_a-1.2.0.mar")
    assert released == sha256_file(built_project / "model_store/tiny_a.mar")
    # The person's own build is theirs.
    assert not (project / "build/tiny_a").exists()
    assert not (project / "model_store").exists()


def test_release_that_fails_keeps_the_old_one(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", models=("tiny_a",))
    (project / "dist").mkdir()
    (project / "dist/old.mar").write_bytes(b"old")
    edit(project, "archive/tiny_a.toml", 'minimum_metric = "any"', "minimum_metric = 0.9")
    assert pipeline(project, "release", "--version", "1.2.0").returncode == 6
    edit(project, "archive/tiny_a.toml", "minimum_metric", "minimum")
    assert pipeline(project, "release", "--version", "1.2.0").returncode == 3
    assert [path.name for path in (project / "dist").iterdir()] == ["old.mar"]


@pytest.mark.parametrize("version", ["1.2", "v1.2.0", "1.2.0/..", "", "1.2.0 "])
def test_version_that_is_none(tmp_path: Path, version: str) -> None:
    project = make_project(tmp_path / "project", models=("tiny_a",))
    done = pipeline(project, "release", f"--version={version}")
    assert done.returncode == 2
    assert "not a version like 1.2.0" in done.stderr
