"""Relative errors: of a fault all over, in one element, of another shape, of NaN."""

from __future__ import annotations

import numpy as np
import pytest

from marwright.parity.locate.deviation import NONE, UNLIKE, Deviation, deviation

RANDOM = np.random.default_rng(0).normal(size=(4, 100))


def test_equal_values_have_no_error() -> None:
    assert deviation(RANDOM.copy(), RANDOM) == NONE
    assert deviation(np.zeros((0, 3)), np.zeros((0, 3))) == NONE


def test_fault_all_over_moves_the_root_mean_square() -> None:
    found = deviation(RANDOM * 1.01, RANDOM)
    assert found.rms == pytest.approx(0.01)
    assert found.largest == pytest.approx(0.01)


def test_fault_in_one_element_moves_the_largest() -> None:
    changed = RANDOM.copy()
    changed[2, 3] += 0.01 * np.abs(RANDOM).max()
    found = deviation(changed, RANDOM)
    assert found.largest == pytest.approx(0.01)
    assert found.rms < 0.002


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e200])
def test_size_of_the_values_does_not_matter(size: float) -> None:
    found = deviation(RANDOM * size * 1.01, RANDOM * size)
    assert found.rms == pytest.approx(0.01)
    assert found.largest == pytest.approx(0.01)


def test_error_beside_zeros_is_large_and_finite() -> None:
    found = deviation(np.full(3, 1e-9), np.zeros(3))
    assert 1 < found.rms < np.inf
    assert 1 < found.largest < np.inf


def test_other_shapes_have_nothing_in_common() -> None:
    assert deviation(np.zeros((2, 3)), np.zeros((3, 2))) == UNLIKE
    assert UNLIKE.reported() == -1


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_must_stand_at_the_same_places(strange: float) -> None:
    reference = RANDOM.copy()
    reference[0, 0] = strange
    assert deviation(RANDOM, reference) == UNLIKE
    assert deviation(reference, RANDOM) == UNLIKE
    assert deviation(reference.copy(), reference) == NONE
    both = reference * 1.01
    assert deviation(both, reference).rms == pytest.approx(0.01)


def test_infinities_of_either_sign_differ() -> None:
    assert deviation(np.array([np.inf, 1]), np.array([-np.inf, 1])) == UNLIKE


def test_integers_and_booleans_are_numbers() -> None:
    assert deviation(np.array([1, 2]), np.array([1, 2])) == NONE
    assert deviation(np.array([True]), np.array([False])).rms > 1
    # float16 would overflow where it is not widened first.
    assert deviation(np.array([60000], np.float16), np.array([-60000], np.float16)).rms == 2


def test_limit_is_so_many_times_and_a_floor() -> None:
    limit = Deviation(rms=1e-7, largest=2e-7).limit(8, 1e-6)
    assert limit == Deviation(rms=8 * 1e-7 + 1e-6, largest=8 * 2e-7 + 1e-6)
    assert Deviation(rms=1e-6, largest=2e-6).within(limit)
    assert not Deviation(rms=2e-6, largest=0).within(limit)
    assert not Deviation(rms=0, largest=3e-6).within(limit)
    assert NONE.largest_of(limit) == limit
