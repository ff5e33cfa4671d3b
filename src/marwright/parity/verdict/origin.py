"""Which weights an export says that it was made from."""

from __future__ import annotations

import zipfile
from pathlib import Path

from marwright.export.to_onnx import ORIGIN as IN_ONNX
from marwright.export.trace import ORIGIN as IN_TRACE
from marwright.parity.locate.onnx_graph import OnnxGraph
from marwright.recipe.errors import ParityError


def origin_of_onnx(path: Path) -> str:
    """Return the SHA-256 in the metadata of an ONNX file; nothing when it says none.

    Raises `ParityError` when the file cannot be read.
    """
    entries = OnnxGraph.load(path).proto.metadata_props
    return next((entry.value for entry in entries if entry.key == IN_ONNX), "")


def origin_of_traced(path: Path) -> str:
    """Return the SHA-256 in a traced module; nothing when it says none.

    Raises `ParityError` when the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(f"/extra/{IN_TRACE}")]
            return archive.read(names[0]).decode("ascii", errors="replace") if names else ""
    except (OSError, zipfile.BadZipFile) as error:
        raise ParityError(f"{path.name}: not a traced module: {error}") from error
