"""Archives that the tests of this room take apart: a made-up one, and real ones built once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.archive.tiny import image_recipe, payload, table_recipe
from tests.archive.unproven import HANDLE, make

if TYPE_CHECKING:
    from tests.archive.proven import Proven


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with real handlers and proof, and a payload that is not a model. No torch."""
    folder = tmp_path_factory.mktemp("packed")
    return payload(folder).pack(folder / "tiny_image.mar")


@pytest.fixture(scope="session")
def proven_image(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    """A classifier that was trained for a moment, traced and packed."""
    from tests.archive.proven import image_samples, prove

    return prove(image_recipe(), image_samples(), tmp_path_factory.mktemp("proven_image"))


@pytest.fixture(scope="session")
def proven_table(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    """A regression that was trained for a moment, traced and packed."""
    from tests.archive.proven import prove, table_samples

    return prove(table_recipe(), table_samples(), tmp_path_factory.mktemp("proven_table"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a handler and a payload, which is not a model."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    make({"handler.py": HANDLE, "model.pt": "not a model"})
    return folder
