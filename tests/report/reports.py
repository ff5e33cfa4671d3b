"""Parity reports as the gate would write them: numbers of a plausible size, from a seed."""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Iterator
from typing import Any

import msgspec
from PIL import Image

from marwright.export.quantise.types import Attempt, LayerCost, QuantiseReport
from marwright.parity.types import (
    Agreement,
    BackendName,
    Case,
    Divergence,
    Kind,
    Layer,
    ParityReport,
    Plot,
    Problem,
    Search,
    Tolerance,
    Worst,
)

_LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LIMIT = 3.2e-5
SAMPLES: dict[Kind, int] = {
    "regression": 4, "held-out": 364, "boundary": 22, "random": 64, "worst": 16
}  # fmt: skip
BACKENDS: tuple[BackendName, ...] = ("torchscript", "onnx", "onnx optimised")
_NAMES = {"held-out": "sample 211", "boundary": "single hot element 27", "worst": "from sample 40"}
_OPS = ("Conv", "BatchNormalization", "Relu", "MaxPool", "Add")


def healthy(points: int = 300, nodes: int = 41, task: str = "classification") -> ParityReport:
    """Return a report in which everything agrees; `points` are those of each scatter plot."""
    draw = random.Random(0)
    return ParityReport(**_parts(draw, points, nodes, task), ok=True)


def failing(points: int = 300, nodes: int = 41) -> ParityReport:
    """Return a report of an optimised ONNX file with a wrong layer, and a loosened tolerance."""
    draw = random.Random(1)
    parts = _parts(draw, points, nodes, "classification")
    parts["tolerance"] = Tolerance(
        k=24, floor=1e-5, reason="The last layer sums 50,000 products, whose order is not ours."
    )
    parts["cases"] = [_broken(case) if case.backend == "onnx optimised" else case
                      for case in parts["cases"]]  # fmt: skip
    parts["problems"] = [
        Problem(check="tolerance", backend="onnx optimised",
                text="held-out row 211 at batch 1: error 0.0171 is 534 times its limit of 3.2e-5"),
        Problem(check="labels", backend="onnx optimised",
                text="9 of 364 held-out rows get another label; 1 of them is forgiven"),
    ]  # fmt: skip
    middle = nodes // 2
    parts["layers"] = [
        layer if at < middle else _layer(at, layer.op, layer.error * 1e5, layer.float32)
        for at, layer in enumerate(parts["layers"])
    ]
    parts["divergence"] = Divergence(
        backend="onnx optimised", node=parts["layers"][middle].node, op="FusedConv",
        inputs=[[1, 32, 8, 8], [64, 32, 3, 3], [64]], output=[1, 64, 8, 8], before=2.8e-7,
        after=2.1e-2, how="intermediate outputs of one held-out row, then by bisection",
    )  # fmt: skip
    parts["notes"] = ["Held-out rows were capped at 364 of 1,024.", "No axis of the input varies."]
    broken = _plot(draw, "onnx optimised", points, 4e-3)
    parts["plots"] = [*parts["plots"][:2], broken]
    return ParityReport(**parts, ok=False)


def reduced(points: int = 300, nodes: int = 41) -> ParityReport:
    """Return a report of an int8 file that does its task and gives some rows another label."""
    draw = random.Random(2)
    parts = _parts(draw, points, nodes, "classification")
    parts["precision"] = "int8"
    parts["cases"] += [
        msgspec.structs.replace(
            case, backend="int8", max_error=0.4 * draw.uniform(0.5, 1), ratio=-1.0, flips=5,
            forgiven=3,
        )
        for case in parts["cases"] if case.backend == "onnx"
    ]  # fmt: skip
    parts["agreement"].append(
        msgspec.structs.replace(
            parts["agreement"][0], backend="int8", measured=0.98626, drop=0.00275,
            interval=(-0.0027, 0.0082), flips=5, forgiven=3, kl_mean=2e-4, kl_max=0.02,
        )
    )  # fmt: skip
    parts["plots"].append(_plot(draw, "int8", points, 0.2))
    flipped = _worst(draw, "held-out", classification=True)
    parts["worst"].append(
        msgspec.structs.replace(flipped, backend="int8", ratio=-1.0, max_error=0.4, margin=0.31)
    )
    return ParityReport(**parts, ok=True)


def quantised(*, ok: bool = True, layers: int = 20) -> QuantiseReport:
    """Return a report of a file with its two costliest layers in float32, or of one that no such
    choice mends.
    """
    costs = [
        LayerCost(layer=f"node_Conv_{7 * at}", op="Conv", error=0.4 / 1.7**at)
        for at in range(layers)
    ]
    tried = [(0, 3.02), (1, 1.1), (2, 0.27)] if ok else [(0, 23.1), (1, 21.0), (2, 9.5), (4, 7.25)]
    return QuantiseReport(
        ok=ok, calibration_samples=256, validation_samples=270, metric="accuracy",
        float32=0.98889, limit=0.5, drop=0.27 if ok else 23.1, layers=layers,
        excluded=[cost.layer for cost in costs[:2]] if ok else [], sensitivity=costs,
        attempts=[Attempt(excluded=many, drop=drop) for many, drop in tried],
        float32_bytes=46_800_000, int8_bytes=11_900_000,
    )  # fmt: skip


