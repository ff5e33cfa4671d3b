"""Imports run one way, and what ships depends on nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from marwright.archive.sources import SourceReader
from tests.projects import ROOT

# Each room may import itself and those before it; handlers import handlers only.
ORDER = ("handlers", "recipes", "train", "archive", "report", "pipeline", "ci")


def wrong_imports(root: Path) -> Iterator[str]:
    """Name each import that runs against the order; imports for types count too."""
    for rank, room in enumerate(ORDER):
        for file in sorted((root / room).rglob("*.py")):
            path = file.relative_to(root).as_posix()
            for level, module, *_ in SourceReader(root).read(path).imports:
                top = room if level else module.partition(".")[0]
                if top in ORDER and ORDER.index(top) > rank:
                    yield f"{path} imports {module}"


def test_imports_run_one_way() -> None:
    assert [*wrong_imports(ROOT)] == []


def test_an_import_against_the_order_is_found(tmp_path: Path) -> None:
    for room in ORDER:
        (tmp_path / room).mkdir()
    (tmp_path / "handlers/bad.py").write_text("def f():\n    from train import types\n")
    (tmp_path / "train/good.py").write_text("import marwright.runtime.spec\nfrom . import types\n")
    assert [*wrong_imports(tmp_path)] == ["handlers/bad.py imports train"]


# Of the archive room, what exports, compares, or runs models: these files, and all of these
# folders but the types that others read.
WITH_TORCH = {Path("archive", name) for name in ("golden.py", "onnx_export.py", "onnx_session.py")}
FOLDERS_WITH_TORCH = {Path("archive", name) for name in ("answers", "parity", "quantise")}


def light(file: Path) -> bool:
    """Whether a file of the archive room must do without torch and onnx."""
    inside = not FOLDERS_WITH_TORCH.isdisjoint(file.parents)
    inside &= file.name not in ("__init__.py", "types.py")
    return not inside and file not in WITH_TORCH


ARCHIVE = sorted(file.relative_to(ROOT) for file in (ROOT / "archive").rglob("*.py"))
LIGHT_ARCHIVE = [file for file in ARCHIVE if light(file)]
TORCH_FREE = (
    "recipes",
    "pipeline",
    "report",
    "handlers/spec.py",
    "handlers/request.py",
    *(file.as_posix() for file in LIGHT_ARCHIVE),
)


def test_what_may_import_torch_is_there() -> None:
    assert set(ARCHIVE) >= WITH_TORCH
    for folder in FOLDERS_WITH_TORCH:
        both = {folder / "__init__.py", folder / "types.py"}
        assert both & set(ARCHIVE) <= set(LIGHT_ARCHIVE)
        assert any(file.parent == folder for file in set(ARCHIVE) - set(LIGHT_ARCHIVE))


@pytest.mark.parametrize("place", TORCH_FREE)
def test_torch_is_not_imported_at_the_top_of(place: str) -> None:
    heavy = {"torch", "torchvision", "sklearn", "onnx", "onnxruntime"}
    files = [ROOT / place] if place.endswith(".py") else [*(ROOT / place).rglob("*.py")]
    assert files
    for file in files:
        top = {line.split()[1].partition(".")[0] for line in file.read_text().splitlines()
               if line.startswith(("import ", "from "))}  # fmt: skip
        assert not top & heavy, file
