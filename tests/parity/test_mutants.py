"""The gate can fail: each way to break a model is caught, and named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.mutants.collection import MUTANTS
from bench.mutants.mutant import Finding, Mutant, Verdict
from bench.mutants.reduced import DECLARED, quantised
from marwright.parity.gate import run_gate
from tests.parity.conftest import Shelf

pytestmark = [pytest.mark.torch, pytest.mark.onnx]


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught_and_named(name: str, shelf: Shelf, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    verdict = mutant.judge(shelf(mutant.base), tmp_path)
    assert mutant.missed(verdict) == [], verdict


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 20


def test_search_shows_more_flips_of_int8_than_held_out_samples_do(shelf: Shelf) -> None:
    healthy = shelf("residual")
    report = run_gate(quantised(healthy), healthy.subject(), DECLARED).report
    [held_out] = [each for each in report.agreement if each.backend == "int8"]
    assert report.search is not None
    assert report.search.flips > 3 * held_out.flips
    assert report.search.flips > 3


MUTANT = Mutant(
    name="one", breaks="It.", base="residual", check="tolerance", backends=("onnx", "torchscript"),
    too=("checkpoint",), node="Gemm last$", says="off by", judge=lambda *_: Verdict(found=()),
)  # fmt: skip
CAUGHT = Verdict(
    found=tuple(
        Finding(check="tolerance", backend=backend, text="off by 1")
        for backend in ("onnx", "torchscript", "checkpoint")
    ),
    node="Gemm last",
)


def finding(check: str, backend: str) -> Finding:
    return Finding(check=check, backend=backend, text="")


# That the table of mutants cannot pass by itself.
@pytest.mark.parametrize(
    ("verdict", "missed"),
    [
        (CAUGHT, []),
        (replace(CAUGHT, found=CAUGHT.found[:1]), ["tolerance does not find it in torchscript"]),
        (
            replace(CAUGHT, found=(*CAUGHT.found, finding("runs", "int8"))),
            ["int8 is said to be wrong too"],
        ),
        (
            replace(CAUGHT, found=(*CAUGHT.found[:1], finding("labels", "torchscript"))),
            ["tolerance does not find it in torchscript"],
        ),
        (
            replace(CAUGHT, node="Gemm last_but_one"),
            ["the first diverging node is 'Gemm last_but_one', not 'Gemm last$'"],
        ),
        (
            replace(
                CAUGHT,
                found=(finding("tolerance", "onnx"), finding("tolerance", "torchscript")),
            ),
            ["no text says 'off by'"],
        ),
    ],
)
def test_what_a_verdict_lacks_is_said(verdict: Verdict, missed: list[str]) -> None:
    assert MUTANT.missed(verdict) == missed
