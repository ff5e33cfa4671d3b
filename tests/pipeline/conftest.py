"""One project is built for all tests of this room; each test gets a copy of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.projects import built, make_project


@pytest.fixture(scope="session")
def built_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two tiny models, fully built. Not to be written to."""
    project = make_project(tmp_path_factory.mktemp("built"))
    built(project, "train", "archive", "--jobs", "2")
    return project


@pytest.fixture
def project(built_project: Path, tmp_path: Path) -> Path:
    """A copy of the built project: other inodes and times, the same bytes."""
    return Path(shutil.copytree(built_project, tmp_path / "project"))
