"""Imports run one way, and what ships depends on nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from marwright.archive.sources import SourceReader
from marwright.project import ENGINE

# Each room may import itself and those before it; what ships imports itself only.
ORDER = (
    "runtime", "project", "recipe", "files", "training", "export", "parity", "archive", "report",
    "pipeline", "serve", "cli",
)  # fmt: skip
PACKAGE = "marwright"


def wrong_imports(root: Path) -> Iterator[str]:
    """Name each import that runs against the order; imports for types count too."""
    for rank, room in enumerate(ORDER):
        place = root / PACKAGE / room
        for file in [place.with_suffix(".py"), *sorted(place.rglob("*.py"))]:
            if not file.exists():
                continue
            path = file.relative_to(root).as_posix()
            for level, module, names, *_ in SourceReader(root).read(path).imports:
                package, _, inside = module.partition(".")
                tops = [inside.partition(".")[0]] if inside else names
                if level or package != PACKAGE:
                    continue
                if any(top not in ORDER or ORDER.index(top) > rank for top in tops):
                    yield f"{path} imports {module}"


def test_every_room_has_its_place_in_the_order() -> None:
    places = (path for path in (ENGINE / PACKAGE).iterdir() if path.suffix in ("", ".py"))
    rooms = {path.stem for path in places if path.stem[0] != "_"}
    assert rooms == set(ORDER)


def test_imports_run_one_way() -> None:
    assert [*wrong_imports(ENGINE)] == []


def test_an_import_against_the_order_is_found(tmp_path: Path) -> None:
    package = tmp_path / PACKAGE
    for room in ORDER:
        (package / room).mkdir(parents=True)
    (package / "runtime/bad.py").write_text("def f():\n    from marwright.training import types\n")
    (package / "recipe/bad.py").write_text("from marwright import report, runtime\n")
    (package / "training/good.py").write_text(
        "import marwright.runtime.spec\nfrom . import types\n"
    )
    assert [*wrong_imports(tmp_path)] == [
        "marwright/runtime/bad.py imports marwright.training",
        "marwright/recipe/bad.py imports marwright",
    ]


# What exports, compares, or runs models may import torch at once; the types that others read, not.
WITH_TORCH = ("marwright/archive/golden.py", "marwright/archive/answers/check.py",
              "marwright/archive/answers/handled.py",
              "marwright/archive/answers/judged.py")  # fmt: skip
ARCHIVE = sorted(
    file.relative_to(ENGINE).as_posix() for file in (ENGINE / "marwright/archive").rglob("*.py")
)
LIGHT_ARCHIVE = [file for file in ARCHIVE if file not in WITH_TORCH]
# Of what ships, only what runs a TorchScript payload needs torch.
LIGHT_RUNTIME = sorted(
    file.relative_to(ENGINE).as_posix()
    for file in (ENGINE / "marwright/runtime").rglob("*.py")
    if file.name != "service.py"
)
TORCH_FREE = (
    "marwright/__init__.py",
    "marwright/__main__.py",
    "marwright/project.py",
    "marwright/files.py",
    "marwright/recipe",
    "marwright/report",
    "marwright/pipeline",
    "marwright/serve",
    "marwright/cli",
    *LIGHT_RUNTIME,
    "marwright/parity/types.py",
    "marwright/export/quantise/types.py",
    *LIGHT_ARCHIVE,
)


def test_what_may_import_torch_is_there() -> None:
    assert set(ARCHIVE) >= set(WITH_TORCH)


@pytest.mark.parametrize("place", TORCH_FREE)
def test_torch_is_not_imported_at_the_top_of(place: str) -> None:
    heavy = {"torch", "torchvision", "sklearn", "onnx", "onnxruntime"}
    files = [ENGINE / place] if place.endswith(".py") else [*(ENGINE / place).rglob("*.py")]
    assert files
    for file in files:
        top = {line.split()[1].partition(".")[0] for line in file.read_text().splitlines()
               if line.startswith(("import ", "from "))}  # fmt: skip
        assert not top & heavy, file
