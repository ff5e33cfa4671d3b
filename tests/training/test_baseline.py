"""A model ships only above what answering without looking has, by more than chance."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.recipe.types import Recipe
from marwright.training.accepted import Measured, refusal
from marwright.training.baseline import blind_answers, doubt_of_head, gain
from marwright.training.leakage import duplicates
from marwright.training.metrics import measured_on
from marwright.training.models.mlp import build
from marwright.training.paired import interval
from marwright.training.preprocess import fit_preprocess
from marwright.training.record import Classified, TrainReport
from marwright.training.run import Ready, learn, train
from marwright.training.scores import classified
from marwright.training.types import NOTHING, Meta, Opened, read_meta
from tests.training.conftest import (
    ModuleMaker,
    image_recipe,
    image_samples,
    splits_by_place,
    table_recipe,
    table_samples,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


# --- the baseline -----------------------------------------------------------------------------


def test_of_labels_it_is_the_most_frequent_of_training() -> None:
    known = torch.tensor([0, 1, 1, 1, 2])
    blind = blind_answers(known, torch.tensor([0, 2, 1, 2]), 3, "classification")
    assert blind.outputs.argmax(dim=1).tolist() == [1, 1, 1, 1]
    assert blind.metric == 0.25
    shares = torch.softmax(blind.outputs, dim=1)[0]
    assert shares.tolist() == pytest.approx([0.2, 0.6, 0.2])


def test_of_values_it_is_the_mean_of_training() -> None:
    blind = blind_answers(
        torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [4.0]]), 0, "regression"
    )
    assert blind.outputs.tolist() == [[2.0], [2.0]]
    # Squared errors 0 and 4, around the test split's own mean 1 and 1.
    assert blind.metric == 1 - 4 / 2


def outcome(right: list[bool], blind_right: list[bool]) -> tuple[float, float]:
    """The interval of two classifiers that are right on these samples."""

    def found(of: list[bool]):
        answers = torch.tensor(of).long()
        return measured_on(
            torch.eye(2)[answers], torch.ones(len(of), dtype=torch.int64), "classification"
        )

    return gain(found(right), found(blind_right), "classification")


def test_the_interval_of_accuracy_is_that_of_the_binomial() -> None:
    low, high = outcome([True] * 60 + [False] * 40, [False] * 100)
    # 0.6 ± 1.96 · √(0.6 · 0.4 / 100)
    assert low == pytest.approx(0.504, abs=0.02) and high == pytest.approx(0.696, abs=0.02)


def test_a_model_that_answers_the_same_gains_nothing() -> None:
    assert outcome([True] * 97 + [False] * 3, [True] * 97 + [False] * 3) == (0.0, 0.0)


@pytest.mark.parametrize(("differ", "is_above"), [(5, False), (6, True)])
def test_few_samples_prove_nothing_though_all_of_them_are_right(
    differ: int, is_above: bool
) -> None:
    """All resamples say the same then; a sign test says 1/2⁵ > 2.5 %."""
    low, high = outcome([True] * differ, [False] * differ)
    assert (low > 0) == is_above and high == 1.0


@pytest.mark.parametrize(("samples", "is_above"), [(5, False), (40, True)])
def test_of_values_too(samples: int, is_above: bool) -> None:
    truth = torch.linspace(-1, 1, samples)[:, None]
    exact = measured_on(truth, truth, "regression")
    blind = measured_on(torch.zeros_like(truth), truth, "regression")
    low, high = gain(exact, blind, "regression")
    assert (low > 0) == is_above and high >= 1.0


def test_equal_targets_are_no_gain() -> None:
    """There is no spread to explain."""
    truth = torch.ones(30, 1)
    exact = measured_on(truth, truth, "regression")
    assert gain(exact, measured_on(truth * 0, truth, "regression"), "regression") == (0.0, 0.0)


def test_the_interval_of_an_r2_holds_what_drawing_anew_gives() -> None:
    """95 of 100 of them, within what chance does to such a share."""
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        truth = torch.from_numpy(draw.normal(size=(80, 1)).astype(np.float32))
        noise = torch.from_numpy(draw.normal(size=(80, 1)).astype(np.float32))
        # Of all there are, R² is 1 − 0.5, and the blind one has 0.
        model = measured_on(truth + noise * 0.5**0.5, truth, "regression")
        low, high = gain(model, measured_on(truth * 0, truth, "regression"), "regression")
        held += low <= 0.5 <= high
    assert held >= 51


def test_many_samples_are_drawn_in_parts_with_the_same_result() -> None:
    values = np.random.default_rng(0).normal(size=6000)
    low, high = interval(lambda rows: values[rows].mean(axis=1), len(values), 0)
    error = values.std() / len(values) ** 0.5
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert (low, high) == interval(lambda rows: values[rows].mean(axis=1), len(values), 0)


# --- what is refused --------------------------------------------------------------------------


def verdict(
    metric: float, baseline: float, low: float, high: float, minimum: float | str | None = None
) -> str:
    found = Measured(metrics={"r2": metric}, baseline={"r2": baseline}, gain=(low, high))
    return refusal(table_recipe(minimum_metric=minimum), found, 40)


def test_what_is_surely_above_may_ship() -> None:
    assert verdict(0.4, -0.01, 0.2, 0.5) == ""
    assert verdict(0.4, -0.01, 0.2, 0.5, 0.4) == ""


@pytest.mark.parametrize("minimum", [None, -20.0])
def test_what_is_not_above_is_refused_whatever_the_minimum(minimum: float | None) -> None:
    said = verdict(-13.0, -0.01, -30.0, -3.0, minimum)
    assert said.startswith("r2 -13.0000 on the test split is not above its baseline, -0.0100: alw")
    assert "the mean of the training split has that" in said and "small" not in said
    assert "-30.0000 to -3.0000 on 40 test samples; train it longer or otherwise, or set" in said
    assert '[fit] minimum_metric = "any"' in said


def test_what_may_be_chance_says_that_the_split_is_small() -> None:
    said = verdict(0.2, -0.01, -0.1, 0.5)
    assert said.startswith("r2 0.2000 on the test split may be above its baseline, -0.0100, by ch")
    assert "the test split is small: add samples, or raise [data] test" in said
    assert verdict(0.2, -0.01, 0.0, 0.5) != ""


def test_a_minimum_is_asked_for_besides() -> None:
    said = verdict(0.3, -0.01, 0.2, 0.5, 0.4)
    assert said == (
        "r2 0.3000 on the test split, below [fit] minimum_metric = 0.4; its baseline is -0.0100"
    )
    assert verdict(float("nan"), 0.0, 0.2, 0.5, 0.4) and verdict(0.5, 0.0, float("nan"), 0.5)


def test_any_ships_anything() -> None:
    assert verdict(-13.0, -0.01, -30.0, -3.0, "any") == ""


def test_a_baseline_that_nobody_measured_is_refused() -> None:
    found = Measured(metrics={"r2": 0.9}, baseline={}, gain=None)
    assert "its baseline was not measured: train it again" in refusal(table_recipe(), found, 9)
    assert refusal(table_recipe(minimum_metric="any"), found, 9) == ""


# --- training ---------------------------------------------------------------------------------


class Constant(nn.Module):
    """Answers the same whatever it is shown, and learns nothing."""

    def __init__(self, answer: list[float]) -> None:
        super().__init__()
        self.layer = nn.Linear(1, len(answer), bias=False)
        nn.init.zeros_(self.layer.weight)
        self.register_buffer("answer", torch.tensor(answer))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs.flatten(1)[:, :1] * 0) + self.answer


def learned(network: nn.Module, samples, recipe: Recipe, out: Path) -> Meta:
    splits = splits_by_place(samples, train=100)
    spec = fit_preprocess(recipe, splits)
    opened = Opened(splits=splits, faults=(), duplicates=duplicates(splits), learned=NOTHING)
    ready = Ready(network=network, opened=opened, spec=spec, start=None)
    return learn(ready, recipe, Path(), out).meta


def imbalanced():
    """Nineteen of twenty images are dark."""
    samples = image_samples(300)
    dark = np.arange(300) % 20 > 0
    keep = {False: np.flatnonzero(samples.targets == 1), True: np.flatnonzero(samples.targets == 0)}
    images = [samples.images[keep[bool(is_dark)][at % 100]] for at, is_dark in enumerate(dark)]
    return dataclasses.replace(samples, images=images, targets=(~dark).astype(np.int64))


def test_a_model_that_answers_the_majority_fails(tmp_path: Path) -> None:
    """An accuracy of 0.95 is worth nothing where 95 % are of one label."""
    recipe = image_recipe(epochs=2)
    with pytest.raises(TrainError, match=r"accuracy 0\.95\d+ on the test split is not above its"):
        learned(Constant([1.0, 0.0]), imbalanced(), recipe, tmp_path)
    # What a person looks at is there, and no checkpoint.
    report = msgspec.json.decode((tmp_path / "train.json").read_bytes(), type=TrainReport)
    assert report.baseline["accuracy"] == report.metrics["accuracy"] and report.gain == (0, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["train.json"]
    anyway = image_recipe(epochs=2, minimum_metric="any")
    assert learned(Constant([1.0, 0.0]), imbalanced(), anyway, tmp_path).gain == (0, 0)


def test_a_regression_that_answers_the_mean_fails(tmp_path: Path) -> None:
    recipe = table_recipe(epochs=2, minimum_metric=-1.0)
    with pytest.raises(TrainError, match=r"baseline, -0\.\d+: always answering the mean of the"):
        learned(Constant([0.0]), table_samples(200), recipe, tmp_path)


def test_a_model_that_looks_passes(tmp_path: Path) -> None:
    recipe = table_recipe(params={"hidden": 16}, epochs=40, learning_rate=1e-2)
    samples = table_samples(200)
    meta = learned(build((3,), 1, hidden=16), samples, recipe, tmp_path)
    assert meta.gain is not None and 0 < meta.gain[0] < meta.gain[1]
    assert meta.baseline.keys() == meta.metrics.keys()
    assert meta.baseline["mae"] > meta.metrics["mae"]
    assert read_meta(tmp_path / "meta.json") == meta


# --- a head in another order ------------------------------------------------------------------


def test_another_order_is_asked_about_and_named() -> None:
    truth = torch.arange(30) % 3
    # Output 0 stands for label 2, output 1 for 0, output 2 for 1.
    answers = torch.tensor([1, 2, 0])[truth]
    _, details = classified(
        measured_on(torch.eye(3)[answers], truth, "classification"), ("a", "b", "c")
    )
    said = doubt_of_head("w.pt", details, ("a", "b", "c"))
    assert said == (
        "its head was taken from w.pt: is the order of its labels another? If its outputs stand "
        "for c, a, b, its accuracy is 1.0000"
    )
    chance = Classified(classes=[], confusion=[[5, 5], [5, 5]], calibration=[])
    assert doubt_of_head("w.pt", chance, ("a", "b")).endswith("labels another?")


@pytest.mark.parametrize("minimum", [None, "any", 0.5])
def test_a_head_that_is_said_to_be_ours_and_is_not(
    tmp_path: Path, make_module: ModuleMaker, minimum: float | str | None
) -> None:
    """As it goes: a good model of the same labels in another order, and hardly any training."""
    make_module("marwright.training.datasets.tiny", load=lambda: image_samples(300))
    first = image_recipe(epochs=8, learning_rate=1e-2)
    (tmp_path / "first").mkdir()
    train(first, tmp_path, tmp_path / "first", lambda *_: None)
    torch.save(load_file(tmp_path / "first/weights.safetensors"), tmp_path / "w.pt")
    fit = {"epochs": 1, "learning_rate": 1e-7, "minimum_metric": minimum}
    values = msgspec.to_builtins(image_recipe(data={"labels": ["bright", "dark"]}, **fit))
    values["model"] |= {"init_from": "w.pt", "init_labels": "same"}
    wrong = msgspec.convert(values, Recipe)
    (tmp_path / "out").mkdir()
    asked = r"its head was taken from w\.pt: is the order of its labels another\? If its outputs "
    asked += r"stand for dark, bright, its accuracy is (1\.0000|0\.9)"
    if minimum == "any":
        train(wrong, tmp_path, tmp_path / "out", lambda *_: None)
        report = msgspec.json.decode((tmp_path / "out/train.json").read_bytes(), type=TrainReport)
        assert any(event.startswith("its head was taken from w.pt: is") for event in report.events)
        return
    with pytest.raises(TrainError, match=asked):
        train(wrong, tmp_path, tmp_path / "out", lambda *_: None)
    values["model"]["init_labels"] = ["dark", "bright"]
    right = msgspec.convert(values, Recipe)
    made = train(right, tmp_path, tmp_path / "out", lambda *_: None)
    assert made.meta.metrics["accuracy"] > 0.9 and made.meta.labels == ["bright", "dark"]
