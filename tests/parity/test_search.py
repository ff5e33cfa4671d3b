"""The search: it finds traps that random inputs miss, stays in the domain, and repeats itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from marwright.parity.backends import Array, Outputs, Run, eager_backend
from marwright.parity.inputs import Domain, Group, drawn
from marwright.parity.search import Field, search
from marwright.parity.types import Search

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

STEPS = 12
DOMAIN = Domain(
    shape=(16,), low=np.full(16, -1, dtype=np.float32), high=np.full(16, 1, dtype=np.float32)
)


class Net(nn.Module):
    """A small network that was made, not trained."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, outputs))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)


CLASSIFIER, REGRESSION = Net(3).eval(), Net(1).eval()


def rows(count: int = 16) -> Group:
    """Rows as data sets have them: far from the edges of the domain."""
    values = np.random.default_rng(5).normal(size=(count, 16)).clip(-2.5, 2.5) * 0.25
    return Group(
        kind="held-out",
        rows=values.astype(np.float32),
        names=tuple(f"sample {n}" for n in range(count)),
    )


def field(model: nn.Module, backends: Mapping[str, Run], **values: Any) -> Field:
    exact = eager_backend(model)(rows().rows)
    given: dict[str, Any] = {
        "noise": dict.fromkeys(backends, np.full(exact.shape[1], 1e-6)), "domain": DOMAIN,
        "classification": exact.shape[1] > 1, **values,
    }  # fmt: skip
    return Field(eager=model, backends=backends, **given)  # type: ignore[arg-type]


def broken(model: nn.Module, change: Callable[[Array, Outputs], Outputs]) -> Run:
    """Return a backend that is right but for a change, and off by what float32 errs by."""
    exact = eager_backend(model)

    def run(inputs: Array) -> Outputs:
        return change(inputs, exact(inputs) + 1e-7)

    return run


def healthy(model: nn.Module) -> Run:
    return broken(model, lambda _, outputs: outputs)


def found_by_chance(run: Run, model: nn.Module, limit: float) -> int:
    """Count the random inputs, as the gate draws them, on which a backend is off."""
    random = drawn(DOMAIN, 256, 0, rows().rows).rows
    return int((np.abs(run(random) - eager_backend(model)(random)).max(axis=1) > limit).sum())


# Traps


def at_the_edge(inputs: Array, outputs: Outputs) -> Outputs:
    """A branch that only a saturated input takes: every feature far out."""
    return outputs + 4.6 * (np.abs(inputs).mean(axis=1) > 0.75)[:, None]


def test_a_branch_at_the_edge_of_the_domain_is_found() -> None:
    run = broken(REGRESSION, at_the_edge)
    assert found_by_chance(run, REGRESSION, 1e-3) == 0
    assert np.abs(run(rows().rows) - eager_backend(REGRESSION)(rows().rows)).max() < 1e-3
    worst, report = search(field(REGRESSION, {"onnx": run}), rows(), STEPS, 0)
    off = np.abs(run(worst.rows) - eager_backend(REGRESSION)(worst.rows))[:, 0]
    assert off[0] == pytest.approx(4.6, abs=1e-3)
    assert report.first_ratio < 1 < report.worst_ratio
    assert report.worst_ratio == pytest.approx(4.6e6, rel=1e-3)


def rounded(_: Array, outputs: Outputs) -> Outputs:
    """Outputs that are coarse: labels change where the margin is small, and nowhere else."""
    return np.round(outputs * 256) / 256


def test_a_margin_flip_is_found() -> None:
    run, exact = broken(CLASSIFIER, rounded), eager_backend(CLASSIFIER)

    def flipped(inputs: Array) -> int:
        return int((run(inputs).argmax(axis=1) != exact(inputs).argmax(axis=1)).sum())

    start = rows()
    assert flipped(start.rows) == 0
    assert flipped(drawn(DOMAIN, 64, 0, start.rows).rows) == 0
    worst, report = search(field(CLASSIFIER, {"int8": run}), start, STEPS, 0)
    assert report.flips > 0
    assert flipped(worst.rows) > 0
    # A margin descent of a backend that never flips finds no flip.
    assert search(field(CLASSIFIER, {"onnx": healthy(CLASSIFIER)}), start, STEPS, 0)[1].flips == 0


