"""Reports as values: consistent, closed, and the same after a trip through JSON."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from archive.types import (
    GoldenIndex,
    GoldenSample,
    Inventory,
    ParityReport,
    ParitySummary,
    Proof,
    VerifyReport,
    from_json,
    read_json,
    to_json,
)
from tests.archive.tiny import ROOT, parity_case, parity_report
from tests.test_layers import WITH_TORCH

FAILED = parity_case(backend="torchscript", ok=False, max_abs=0.5, problem="differs")


def test_parity_report_survives_json() -> None:
    for report in (parity_report(), parity_report(parity_case(), FAILED)):
        assert msgspec.json.decode(to_json(report), type=ParityReport) == report


def test_parity_report_cannot_be_better_than_its_cases() -> None:
    report = to_json(parity_report(parity_case(), FAILED))
    with pytest.raises(msgspec.ValidationError, match="ok is True, its 2 cases say otherwise"):
        msgspec.json.decode(
            report[:-40] + report[-40:].replace(b"false", b"true"), type=ParityReport
        )
    with pytest.raises(ValueError, match="ok is True, its 1 cases"):
        ParityReport(atol=1.0, rtol=1.0, samples=1, cases=[FAILED], ok=True)


def test_gate_that_compared_nothing_is_not_ok() -> None:
    with pytest.raises(ValueError, match="its 0 cases"):
        ParityReport(atol=1.0, rtol=1.0, samples=1, cases=[], ok=True)


def test_worst_case_is_a_failed_one_if_there_is_any() -> None:
    larger = parity_case(max_abs=0.9)
    crashed = parity_case(ok=False, max_abs=-1.0, problem="fails to run")
    assert parity_report(parity_case(), larger).worst() == larger
    assert parity_report(larger, FAILED).worst() == FAILED
    assert parity_report(crashed, FAILED, larger).worst() == FAILED
    assert parity_report(larger, crashed).worst() == crashed


def test_summary_sums_up_all_cases() -> None:
    report = parity_report(
        parity_case(batch=7, flips=1),
        parity_case(batch=2, max_abs=2e-5),
        parity_case(batch=7, flips=2, backend="torchscript"),
    )
    assert report.summary() == ParitySummary(
        ok=True, atol=1e-4, rtol=1e-4, samples=10, batches=[2, 7], max_abs=2e-5, flips=3
    )


@pytest.mark.parametrize(
    "kind", [ParityReport, ParitySummary, GoldenIndex, GoldenSample, Inventory, Proof, VerifyReport]
)
def test_unknown_keys_are_refused(kind: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `surprise`"):
        msgspec.json.decode(b'{"surprise": 1}', type=kind)


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        parity_report().ok = False  # type: ignore[misc]


def test_verify_report_is_ok_without_problems_only() -> None:
    found = {"sha256": "", "size": 1, "members": 1, "golden_samples": 0, "proven": False}
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
    files = [file.relative_to(ROOT) for file in sorted((ROOT / "archive").rglob("*.py"))]
    light = [file for file in files if file.stem not in WITH_TORCH]
    assert len(light) == len(files) - len(WITH_TORCH)
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'sklearn', 'PIL', 'ts'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    modules = [".".join(file.with_suffix("").parts) for file in light]
    subprocess.run([sys.executable, "-c", code, *modules], cwd=ROOT, check=True)
