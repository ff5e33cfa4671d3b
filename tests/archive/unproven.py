"""Models without a recipe, packed. Importing this needs no torch; the payload is not a model."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.container.open import open_archive
from marwright.archive.pack import pack
from marwright.archive.types import INVENTORY, MANIFEST, Packed
from marwright.recipe.errors import PackError

HANDLE = "def handle(data, context):\n    return data\n"
CLASS = (
    "class Handler:\n"
    "    def initialize(self, context):\n        pass\n"
    "    def handle(self, data, context):\n        return data\n"
)
MODEL = "from torch import nn\n\nclass Model(nn.Module):\n    pass\n"
# What every archive of ours describes itself with.
OWN = {MANIFEST, INVENTORY}


def make(files: dict[str, str]) -> None:
    """Write files, and the folders that they are in."""
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")


def packing(**options: Any) -> Packed:
    """Pack the handler and the payload that lie here, but for the options given."""
    options = {"handler": "handler.py", "serialized_file": "model.pt", **options}
    return pack(**{"model_name": "tiny", "version": "1.0", **options})


def refusal(**options: Any) -> str:
    """Return why `packing` refuses; it must."""
    with pytest.raises(PackError) as error:
        packing(**options)
    return str(error.value)


def members(path: Path) -> dict[str, bytes]:
    """Return the members of a sound archive of any format."""
    with open_archive(path) as archive, tempfile.TemporaryDirectory() as name:
        assert archive.problems == []
        assert archive.digests().problems == []
        archive.unpack(Path(name))
        files = (file for file in Path(name).rglob("*") if file.is_file())
        return {file.relative_to(name).as_posix(): file.read_bytes() for file in files}


def described(path: Path) -> dict[str, Any]:
    """Return `model` of the manifest."""
    manifest: dict[str, Any] = json.loads(members(path)[MANIFEST])
    return dict(manifest["model"])


def image(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of the files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {str(file): file.read_bytes() for file in files if file.is_file()}
