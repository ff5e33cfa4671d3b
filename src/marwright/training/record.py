"""What training leaves for people, as `train.json`: curves, scores, samples, data. Torch-free.

It is a function of the training key alone: what varies from run to run, as times do, is not in it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from marwright.training.samples import Fault


class Pair(Struct, frozen=True, kw_only=True):
    """A held-out sample, the training sample nearest to it, and the labels of both."""

    held_out: str
    train: str
    labels: tuple[str, str] | None = None


class Duplicates(Struct, frozen=True, kw_only=True):
    """What of a data set occurs more than once.

    `exact` counts samples beyond the first of each content, `conflicting` the contents that have
    two targets, `leaked` and `near` held-out samples that training has a copy, or a near copy, of.
    `compared` says how many held-out samples were looked at for near copies, and `before` how many
    the model that this one starts from has learned of.
    """

    exact: int
    conflicting: int
    leaked: int
    near: int
    compared: int
    before: int = 0
    pairs: list[Pair]


class DataCard(Struct, frozen=True, kw_only=True):
    """The data that a model was trained on. `counts` are samples by split and label, in order.

    `target` holds the least, the mean and the most of each split's target, where it is a value.
    """

    dataset: str
    labels: list[str]
    counts: dict[str, list[int]]
    target: dict[str, tuple[float, float, float]] = {}
    faults: list[Fault]
    duplicates: Duplicates


class Start(Struct, frozen=True, kw_only=True):
    """Which weights a model started from: names of tensors that were taken, and that were not.

    `digest` is the SHA-256 of all that were offered; `skipped` were there and did not fit, with the
    reason; `initialised` are new.
    """

    source: str
    digest: str
    loaded: list[str]
    skipped: dict[str, str]
    initialised: list[str]
    notes: list[str] = []


class Epoch(Struct, frozen=True, kw_only=True):
    """One epoch. `learning_rate` is that of the head, at its end; `metric` is of validation.

    `stages` of the network were trained in it. A script of one's own tells what it likes.
    """

    number: int
    learning_rate: float | None
    train_loss: float | None
    validation_loss: float | None
    metric: float | None
    stages: int


class ClassScore(Struct, frozen=True, kw_only=True):
    """One class on the test split."""

    label: str
    samples: int
    precision: float
    recall: float
    f1: float


class Bin(Struct, frozen=True, kw_only=True):
    """Test samples that were answered with about the same confidence."""

    samples: int
    confidence: float
    accuracy: float


class Classified(Struct, frozen=True, kw_only=True):
    """How a classifier does on the test split. `confusion[i][j]` counts `i` answered as `j`."""

    classes: list[ClassScore]
    confusion: list[list[int]]
    calibration: list[Bin]


class Predicted(Struct, frozen=True, kw_only=True):
    """How a regression does on the test split: pairs of target and answer, in its own units."""

    target: str
    pairs: list[tuple[float, float]]


class Wrong(Struct, frozen=True, kw_only=True):
    """A test sample with a large loss: `picture` is a PNG in base64, `text` a text, `row` a row.

    `difference` is by how much the answer is above the truth, where both are values.
    """

    name: str
    loss: float
    truth: str
    answer: str
    probability: float | None = None
    difference: float | None = None
    picture: str = ""
    text: str = ""
    row: dict[str, float | str | None] = {}


class ModelCard(Struct, frozen=True, kw_only=True):
    """The network: how large it is, and what of it trained."""

    factory: str
    parameters: int
    trained: int
    stages: list[str]


class TrainReport(Struct, frozen=True, kw_only=True):
    """All of it. `metrics` are of the test split; `events` what a person should know besides.

    `baseline` and `gain` are as in `Meta`.
    """

    task: Literal["classification", "regression"]
    data: DataCard
    model: ModelCard
    start: Start | None
    epochs: list[Epoch]
    best_epoch: int
    metrics: dict[str, float]
    baseline: dict[str, float] = {}
    gain: tuple[float, float] | None = None
    classified: Classified | None = None
    predicted: Predicted | None = None
    wrong: list[Wrong]
    events: list[str]
    environment: dict[str, str]


class RatesFound(Struct, frozen=True, kw_only=True):
    """Learning rates that were tried, rising, and the smoothed loss after each.

    `steepest` is the rate at which the loss fell the fastest, `suggested` one to begin with.
    """

    rates: list[float]
    losses: list[float]
    steepest: float
    suggested: float


class Studied(Struct, frozen=True, kw_only=True):
    """One variant of a recipe: what it changes, and the test metrics of each seed."""

    name: str
    settings: dict[str, Any]
    metrics: list[dict[str, float]]
    epochs: list[int]


class StudyReport(Struct, frozen=True, kw_only=True):
    """What a study found. The first variant is the recipe itself.

    `key` is the digest of what its trainings are a function of, but for seeds and the machine;
    `splits` are those of the samples and `start` that of the weights that the recipe starts from:
    they say what was studied.
    """

    task: Literal["classification", "regression"]
    key: str
    splits: dict[str, str]
    start: str
    seeds: int
    samples: int
    variants: list[Studied]
