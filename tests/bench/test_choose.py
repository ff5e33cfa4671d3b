"""The shipped settings are what the rule chooses, and the rule never sees the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench import choose
from bench.choose import (
    GRIDS,
    Settings,
    best_of,
    candidates_of,
    settings_of,
    validation_loss,
    with_settings,
)
from marwright.recipe.load import load_recipe
from tests.projects import ROOT


def recipe_of(model: str) -> Path:
    return ROOT / "archive" / f"{model}.toml"


def test_every_combination_is_tried_once() -> None:
    assert candidates_of({"a.x": (1, 2), "b.y": (3, 4, 5)}) == [
        {"a.x": x, "b.y": y} for x in (1, 2) for y in (3, 4, 5)
    ]


def test_the_lowest_mean_loss_wins_and_not_the_lowest_loss() -> None:
    assert best_of([[0.5, 0.5], [0.1, 0.8], [0.9, 0.9]]) == 1
    assert best_of([[0.5, 0.5], [0.0, 1.1], [0.5, 0.5]]) == 0


@pytest.mark.parametrize("model", GRIDS)
def test_shipped_settings_are_in_the_grid(model: str) -> None:
    grid = GRIDS[model]
    assert settings_of(load_recipe(recipe_of(model)), grid) in candidates_of(grid)


@pytest.mark.parametrize("model", GRIDS)
def test_a_candidate_changes_its_keys_and_the_seed_only(model: str) -> None:
    recipe, grid = load_recipe(recipe_of(model)), GRIDS[model]
    for settings in candidates_of(grid):
        changed = with_settings(recipe, settings, seed=7)
        assert settings_of(changed, grid) == settings
        assert changed.fit.seed == 7
        back = with_settings(changed, settings_of(recipe, grid), recipe.fit.seed)
        assert back == recipe


@pytest.mark.parametrize("shipped_is_best", [True, False])
def test_the_proof_fails_when_another_candidate_is_better(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shipped_is_best: bool
) -> None:
    def losses(path: Path, candidates: Sequence[Settings]) -> list[list[float]]:
        own = settings_of(load_recipe(path), GRIDS[path.stem])
        return [[0.3 if (c == own) == shipped_is_best else 0.4] * 5 for c in candidates]

    monkeypatch.setattr(choose, "validation_losses", losses)
    ok, text = choose.prove(ROOT, tmp_path)
    assert ok == shipped_is_best
    assert text.count("| yes |") == len(GRIDS)


@pytest.mark.torch
def test_the_test_split_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import marwright.training.data as data
    from marwright.training.types import Opened

    opened = data.open_dataset

    class Untouchable:
        def __getattr__(self, name: str) -> object:
            raise AssertionError("the test split was read")

        __len__ = __iter__ = __getitem__ = __array__ = __getattr__  # type: ignore[assignment]

    def without_test(recipe: object, root: Path) -> Opened:
        found = opened(recipe, root)  # type: ignore[arg-type]
        return replace(found, splits=replace(found.splits, test=Untouchable()))  # type: ignore[arg-type]

    settings = settings_of(load_recipe(recipe_of("diabetes")), GRIDS["diabetes"])
    expected = validation_loss(recipe_of("diabetes"), settings, seed=0)
    monkeypatch.setattr(data, "open_dataset", without_test)
    assert validation_loss(recipe_of("diabetes"), settings, seed=0) == expected