def _parts(draw: random.Random, points: int, nodes: int, task: str) -> dict[str, Any]:
    classification = task == "classification"
    return {
        "task": task,
        "precision": "fp32",
        "tolerance": Tolerance(k=8, floor=1e-6),
        "samples": SAMPLES,
        "signal": 4.13,
        "noise": 2.6e-7,
        "size": 17.4,
        "flops": 1_185_792,
        "limit": LIMIT,
        "cases": [*_cases(draw, classification)],
        "problems": [],
        "agreement": [_agreement(backend, classification) for backend in BACKENDS],
        "layers": [_layer(at, _OPS[at % 5], 1e-8 * 1.09**at * draw.uniform(1, 3), 1.2e-8 * 1.09**at)
                   for at in range(nodes)],
        "worst": [_worst(draw, kind, classification) for kind in ("worst", "held-out", "boundary")],
        "labels": _LABELS if classification else [],
        "plots": [_plot(draw, backend, points, 2e-6) for backend in BACKENDS],
        "search": Search(starts=16, steps=40, evaluated=10_240, first_ratio=0.21, worst_ratio=0.47,
                         flips=0, seed=0),
    }  # fmt: skip


def _cases(draw: random.Random, classification: bool) -> Iterator[Case]:
    for backend in BACKENDS:
        for kind, samples in SAMPLES.items():
            for batch in (1, 2, 3, 7, 8, 32):
                ratio = draw.uniform(0.02, 0.5)
                yield Case(
                    backend=backend, kind=kind, batch=batch, shape=[1, 8, 8], samples=samples,
                    max_error=ratio * LIMIT, ratio=ratio, batch_ratio=ratio / 3 if batch > 1 else 0,
                    flips=0 if classification else -1, forgiven=0 if classification else -1,
                    worst_sample=draw.randrange(samples), ok=True,
                )  # fmt: skip


def _broken(case: Case) -> Case:
    wrong = case.kind in ("held-out", "worst")
    return Case(
        backend=case.backend, kind=case.kind, batch=case.batch, shape=case.shape,
        samples=case.samples, max_error=case.max_error * (2000 if wrong else 1),
        ratio=case.ratio * (2000 if wrong else 1), batch_ratio=case.batch_ratio,
        flips=9 if wrong else 0, forgiven=1 if wrong else 0, worst_sample=case.worst_sample,
        ok=not wrong,
    )  # fmt: skip


def _agreement(backend: BackendName, classification: bool) -> Agreement:
    return Agreement(
        backend=backend, samples=364, metric="accuracy" if classification else "r2",
        reference=0.98901, measured=0.98901, drop=0.0, interval=(-0.0027, 0.0027), flips=0,
        forgiven=0, kl_mean=3.1e-13 if classification else None,
        kl_max=4.4e-11 if classification else None, max_relative=None if classification else 2.2e-7,
    )  # fmt: skip


def _layer(at: int, op: str, error: float, float32: float) -> Layer:
    exact = op in ("Relu", "MaxPool") and error < 2e-8
    return Layer(
        node=f"/features/block_{at // 5}/{op.lower()}_{at}", op=op, shape=[1, 64, 8, 8],
        error=0.0 if exact else error, float32=float32,
    )  # fmt: skip


def _plot(draw: random.Random, backend: BackendName, points: int, noise: float) -> Plot:
    reference = [draw.gauss(-1, 4) for _ in range(points)]
    output = [value + draw.gauss(0, noise) * draw.choice((0, 1, 1)) for value in reference]
    edges = [at / 4 for at in range(-24, 17)]
    counts = [0] * (len(edges) - 1)
    for one, other in zip(reference, output, strict=True):
        ratio = math.log10(max(abs(other - one) / LIMIT, 1e-6))
        counts[min(max(int((ratio + 6) * 4), 0), len(counts) - 1)] += 10
    return Plot(backend=backend, reference=reference, output=output, edges=edges, counts=counts)


def _worst(draw: random.Random, kind: Kind, classification: bool) -> Worst:
    reference = [draw.gauss(-2, 5) for _ in range(10 if classification else 1)]
    names = ("age", "sex", "bmi", "bp", *(f"s{number}" for number in range(1, 13)))
    return Worst(
        kind=kind, backend="onnx optimised", batch=7, name=_NAMES[kind], ratio=0.47,
        max_error=1.5e-5, elements=[*range(len(reference))], reference=reference,
        output=[value + draw.gauss(0, 1e-5) for value in reference],
        png=picture(8, 8) if classification else "",
        values={} if classification else {name: draw.gauss(0, 30) for name in names},
    )  # fmt: skip


def picture(width: int, height: int) -> str:
    """Return a small PNG in base64: a bright ring on black."""
    image = Image.new("L", (width, height))
    radius = min(width, height) / 3
    for x in range(width):
        for y in range(height):
            off = abs(math.hypot(x - width / 2 + 0.5, y - height / 2 + 0.5) - radius)
            image.putpixel((x, y), max(0, 255 - round(off * 160)))
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
