"""Training reports as training would leave them: figures of a plausible size, from a seed."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec

from marwright.training.record import (
    Bin,
    Classified,
    ClassScore,
    DataCard,
    Duplicates,
    Epoch,
    ModelCard,
    Pair,
    Predicted,
    Start,
    TrainReport,
    Wrong,
)
from marwright.training.samples import Fault
from tests.report.reports import picture

NO_DUPLICATES = Duplicates(exact=0, conflicting=0, leaked=0, near=0, compared=300, pairs=[])
_ANIMALS = ("cat", "dog", "hedgehog", "long-tailed macaque", "ox", "quail", "newt", "wolf")
_SMALL, _LARGE = picture(8, 8), picture(96, 30)
_ROW = {"age": 46.0, "sex": "female", "bmi": 27.4, "bp": None}


def labels_of(count: int) -> list[str]:
    """Return labels, some of which are long."""
    return [name if at < len(_ANIMALS) else f"{name} {at // len(_ANIMALS) + 1}"
            for at in range(count) for name in [_ANIMALS[at % len(_ANIMALS)]]]  # fmt: skip


def classifier(classes: int = 5, samples: int = 40, right: float = 0.9) -> TrainReport:
    """Return a report on images: `samples` of the largest class are tested, of others fewer."""
    draw = random.Random(classes)
    labels = labels_of(classes)
    matrix = [[0] * classes for _ in labels]
    sizes = [max(round(samples * 0.93**at), 1) for at in range(classes)]
    for truth, size in enumerate(sizes):
        for _ in range(size):
            near = draw.choice([at for at in range(classes) if at != truth][: truth + 2])
            matrix[truth][truth if draw.random() < right else near] += 1
    scores = [_score(label, at, matrix) for at, label in enumerate(labels)]
    hits = sum(matrix[at][at] for at in range(classes))
    f1 = sum(score.f1 for score in scores) / classes
    return TrainReport(
        task="classification",
        data=DataCard(
            dataset="animals", labels=labels, faults=[], duplicates=NO_DUPLICATES,
            counts={"train": [3 * size for size in sizes],
                    "validation": [max(size // 2, 1) for size in sizes], "test": sizes},
        ),
        model=ModelCard(factory="torchvision/resnet18", parameters=11_700_000, trained=11_700_000,
                        stages=["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        start=None,
        epochs=epochs(30),
        best_epoch=26,
        metrics={"accuracy": hits / sum(sizes), "macro_f1": f1, "macro_precision": f1,
                 "macro_recall": f1, "calibration_error": 0.0123, "auroc": 0.991},
        classified=Classified(classes=scores, confusion=matrix, calibration=calibration(draw)),
        wrong=[wrong(draw, labels, at, matrix) for at in range(min(sum(sizes) - hits, 24))],
        events=[],
        environment={"Python": "3.11", "torch": "2.15.0", "device": "cpu", "threads": "1"},
    )  # fmt: skip


def regression(pairs: int = 90, noise: float = 50.0) -> TrainReport:
    """Return a report on rows of a table, with as many pairs of target and answer."""
    draw = random.Random(7)
    targets = [draw.uniform(30, 340) for _ in range(pairs)]
    found = [(target, 160 + 0.6 * (target - 160) + draw.gauss(0, noise)) for target in targets]
    rest = classifier(2)
    return msgspec.structs.replace(
        rest, task="regression",
        data=DataCard(
            dataset="diabetes", labels=[], faults=[], duplicates=NO_DUPLICATES,
            counts={"train": [294], "validation": [57], "test": [pairs]},
            target={"train": (25.0, 152.1, 346.0), "validation": (31.0, 140.5, 311.0),
                    "test": (30.0, 160.25, 340.0)},
        ),
        model=ModelCard(factory="mlp", parameters=193, trained=193, stages=["0", "3"]),
        metrics={"r2": 0.4379, "mae": 47.606, "rmse": 56.483},
        baseline={"r2": -0.0074, "mae": 64.641, "rmse": 75.614}, gain=(0.2888, 0.5839),
        classified=None,
        predicted=Predicted(target="progression", pairs=found),
        wrong=[
            Wrong(name=f"sample {at}", loss=3 - at / 4, truth="276", answer="140.779",
                  difference=-135.221,
                  row={**_ROW, "age": 40.0 + at})
            for at in range(5)
        ],
    )  # fmt: skip


def troubled(classes: int = 40) -> TrainReport:
    """Return a classifier's report with everything that a person should worry about."""
    report = classifier(classes, samples=60, right=0.7)
    pairs = [
        Pair(held_out=f"b/{at}.png", train=f"a/{at}.png",
             labels=("cat", "dog") if at == 3 else ("cat", "cat"))
        for at in range(12)
    ]  # fmt: skip
    faults = [Fault(where=f"img/{at}.jpg", what="cannot be decoded") for at in range(27)]
    data = msgspec.structs.replace(
        report.data, faults=faults,
        duplicates=Duplicates(exact=19, conflicting=2, leaked=9, near=14, compared=500, before=31,
                              pairs=pairs),
    )  # fmt: skip
    return msgspec.structs.replace(
        report, data=data, epochs=epochs(200, unfreeze=20), best_epoch=180, start=start(),
        model=msgspec.structs.replace(report.model, trained=2_100_000),
        metrics={**report.metrics, "calibration_error": 0.12},
        events=["out of memory with 64 samples at a time: batches went through in 2 parts"],
    )  # fmt: skip


