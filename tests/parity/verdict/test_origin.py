"""Which weights a file says that it was made from, of files that the exporters write."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.export.to_onnx import export_onnx
from marwright.export.trace import trace
from marwright.parity.verdict.origin import origin_of_onnx, origin_of_traced
from marwright.recipe.errors import ParityError
from tests.parity.files import COLUMNS, NET, WEIGHTS, onnx_file, traced_file

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


def test_exporters_write_it_and_it_is_read(tmp_path: Path) -> None:
    assert origin_of_traced(trace(NET, (COLUMNS,), tmp_path, origin=WEIGHTS)) == WEIGHTS
    assert origin_of_onnx(export_onnx(NET, (COLUMNS,), 20, tmp_path, origin=WEIGHTS)) == WEIGHTS


def test_a_file_that_says_nothing_says_nothing(tmp_path: Path) -> None:
    assert origin_of_traced(traced_file(tmp_path, origin="")) == ""
    assert origin_of_onnx(onnx_file(tmp_path, origin="")) == ""
    assert origin_of_traced(trace(NET, (COLUMNS,), tmp_path)) == ""


@pytest.mark.parametrize("content", [b"", b"no such file", b"PK\x03\x04"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.file"
    for there in (False, True):
        if there:
            bad.write_bytes(content)
        with pytest.raises(ParityError):
            origin_of_traced(bad)
        if content or not there:
            with pytest.raises(ParityError):
                origin_of_onnx(bad)