def test_sure_labels_that_flip_are_kept_beside_larger_errors() -> None:
    """As int8 does: off everywhere by a lot, and on some inputs the label is another."""
    exact = eager_backend(CLASSIFIER)

    def coarse(inputs: Array, outputs: Outputs) -> Outputs:
        far = 50.0 * (np.abs(inputs).mean(axis=1) > 0.3)[:, None]
        return np.round(outputs * 8) / 8 + far

    run = broken(CLASSIFIER, coarse)
    worst, _ = search(field(CLASSIFIER, {"int8": run}), rows(), STEPS, 0, keep=6)
    outputs, expected = run(worst.rows), exact(worst.rows)
    margin = expected.max(axis=1) - expected[np.arange(len(expected)), outputs.argmax(axis=1)]
    kept = [name.endswith(", with another label") for name in worst.names]
    assert kept == sorted(kept)
    assert kept.count(False) == 6
    assert 1 <= kept.count(True) <= 3
    assert (margin[6:] > 0).all()
    assert margin[6:].tolist() == sorted(margin[6:], reverse=True)
    assert np.abs(outputs - expected)[:6].min() > 10


def growing(inputs: Array, outputs: Outputs) -> Outputs:
    """An error that follows the output, so that there is a way up."""
    return outputs * (1 + 1e-3 * np.abs(outputs))


def test_ascent_makes_a_small_divergence_larger() -> None:
    run = broken(REGRESSION, growing)
    _, report = search(field(REGRESSION, {"onnx": run}), rows(), STEPS, 0)
    assert report.worst_ratio > 3 * report.first_ratio > 1
    random = drawn(DOMAIN, 64, 0, rows().rows).rows
    by_chance = np.abs(run(random) - eager_backend(REGRESSION)(random)).max() / 1e-6
    assert report.worst_ratio > 1.1 * by_chance


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_become_nan_or_infinite_are_found(value: float) -> None:
    def far_out(inputs: Array, outputs: Outputs) -> Outputs:
        return np.where((np.abs(inputs).mean(axis=1) > 0.75)[:, None], value, outputs)

    run = broken(REGRESSION, far_out)
    assert np.isfinite(run(drawn(DOMAIN, 64, 0, rows().rows).rows)).all()
    worst, report = search(field(REGRESSION, {"onnx": run}), rows(), STEPS, 0)
    assert not np.isfinite(run(worst.rows)[0]).any()
    assert 1e20 < report.worst_ratio < np.inf


class Rooted(nn.Module):
    """NaN of its own, far out."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return REGRESSION(inputs) + (0.75 - inputs.abs().mean(1, keepdim=True)).sqrt()


def test_nan_of_the_checkpoint_is_no_divergence_until_it_is_swallowed() -> None:
    model, start = Rooted(), rows()
    start.rows[3] = 1.0
    _, report = search(field(model, {"onnx": healthy(model)}), start, STEPS, 0)
    assert report.worst_ratio < 0.5
    swallowed = broken(model, lambda _, outputs: np.nan_to_num(outputs))
    worst, report = search(field(model, {"onnx": swallowed}), start, STEPS, 0)
    assert worst.names[0] == "found from sample 3"
    assert report.worst_ratio > 1e20


class InPlace(nn.Module):
    """A network whose first layer writes into what it is given."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return REGRESSION(inputs.clamp_(-0.9, 0.9))


def test_a_model_that_writes_into_its_input_is_searched() -> None:
    run = eager_backend(InPlace())
    worst, report = search(field(InPlace(), {"onnx": run}), rows(), STEPS, 0)
    # Other batches round otherwise.
    assert report.worst_ratio < 1
    assert (np.abs(worst.rows) > 0.9).any()


def test_a_backend_that_stops_is_as_bad_as_can_be() -> None:
    def stops(inputs: Array) -> Outputs:
        if np.abs(inputs).max() > 0.99:
            raise RuntimeError("out of range")
        return eager_backend(REGRESSION)(inputs)

    worst, report = search(field(REGRESSION, {"onnx": stops}), rows(), STEPS, 0)
    assert report.worst_ratio == 1e30
    with pytest.raises(RuntimeError, match="out of range"):
        stops(worst.rows)


def test_backends_run_at_the_batch_that_is_served() -> None:
    batches = []

    def run(inputs: Array) -> Outputs:
        batches.append(len(inputs))
        return eager_backend(REGRESSION)(inputs)

    search(field(REGRESSION, {"onnx": run}, serving=5), rows(16), 1, 0)
    assert batches == [5, 5, 5, 1] * 2


def test_each_backend_is_measured_by_what_it_errs_by() -> None:
    """int8 errs by much more on any input, and must not hide what a float export does on few."""
    trap, coarse = broken(REGRESSION, at_the_edge), broken(REGRESSION, lambda _, o: o + 0.5)
    noise = {"onnx": np.full(1, 1e-6), "int8": np.full(1, 0.5)}
    both = field(REGRESSION, {"onnx": trap, "int8": coarse}, noise=noise)
    worst, _ = search(both, rows(), STEPS, 0)
    off = np.abs(trap(worst.rows) - eager_backend(REGRESSION)(worst.rows))[:, 0]
    assert off[0] == pytest.approx(4.6, abs=1e-3)