def start() -> Start:
    """Return a start from pretrained weights whose head did not fit."""
    return Start(
        source="torchvision resnet18 IMAGENET1K_V1",
        digest="5" * 64,
        loaded=[f"layer{at}.conv.weight" for at in range(60)],
        skipped={"fc.weight": "the head of other labels", "fc.bias": "the head of other labels"},
        initialised=["fc.bias", "fc.weight"],
        notes=["conv1.weight: three channels added up to one"],
    )


def epochs(count: int, unfreeze: int = 0) -> list[Epoch]:
    """Return epochs in which losses fall, and every `unfreeze` of which one more stage trains."""
    return [
        Epoch(
            number=at, learning_rate=1e-3 * (0.51 + 0.49 * math.cos(math.pi * at / count)),
            train_loss=2.2 * math.exp(-5 * at / count) + 0.01,
            validation_loss=2.1 * math.exp(-4 * at / count) + 0.06 + 0.02 * math.sin(at),
            metric=1 - 0.6 * math.exp(-4 * at / count),
            stages=min(1 + (at - 1) // unfreeze, 6) if unfreeze else 6,
        )
        for at in range(1, count + 1)
    ]  # fmt: skip


def calibration(draw: random.Random) -> list[Bin]:
    """Return bins of a classifier that is a little too sure."""
    return [
        Bin(samples=round(1.6**at), confidence=round((at + 0.5) / 15, 6),
            accuracy=round(min(max((at + 0.5) / 15 - draw.uniform(-0.05, 0.15), 0.0), 1.0), 6))
        for at in range(3, 15)
    ]  # fmt: skip


def wrong(draw: random.Random, labels: list[str], at: int, matrix: list[list[int]]) -> Wrong:
    """Return a sample that got a wrong label."""
    truth, answer = draw.sample(labels, 2)
    return Wrong(
        name=f"img/{at:04}.png", loss=round(5 - at / 10, 3), truth=truth, answer=answer,
        probability=round(draw.uniform(0.4, 0.999), 4),
        picture=_SMALL if at % 2 else _LARGE,
    )  # fmt: skip


def replaced(report: TrainReport, **values: Any) -> TrainReport:
    """Return a report with other values."""
    return msgspec.structs.replace(report, **values)


def _score(label: str, at: int, matrix: list[list[int]]) -> ClassScore:
    hits, of, answered = matrix[at][at], sum(matrix[at]), sum(row[at] for row in matrix)
    precision, recall = hits / answered if answered else 0.0, hits / of if of else 0.0
    total = precision + recall
    return ClassScore(label=label, samples=of, precision=precision, recall=recall,
                      f1=2 * precision * recall / total if total else 0.0)  # fmt: skip
