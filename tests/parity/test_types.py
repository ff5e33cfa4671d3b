"""The report as a value: consistent, closed, and the same after a trip through JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from marwright.archive.types import to_json
from marwright.parity.schema import SCHEMA, schema
from marwright.parity.types import (
    Agreement,
    Case,
    Check,
    ParityReport,
    Problem,
    Summary,
    Tolerance,
    ZooRow,
)
from tests.archive.tiny import parity_case, parity_report

ROOT = Path(__file__).resolve().parents[2]
FAILED = parity_case(backend="torchscript", ok=False, max_error=0.5, ratio=40.0)
PROBLEM = Problem(check="tolerance", backend="torchscript", text="off by 0.5")


def agreed(backend: Any, drop: float) -> Agreement:
    return Agreement(
        backend=backend, samples=10, metric="accuracy", reference=0.9, measured=0.9 - drop,
        drop=drop, interval=(0.0, drop), flips=0, forgiven=0,
    )  # fmt: skip


def test_report_survives_json() -> None:
    for report in (parity_report(), parity_report(FAILED, problems=[PROBLEM])):
        assert msgspec.json.decode(to_json(report), type=ParityReport) == report


@pytest.mark.parametrize(
    ("cases", "problems"),
    [([FAILED], []), ([parity_case(), FAILED], [PROBLEM]), ([parity_case()], [PROBLEM]), ([], [])],
)
def test_report_cannot_be_better_than_what_it_holds(
    cases: list[Case], problems: list[Problem]
) -> None:
    said = f"ok is True; its {len(cases)} cases and {len(problems)} problems say otherwise"
    with pytest.raises(ValueError, match=said):
        msgspec.structs.replace(parity_report(), cases=cases, problems=problems)


def test_edited_file_is_no_report() -> None:
    values = msgspec.to_builtins(parity_report(FAILED, problems=[PROBLEM]))
    with pytest.raises(msgspec.ValidationError, match="ok is True; its 1 cases and 1 problems"):
        msgspec.json.decode(to_json({**values, "ok": True}), type=ParityReport)


def test_summary_is_of_all_cases() -> None:
    report = msgspec.structs.replace(
        parity_report(
            parity_case(batch=7, flips=1, forgiven=1),
            parity_case(batch=2, max_error=2e-5, ratio=0.5),
            parity_case(batch=7, kind="boundary", max_error=3.0, ratio=0.75),
            parity_case(batch=1, backend="int8", max_error=0.1, ratio=-1.0, flips=2),
        ),
        samples={"held-out": 10, "boundary": 4},
    )
    assert report.summary() == Summary(
        ok=True,
        precision="fp32",
        tolerance=Tolerance(k=8.0, floor=1e-6),
        samples=14,
        batches=[1, 2, 7],
        limit=4e-6,
        # Of what has a limit, on real data; the ratio is of all kinds of inputs.
        max_error=2e-5,
        worst_ratio=0.75,
        # The labels that the worst export lost at the worst batch size.
        flips=2,
    )


@pytest.mark.parametrize(
    ("precision", "drop"), [("fp32", None), ("bf16", 0.25), ("int8", 1.5)], ids=str
)
def test_summary_says_what_less_precision_cost(precision: Any, drop: float | None) -> None:
    report = msgspec.structs.replace(
        parity_report(),
        precision=precision,
        agreement=[agreed("torchscript", 0.0025), agreed("onnx", 0.0), agreed("int8", 0.015)],
    )
    assert report.summary().drop == drop


def test_summary_of_a_report_without_cases_has_numbers_still() -> None:
    report = msgspec.structs.replace(parity_report(FAILED, problems=[PROBLEM]), cases=[])
    assert (report.summary().max_error, report.summary().worst_ratio) == (-1, -1)
    assert not report.summary().ok


@pytest.mark.parametrize("kind", [ParityReport, Summary, Case, Problem, Tolerance, ZooRow])
def test_unknown_keys_are_refused(kind: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `surprise`"):
        msgspec.json.decode(b'{"surprise": 1}', type=kind)


def test_each_check_is_explained_and_no_other() -> None:
    lines = (ROOT / "docs/reference/parity.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| check | it means | where to look |") + 2
    rows = lines[start : lines.index("", start)]
    assert [row.split("`")[1] for row in rows] == [*get_args(Check)]


def test_committed_schema_is_that_of_the_types() -> None:
    assert (ROOT / SCHEMA).read_bytes() == schema(), "run `make schema`"


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        parity_report().ok = False  # type: ignore[misc]