# What holds for every search


def test_what_was_found_is_in_the_domain() -> None:
    for model in (CLASSIFIER, REGRESSION):
        worst, _ = search(field(model, {"onnx": broken(model, growing)}), rows(), STEPS, 0)
        assert worst.rows.dtype == np.float32
        assert (worst.rows >= DOMAIN.low).all()
        assert (worst.rows <= DOMAIN.high).all()


def test_the_domain_may_be_an_image_s() -> None:
    shape = (3, 4, 4)
    domain = Domain(
        shape=shape,
        low=np.float32([-1, -2, -3])[:, None, None],
        high=np.float32([0, 1, 2])[:, None, None],
    )
    model = nn.Sequential(nn.Flatten(), Net(3).layers[:0], nn.Linear(48, 3)).eval()
    start = drawn(domain, 6, 0)
    made = Field(
        eager=model,
        backends={"onnx": broken(model, growing)},
        noise={"onnx": np.full(3, 1e-6)},
        domain=domain,
        classification=True,
    )
    worst, _ = search(made, start, STEPS, 0)
    assert worst.rows.shape[1:] == shape
    assert ((worst.rows >= domain.low) & (worst.rows <= domain.high)).all()


def test_same_seed_same_search_and_nothing_is_changed() -> None:
    run, start = broken(CLASSIFIER, growing), rows()
    before = start.rows.copy()
    made = field(CLASSIFIER, {"onnx": run})
    (one, told), (two, again) = (search(made, start, STEPS, 3) for _ in range(2))
    assert (one.rows == two.rows).all()
    assert (one.names, told) == (two.names, again)
    other, _ = search(made, start, STEPS, 4)
    assert (one.rows != other.rows).any()
    assert (start.rows == before).all()
    assert all(parameter.grad is None for parameter in CLASSIFIER.parameters())


# What a network of this size may answer otherwise in batches of another size.
LAST_BITS = 1e-6


def test_the_worst_come_first_with_where_they_began() -> None:
    run = broken(REGRESSION, growing)
    worst, report = search(field(REGRESSION, {"onnx": run}), rows(), STEPS, 0, keep=5)
    off = np.abs(run(worst.rows) - eager_backend(REGRESSION)(worst.rows)).max(axis=1)
    assert (np.diff(off) <= LAST_BITS).all()
    assert off[0] / 1e-6 == pytest.approx(report.worst_ratio, abs=LAST_BITS / 1e-6)
    assert worst.kind == "worst"
    assert len(worst.rows) == len(set(worst.names)) == 5
    assert set(worst.names) <= {f"found from {name}" for name in rows().names}


def test_the_report_says_what_was_done() -> None:
    _, report = search(field(CLASSIFIER, {"onnx": healthy(CLASSIFIER)}), rows(10), STEPS, 7)
    assert report == Search(
        starts=10, steps=STEPS, evaluated=10 * (STEPS + 1), first_ratio=report.first_ratio,
        worst_ratio=report.worst_ratio, flips=0, seed=7,
    )  # fmt: skip
    # In units of the noise: a tenth of it.
    assert 0.05 < report.first_ratio <= report.worst_ratio < 0.5


def test_what_is_found_is_never_better_than_the_start() -> None:
    start = rows(2)
    run = broken(REGRESSION, growing)
    first = np.abs(run(start.rows) - eager_backend(REGRESSION)(start.rows)).max(axis=1)
    worst, report = search(field(REGRESSION, {"onnx": run}), start, 1, 0)
    off = np.abs(run(worst.rows) - eager_backend(REGRESSION)(worst.rows)).max(axis=1)
    assert (np.sort(off) >= np.sort(first)).all()
    assert report.first_ratio == pytest.approx(first.max() / 1e-6, abs=LAST_BITS / 1e-6)
    nothing, report = search(field(REGRESSION, {"onnx": run}), start, 0, 0)
    assert report.worst_ratio == report.first_ratio
    assert sorted(nothing.rows.tolist()) == sorted(start.rows.tolist())


def test_the_worst_of_several_backends_counts() -> None:
    both = {"torchscript": healthy(REGRESSION), "onnx": broken(REGRESSION, at_the_edge)}
    for backends in (both, dict(reversed(both.items()))):
        assert search(field(REGRESSION, backends), rows(), STEPS, 0)[1].worst_ratio > 1e6
