"""What is wrong with an archive: with its structure, or else with its bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from marwright.archive.container.tar_read import TarGzArchive
from marwright.archive.container.types import Container
from marwright.archive.container.zip_read import ZipArchive

Problems = Callable[[bytes], list[str]]


@pytest.fixture
def zip_problems(tmp_path: Path) -> Problems:
    return _problems(ZipArchive, tmp_path / "model.mar")


@pytest.fixture
def tar_problems(tmp_path: Path) -> Problems:
    return _problems(TarGzArchive, tmp_path / "model.tar.gz")


def _problems(kind: Callable[[Path], Container], file: Path) -> Problems:
    def problems(data: bytes) -> list[str]:
        file.write_bytes(data)
        with kind(file) as archive:
            return archive.problems or archive.digests().problems

    return problems
