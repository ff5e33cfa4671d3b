"""Reports as values: consistent, closed, and the same after a trip through JSON."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from marwright.archive.types import (
    AnswersReport,
    GoldenIndex,
    GoldenSample,
    Inventory,
    Proof,
    VerifyReport,
    from_json,
    read_json,
    to_json,
)
from marwright.parity.types import ParityReport
from tests.archive.tiny import ROOT, answers_report, parity_case, parity_report
from tests.test_layers import LIGHT_ARCHIVE


@pytest.mark.parametrize(
    "report", [parity_report(), parity_report(parity_case(ok=False)), answers_report("wrong")]
)
def test_reports_survive_json(report: ParityReport | AnswersReport) -> None:
    assert msgspec.json.decode(to_json(report), type=type(report)) == report


def test_answers_cannot_be_better_than_their_problems() -> None:
    with pytest.raises(ValueError, match="ok is True; its 10 requests to 1 exports with 1 prob"):
        msgspec.structs.replace(answers_report("wrong"), ok=True)
    with pytest.raises(ValueError, match="ok is False; its 10 requests to 1 exports with 0 prob"):
        msgspec.structs.replace(answers_report(), ok=False)


@pytest.mark.parametrize("nothing", [{"requests": 0}, {"exports": []}])
def test_answers_that_nobody_asked_for_are_not_ok(nothing: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="ok is True; its "):
        msgspec.structs.replace(answers_report(), **nothing)


@pytest.mark.parametrize(
    "kind", [AnswersReport, GoldenIndex, GoldenSample, Inventory, Proof, VerifyReport]
)
def test_unknown_keys_are_refused(kind: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `surprise`"):
        msgspec.json.decode(b'{"surprise": 1}', type=kind)


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        answers_report().ok = False  # type: ignore[misc]


def test_verify_report_is_ok_without_problems_only() -> None:
    found = {"sha256": "", "size": 1, "members": 1, "golden_samples": 0, "proven": False,
             "handler": "tried"}  # fmt: skip
    assert VerifyReport(**found, problems=[]).ok  # type: ignore[arg-type]
    assert not VerifyReport(**found, problems=["model.pt: changed"]).ok  # type: ignore[arg-type]


def test_json_is_the_same_for_the_same_value() -> None:
    one = to_json({"b": 1, "a": {"d": 0.1, "c": ["é", None]}})
    two = to_json({"a": {"c": ["é", None], "d": 0.1}, "b": 1})
    assert one == two
    assert one.startswith(b'{\n  "a": ')
    assert one.endswith(b"}\n")


def test_json_file_that_is_missing_damaged_or_of_another_type_counts_as_none(
    tmp_path: Path,
) -> None:
    file = tmp_path / "parity.json"
    assert read_json(file, ParityReport) is None
    assert read_json(file / "below", ParityReport) is None
    for content in (b"", b"{", b"null", b"\xff\xfe", b'{"ok": true}', to_json({"more": 1})):
        file.write_bytes(content)
        assert read_json(file, ParityReport) is None
    file.write_bytes(to_json(parity_report()))
    assert read_json(file, ParityReport) == parity_report()


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"request": "\xff"}', "not UTF-8"),
        (b'{"request": 1}', "Expected `str`, got `int` - at `$.request`"),
        (b'{"answer": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "recursion depth"),
    ],
)
def test_member_that_is_not_what_it_should_be_says_why(data: bytes, cause: str) -> None:
    with pytest.raises(ValueError, match=re.escape(cause)):
        from_json(data, GoldenSample)


def test_member_is_read_as_it_was_written() -> None:
    assert from_json(to_json(parity_report()), ParityReport) == parity_report()


def test_the_packing_and_reading_half_of_the_room_imports_neither_torch_nor_onnx() -> None:
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'sklearn', 'PIL', 'ts'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    modules = [file.removesuffix(".py").replace("/", ".") for file in LIGHT_ARCHIVE]
    subprocess.run([sys.executable, "-c", code, *modules], cwd=ROOT, check=True)
