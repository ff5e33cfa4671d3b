"""Agreement on the task, against other people's implementations and numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, r2_score

from marwright.parity.types import Agreement
from marwright.parity.verdict.task import agreement, allowance, flips, kl_divergence, losses
from marwright.parity.verdict.tolerance import Floats
from marwright.recipe.types import Task

pytestmark = pytest.mark.torch

CHANCE = np.random.default_rng(0)
LOGITS = CHANCE.normal(size=(400, 5)) * 3
LABELS = LOGITS.argmax(axis=1)
LABELS[::4] = (LABELS[::4] + 1) % 5
VALUES = CHANCE.normal(size=(400, 1))


def agreed(
    reference: Floats,
    outputs: Floats,
    targets: NDArray[np.generic],
    task: Task = "classification",
    *,
    limit: float = 0.0,
    seed: int = 0,
) -> Agreement:
    limits = np.full_like(reference, limit)
    return agreement("onnx", reference, outputs, limits, targets, task, seed)


# Flips


REFERENCE = np.array([[3.0, 2.9, 0.0], [3.0, 2.0, 0.0], [1.0, 1.0, 0.0], [0.0, 5.0, 4.0]])
GIVEN = np.array([[2.9, 3.0, 0.0], [2.0, 3.0, 0.0], [0.9, 1.0, 0.0], [0.0, 5.0, 4.0]])


def test_a_flip_is_another_label_and_forgiven_within_the_error() -> None:
    flipped, forgiven = flips(REFERENCE, GIVEN, np.full_like(REFERENCE, 0.06))
    assert flipped.tolist() == [True, True, True, False]
    # Margins of 0.1, 1 and 0, and both outputs may err by 0.06.
    assert forgiven.tolist() == [True, False, True, False]


def test_without_an_error_only_a_tie_is_forgiven() -> None:
    flipped, forgiven = flips(REFERENCE, GIVEN, np.zeros_like(REFERENCE))
    assert flipped.tolist() == [True, True, True, False]
    assert forgiven.tolist() == [False, False, True, False]


def test_the_limits_of_both_labels_count_and_of_no_other() -> None:
    limit = np.zeros_like(REFERENCE)
    limit[:, 2] = 1e9
    assert not flips(REFERENCE, GIVEN, limit)[1][:2].any()
    limit[:, 0], limit[:, 1] = 0.3, 0.75
    assert flips(REFERENCE, GIVEN, limit)[1].tolist() == [True, True, True, False]


def test_nothing_flips_in_what_is_the_same() -> None:
    flipped, forgiven = flips(LOGITS, LOGITS, np.full_like(LOGITS, np.inf))
    assert not flipped.any()
    assert not forgiven.any()


def test_without_a_limit_what_is_forgiven_is_within_the_error_on_the_whole() -> None:
    error = np.array([[0.3, -0.1, np.nan], [0.3, 0.1, np.inf]])
    given = allowance(np.array([[0.5, np.inf, np.inf]] * 2), error + 1, np.ones((2, 3)))
    assert given == pytest.approx(np.array([[0.5, 0.05**0.5, 0.05**0.5]] * 2))
    other = LOGITS + CHANCE.normal(size=LOGITS.shape)
    found = agreed(LOGITS, other, LABELS, limit=np.inf)
    assert found == agreed(LOGITS, other, LABELS, limit=float((other - LOGITS).std()))
    assert 0 < found.forgiven < found.flips


# Divergence


def test_divergence_is_torch_s() -> None:
    other = LOGITS + CHANCE.normal(size=LOGITS.shape)
    expected = torch.nn.functional.kl_div(
        torch.from_numpy(other).log_softmax(1),
        torch.from_numpy(LOGITS).log_softmax(1),
        reduction="none",
        log_target=True,
    ).sum(1)
    assert kl_divergence(LOGITS, other) == pytest.approx(expected.numpy(), rel=1e-9)


def test_divergence_by_hand() -> None:
    """From even odds to 9 to 1: half of ln(0.5/0.9) and half of ln(0.5/0.1), in nats."""
    even, nine = np.array([[7.0, 7.0]]), np.array([[np.log(9.0), 0.0]])
    assert kl_divergence(even, nine) == pytest.approx([0.5 * np.log(25 / 9)])


def test_divergence_of_nothing_is_never_negative_and_large_logits_are_no_trouble() -> None:
    assert (kl_divergence(LOGITS, LOGITS + 1e-17) >= 0).all()
    assert kl_divergence(LOGITS, LOGITS).max() == 0
    assert kl_divergence(np.array([[1e5, 0.0]]), np.array([[0.0, 1e5]])) == pytest.approx([1e5])


# Metrics


def test_classification_is_measured_as_by_sklearn() -> None:
    other = LOGITS + CHANCE.normal(size=LOGITS.shape) * 2
    found = agreed(LOGITS, other, LABELS)
    assert (found.backend, found.samples, found.metric) == ("onnx", 400, "accuracy")
    assert found.reference == pytest.approx(accuracy_score(LABELS, LOGITS.argmax(1)))
    assert found.measured == pytest.approx(accuracy_score(LABELS, other.argmax(1)))
    assert found.drop == pytest.approx(found.reference - found.measured)
    assert found.flips == int((LOGITS.argmax(1) != other.argmax(1)).sum())
    assert found.forgiven == 0
    divergence = kl_divergence(LOGITS, other)
    assert found.kl_mean == pytest.approx(divergence.mean())
    assert found.kl_max == pytest.approx(divergence.max())
    assert found.max_relative is None
    assert agreed(LOGITS, other, LABELS, limit=1e9).forgiven == found.flips


def test_regression_is_measured_as_by_sklearn() -> None:
    reference = VALUES + CHANCE.normal(size=VALUES.shape) * 0.2
    other = VALUES + CHANCE.normal(size=VALUES.shape) * 0.4
    found = agreed(reference, other, VALUES, "regression")
    assert found.metric == "r2"
    assert found.reference == pytest.approx(r2_score(VALUES, reference))
    assert found.measured == pytest.approx(r2_score(VALUES, other))
    assert found.drop == pytest.approx(found.reference - found.measured)
    assert (found.flips, found.forgiven, found.kl_mean, found.kl_max) == (0, 0, None, None)
    # Over the spread of the reference, so that it means the same in any unit.
    assert found.max_relative == pytest.approx(np.abs(other - reference).max() / reference.std())
    scaled = agreed(1e9 * reference, 1e9 * other, 1e9 * VALUES, "regression")
    assert scaled.max_relative == pytest.approx(found.max_relative)
    assert scaled.drop == pytest.approx(found.drop)


def test_targets_may_be_a_row_or_a_column() -> None:
    row = agreed(VALUES, VALUES + 0.1, VALUES[:, 0], "regression")
    assert row == agreed(VALUES, VALUES + 0.1, VALUES, "regression")


def test_target_that_never_varies_has_no_r2() -> None:
    constant = np.full_like(VALUES, 3.0)
    found = agreed(VALUES, VALUES + 1, constant, "regression")
    assert (found.reference, found.drop) == (r2_score(constant, VALUES), 0)


def test_outputs_that_never_vary_have_no_relative_deviation() -> None:
    found = agreed(np.zeros_like(VALUES), np.zeros_like(VALUES), VALUES, "regression")
    assert found.max_relative is None


# The loss


def test_loss_of_each_row_is_training_s() -> None:
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(LOGITS), torch.from_numpy(LABELS), reduction="none"
    )
    assert losses(LOGITS, LABELS, "classification") == pytest.approx(expected.numpy())
    assert losses(VALUES + 0.5, VALUES, "regression") == pytest.approx(np.full(400, 0.25))
    assert losses(VALUES, VALUES[:, 0], "regression").shape == (400,)


# The interval


def worse(share: float) -> Floats:
    """Return logits that lose the label of a share of rows."""
    other = LOGITS.copy()
    lost = CHANCE.permutation(len(other))[: int(share * len(other))]
    other[lost] = np.roll(other[lost], 1, axis=1)
    return other


def test_interval_is_that_of_paired_differences() -> None:
    """Of so many rows, the normal approximation is close to the percentile bootstrap."""
    other = worse(0.3)
    found = agreed(LOGITS, other, LABELS)
    right = (LOGITS.argmax(1) == LABELS).astype(float) - (other.argmax(1) == LABELS)
    half = 1.96 * right.std() / len(right) ** 0.5
    low, high = found.interval
    assert low < found.drop < high
    assert (low, high) == pytest.approx((right.mean() - half, right.mean() + half), abs=0.1 * half)
    # Unpaired, it would be wider: both are right on the same rows.
    unpaired = 1.96 * (found.reference * (1 - found.reference) * 2 / len(right)) ** 0.5
    assert high - low < 2 * unpaired


def test_interval_is_deterministic_and_of_its_seed() -> None:
    other = worse(0.1)
    first = agreed(LOGITS, other, LABELS, seed=1)
    assert first == agreed(LOGITS, other, LABELS, seed=1)
    assert first.interval != agreed(LOGITS, other, LABELS, seed=2).interval


def test_interval_of_no_difference_is_nothing() -> None:
    assert agreed(LOGITS, LOGITS, LABELS).interval == (0, 0)
    assert agreed(VALUES, VALUES.copy(), VALUES, "regression").interval == (0, 0)


def test_interval_of_a_difference_that_is_everywhere_the_same() -> None:
    """Every resample loses all: an interval of one point, and no warning about it."""
    labels = LOGITS.argmax(axis=1)
    found = agreed(LOGITS, np.roll(LOGITS, 1, axis=1), labels)
    assert found.drop == 1
    assert found.interval == (1, 1)


def test_interval_narrows_with_more_rows() -> None:
    other = worse(0.2)
    few, many = (agreed(LOGITS[:n], other[:n], LABELS[:n]).interval for n in (40, 400))
    assert many[1] - many[0] < 0.6 * (few[1] - few[0])


def test_one_row_resolves_nothing() -> None:
    assert agreed(LOGITS[:1], LOGITS[1:2], LABELS[:1]).interval == (0, 0)
