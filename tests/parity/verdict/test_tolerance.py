"""The limit, by hand and by the properties that make it say the same of outputs of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marwright.parity.types import Tolerance
from marwright.parity.verdict.tolerance import Floats, calibrate, error_of, limits, rms

REFERENCE = np.array([[1.0, -10.0], [2.0, 5.0]])
ERROR = np.array([[1e-3, 2e-3], [4e-3, 1e-3]])
TOLERANCE = Tolerance(k=2.0, floor=0.1)


def test_error_is_the_largest_of_the_runs() -> None:
    moves = np.array([[[1e-3, 0.0], [0.0, -2e-3]], [[-3e-3, 0.0], [0.0, -1e-3]]])
    assert error_of(REFERENCE, [REFERENCE + move for move in moves]) == pytest.approx(
        np.array([[3e-3, 0.0], [0.0, 2e-3]])
    )


def test_error_is_nothing_where_nothing_is_finite() -> None:
    reference = np.array([[np.nan, np.inf, 1.0, 1.0, 1.0]])
    run = np.array([[np.nan, np.inf, np.nan, -np.inf, 1.5]])
    assert error_of(reference, [run]).tolist() == [[0, 0, 0, 0, 0.5]]
    assert error_of(reference, [run, reference + 0.25])[0, 2] == 0.25


def test_calibration_is_by_output() -> None:
    found = calibrate(REFERENCE, ERROR)
    assert found.noise.tolist() == [4e-3, 2e-3]
    assert found.magnitude.tolist() == [2, 10]
    assert found.size == 10
    # Outputs are off their means by ±0.5 and ±7.5.
    assert found.signal == pytest.approx(28.25**0.5)
    assert found.mean_noise == pytest.approx(1e-3 * (22 / 4) ** 0.5)


def test_rows_that_are_not_finite_calibrate_nothing() -> None:
    for broken in (np.nan, np.inf):
        reference = np.vstack([REFERENCE, [broken, 1e9]])
        error = np.vstack([ERROR, [0.0, 1e3]])
        found, expected = calibrate(reference, error), calibrate(REFERENCE, ERROR)
        assert found.noise.tolist() == expected.noise.tolist()
        assert (found.size, found.signal) == (expected.size, expected.signal)
    nothing = calibrate(np.full((3, 2), np.nan), np.zeros((3, 2)))
    assert (nothing.size, nothing.signal, nothing.mean_noise) == (0, 0, 0)


def test_limit_is_k_times_the_noise_and_a_part_of_the_size() -> None:
    found = calibrate(REFERENCE, ERROR)
    # A row as small as real ones gets what the worst of them gets.
    small = limits(np.array([[0.5, 0.0]]), np.zeros((1, 2)), found, TOLERANCE)
    assert small == pytest.approx(np.array([[2 * 4e-3 + 0.2, 2 * 2e-3 + 1.0]]))
    # One four times as large gets four times the noise, or its own where that is more.
    large = limits(np.array([[3.0, -40.0]]), np.array([[1e-3, 1e-3]]), found, TOLERANCE)
    assert large == pytest.approx(np.array([[2 * 16e-3 + 0.3, 2 * 8e-3 + 4.0]]))
    # Medians are 2.5e-3 and 1.5e-3; this row is off by 4 and 8 times as much.
    off = limits(np.array([[1.0, 1.0]]), np.array([[1e-2, 12e-3]]), found, TOLERANCE)
    times = ((4**2 + 8**2) / 2) ** 0.5
    assert off == pytest.approx(
        np.array([[2 * 2 * 2.5e-3 * times + 0.2, 2 * 2 * 1.5e-3 * times + 1.0]])
    )


def test_luck_in_one_output_does_not_tighten_the_limit_of_a_row() -> None:
    """Of a thousand outputs of a row on which float32 errs much, some are right by chance."""
    chance = np.random.default_rng(0)
    scale = np.where(np.arange(12) == 4, 30.0, 1.0)[:, None] * np.logspace(-2, 2, 1000)
    draws = [1e-7 * scale * np.abs(chance.normal(size=scale.shape)) for _ in range(2)]
    reference = scale * chance.normal(size=scale.shape)
    found = calibrate(reference, draws[0])
    assert found.usual.all()
    limit = limits(reference, draws[0], found, Tolerance(k=8.0, floor=1e-9))
    assert (draws[1] / limit).max() < 0.6
    # Nor does that row widen the limit of others by more than it must.
    others = np.delete(limit / (1e-7 * scale), 4, axis=0)
    assert np.median(others) < 8 * 30


def test_outputs_that_are_zero_on_most_rows_are_held_to_what_the_others_err_by() -> None:
    """A network that ends in a ReLU: of a thousand outputs most are zero on most rows."""
    chance = np.random.default_rng(0)
    before = chance.normal(loc=-2.2, size=(16, 1000))
    reference = np.maximum(before, 0)
    drawn = [np.where(before > 0, 1e-7 * np.abs(chance.normal(size=before.shape)), 0)] * 2
    # By the other library, one output is a little above zero that is not.
    drawn[1] = drawn[1] + 1e-7 * (before > -1e-3) * (before <= 0)
    found = calibrate(reference, drawn[0], one_unit=True)
    assert found.usual.all()
    assert found.signal > 100 * found.mean_noise
    limit = limits(reference, drawn[0], found, Tolerance(k=8.0, floor=1e-6))
    assert (drawn[1] <= limit).all()
    assert limit.max() < 2e-5
    # By itself, hardly any row is like the others.
    assert calibrate(reference, np.where(before > 0, 1e-5, 0.0)).usual.sum() < 16
    assert calibrate(reference, np.where(before > 0, 1e-5, 0.0), one_unit=True).usual.all()


def test_a_row_that_rounding_decided_counts_for_itself_only() -> None:
    chance = np.random.default_rng(0)
    reference = chance.normal(size=(20, 3))
    error = np.abs(1e-7 * chance.normal(size=(20, 3)))
    error[4] = 0.05
    found = calibrate(reference, error)
    assert found.usual.tolist() == [row != 4 for row in range(20)]
    assert found.noise.max() < 1e-6
    assert found.mean_noise < 1e-6
    limit = limits(reference, error, found, Tolerance(k=8.0, floor=1e-9))
    assert np.delete(limit, 4, axis=0).max() < 1e-5
    assert ((limit[4] >= 8 * 0.05) & (limit[4] < 2)).all()
    undecided = np.arange(20) != 7
    assert not calibrate(reference, error, undecided).usual[7]


def test_limit_of_what_is_not_finite_is_one() -> None:
    found = calibrate(REFERENCE, ERROR)
    for broken in (np.nan, np.inf, -np.inf):
        limit = limits(np.array([[broken, 5.0]]), np.zeros((1, 2)), found, TOLERANCE)
        assert limit == pytest.approx(np.array([[2 * 4e-3 + 0.2, 2 * 2e-3 + 1.0]]))


def test_model_whose_every_output_is_zero_may_err_by_nothing() -> None:
    nothing = np.zeros((2, 2))
    assert limits(nothing, nothing, calibrate(nothing, nothing), TOLERANCE).tolist() == [[0, 0]] * 2


def test_limit_of_one_output_says_nothing_of_another() -> None:
    """Next to an output of a million, one of a millionth keeps a limit of its own size."""
    reference, error = np.array([[1e6, 1e-6], [-1e6, 2e-6]]), np.array([[1e-1, 1e-13]] * 2)
    limit = limits(reference, error, calibrate(reference, error), Tolerance(k=8.0, floor=1e-6))
    assert (limit[:, 0] > 0.8).all()
    assert (limit[:, 1] < 1e-11).all()


VALUES = st.lists(
    st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=5
).map(np.array)


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(reference=VALUES, power=st.sampled_from([-60, -7, 3, 40]), k=st.floats(0.5, 64))
def test_limit_grows_with_the_outputs(reference: Floats, power: int, k: float) -> None:
    """Outputs of 1e-19 and of 1e12 are judged alike: in another unit, limits are in it too."""
    error = np.abs(reference) * 2.0**-22 + 2.0**-24
    tolerance, scale = Tolerance(k=k, floor=1e-6), 2.0**power
    plain = limits(reference, error, calibrate(reference, error), tolerance)
    scaled = calibrate(scale * reference, scale * error)
    assert (limits(scale * reference, scale * error, scaled, tolerance) == scale * plain).all()
    wider = Tolerance(k=2 * k, floor=1e-6)
    assert (limits(reference, error, calibrate(reference, error), wider) > plain).all()
    # What torch itself does is always allowed, if k says so at all.
    assert (plain >= k * error).all()


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_root_mean_square_of_any_size(scale: float) -> None:
    assert rms(scale * np.array([3.0, -4.0, 0.0, 0.0])) == pytest.approx(2.5 * scale)


def test_root_mean_square_of_nothing_is_zero() -> None:
    assert rms(np.zeros((2, 3))) == rms(np.zeros((0, 3))) == 0
