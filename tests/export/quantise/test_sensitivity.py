"""The costliest layers are found and the fewest of them excluded, within a budget."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from marwright.export.quantise.sensitivity import ATTEMPTS, MEASUREMENTS, costs_of, exclude


def names(count: int) -> list[str]:
    return [f"layer_{place}" for place in range(count)]


class Model:
    """Layers whose errors add up, as those of roundings do; counts how often it is measured."""

    def __init__(self, count: int, costly: dict[str, float]) -> None:
        self.layers, self.costly, self.measured = names(count), costly, 0

    def error_with(self, layers: Sequence[str]) -> float:
        self.measured += 1
        return float(sum(self.costly.get(layer, 0.001) ** 2 for layer in layers) ** 0.5)


def test_each_layer_of_a_small_model_is_measured_once_and_alone() -> None:
    model = Model(5, {"layer_3": 0.5, "layer_1": 0.2})
    costs = costs_of(model.layers, model.error_with)
    assert [*costs][:2] == ["layer_3", "layer_1"]
    assert costs["layer_3"] == (pytest.approx(0.5), 1)
    assert sorted(costs) == model.layers
    assert model.measured == 5


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 65, 300, 1000])
def test_the_budget_holds_and_the_costliest_layers_are_found(count: int) -> None:
    places = {0, count // 2, count - 1}
    model = Model(count, {f"layer_{place}": 0.3 + 0.1 * place / count for place in places})
    costs = costs_of(model.layers, model.error_with)
    assert model.measured <= MEASUREMENTS
    assert {*[*costs][: len(places)]} == {f"layer_{place}" for place in places}
    # Every layer can be excluded, whether it was measured alone or not.
    assert {*costs} == {*model.layers}
    assert sum(error**2 for error, _ in costs.values()) == pytest.approx(
        model.error_with(model.layers) ** 2
    )


def test_a_budget_of_one_measures_once() -> None:
    model = Model(8, {})
    costs = costs_of(model.layers, model.error_with, budget=1)
    assert costs == dict.fromkeys(model.layers, (pytest.approx(0.001), 8))
    assert model.measured == 1


@pytest.mark.parametrize("count", range(1, 40))
def test_the_fewest_that_do_are_excluded(count: int) -> None:
    def drop_without(layers: Sequence[str]) -> float:
        return 0.1 if len(layers) >= count else 7.0

    excluded, attempts = exclude(names(40), drop_without, 0.5)
    assert excluded == names(count)
    assert len(attempts) <= ATTEMPTS
    assert next(a.drop for a in attempts if a.excluded == count) == 0.1


def test_a_drop_of_exactly_the_limit_is_within_it() -> None:
    assert exclude(names(2), lambda _: 0.5, 0.5)[0] == ["layer_0"]


def test_layers_without_which_it_is_no_better_stay() -> None:
    excluded, attempts = exclude(names(6), lambda layers: 9.0 - len(layers), 0.5)
    assert excluded == []
    assert [(a.excluded, a.drop) for a in attempts] == [(1, 8), (2, 7), (4, 5), (6, 3)]


def test_a_drop_that_is_not_a_number_is_not_within_any_limit() -> None:
    assert exclude(names(3), lambda _: float("nan"), 1e9)[0] == []


def test_attempts_end_with_the_budget_and_what_does_is_kept() -> None:
    def drop_without(layers: Sequence[str]) -> float:
        return 0.0 if len(layers) >= 33 else 9.0

    # 1, 2, 4, 8, 16, 32 and 64, of which the last does; and one more.
    excluded, attempts = exclude(names(100), drop_without, 0.5, budget=8)
    assert [a.excluded for a in attempts] == [1, 2, 4, 8, 16, 32, 64, 48]
    assert excluded == names(48)
    assert exclude(names(100), drop_without, 0.5, budget=3)[0] == []


def test_nothing_to_exclude_is_no_attempt() -> None:
    assert exclude([], lambda _: 0.0, 0.5) == ([], [])
