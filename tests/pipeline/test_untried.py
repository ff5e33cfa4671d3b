"""Where TorchServe is not installed, an archive is looked at and never published."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.archive.tiny import rewrite
from tests.projects import archives
from tests.pythons import clean_environment, everything, make_python

pytestmark = pytest.mark.torch

SAYS = 'handler: not tried: this needs torchserve: pip install "marwright[serve]"'


@pytest.fixture(scope="module")
def without_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python in which all is installed that is installed here, but for TorchServe."""
    return make_python(tmp_path_factory.mktemp("python"), everything() - {"torchserve"})


def run(python: Path, project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "marwright", *arguments], cwd=project,
        env={**clean_environment(), "PYTHONPATH": str(project / "src")},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_a_handler_that_was_not_tried_is_not_published(project: Path, without_server: Path) -> None:
    before = archives(project)
    done = run(without_server, project, "archive", "--model", "tiny_a")
    assert done.returncode == 14, done.stderr
    assert f"tiny_a verify: tiny_a.mar: not published: {SAYS}" in done.stderr
    assert "Traceback" not in done.stderr
    assert archives(project) == before
    (project / "model_store/tiny_a.mar").unlink()
    assert run(without_server, project, "archive", "--model", "tiny_a").returncode == 14
    assert not (project / "model_store/tiny_a.mar").exists()


def test_the_payload_is_opened_all_the_same(project: Path, without_server: Path) -> None:
    mar = project / "model_store/tiny_a.mar"
    done = run(without_server, project, "verify", str(mar))
    assert done.returncode == 14, done.stderr
    assert [line for line in done.stdout.splitlines() if "not checked" in line] == [
        f"  not checked: {SAYS}"
    ]
    bad = rewrite(mar, project / "bad.mar", {"model.pt": b"PK\x05\x06" + bytes(18)})
    done = run(without_server, project, "verify", str(bad))
    assert done.returncode == 4
    assert "handler: not tried" not in done.stdout
