"""The gate never cries wolf: nothing is said of models that nothing is wrong with."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from bench.mutants.answers import by_answers
from bench.mutants.healthy import PLANS
from bench.mutants.reduced import DECLARED, in_bfloat16, quantised
from marwright.parity.backends import eager_backend
from marwright.parity.gate import run_gate
from marwright.parity.inputs import boundary
from marwright.recipe.types import Parity
from tests.parity.conftest import Shelf

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

SEEDS = range(5)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_wrong(name: str, seed: int, shelf: Shelf) -> None:
    healthy = shelf(name)
    report = run_gate(healthy.candidate(), healthy.subject(), Parity(seed=seed)).report
    assert report.problems == []
    # Where an image of one colour is divided by what rounding makes of its deviation, nothing is
    # right or wrong, and that is said.
    undecided = [note for note in report.notes if "rounding decides" in note]
    assert report.notes == undecided
    assert len(undecided) == (name == "standardised")
    assert report.ok
    assert report.divergence is None
    assert report.search is not None
    assert {"held-out", "boundary", "random", "worst"} <= {*report.samples}
    assert max(case.ratio for case in report.cases) < 1
    assert max(case.batch_ratio for case in report.cases) < 1


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_wrong_in_int8(seed: int, shelf: Shelf) -> None:
    healthy = shelf("residual")
    declared = msgspec.structs.replace(DECLARED, seed=seed)
    report = run_gate(quantised(healthy), healthy.subject(), declared).report
    assert report.problems == []


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_wrong_in_bfloat16(seed: int, shelf: Shelf) -> None:
    healthy = shelf("residual")
    folder = healthy.onnx.parent / "bf16"
    folder.mkdir(exist_ok=True)
    declared = msgspec.structs.replace(DECLARED, seed=seed)
    report = run_gate(in_bfloat16(healthy, folder), healthy.subject(), declared).report
    assert report.problems == []


@pytest.mark.parametrize("name", PLANS)
def test_nothing_is_wrong_with_the_answers(name: str, shelf: Shelf) -> None:
    healthy = shelf(name)
    assert by_answers(healthy, healthy.recipe, healthy.checkpoint.meta).found == ()


def test_checkpoint_that_gives_nan_may_do_so_everywhere(shelf: Shelf) -> None:
    # Or the mutant that swallows NaN would be of a model that has none.
    healthy = shelf("masks")
    outputs = eager_backend(healthy.eager)(boundary(healthy.subject().domain).rows)
    assert np.isnan(outputs).all(axis=1).any()
    assert not np.isnan(outputs).all()


def test_quick_look_finds_nothing_wrong_either(shelf: Shelf) -> None:
    healthy = shelf("colour")
    subject = replace(healthy.subject(), serving=4, largest=4)
    report = run_gate(healthy.candidate(), subject, Parity(), quick=True).report
    assert report.ok
    assert report.search is None
