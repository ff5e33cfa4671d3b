"""Archives that the tests of this room take apart: a made-up one, and real ones built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.archive.tiny import payload
from tests.archive.unproven import HANDLE, make


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with real handlers and proof, and a payload that is not a model. No torch."""
    folder = tmp_path_factory.mktemp("packed")
    return payload(folder).pack(folder / "tiny_image.mar")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a handler and a payload, which is not a model."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    make({"handler.py": HANDLE, "model.pt": "not a model"})
    return folder
