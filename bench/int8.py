"""What lower precision saves and costs: a ResNet-18 on digits of 64×64 pixels, by the pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.project import copy_project, run, table
from marwright.export.onnx_session import open_session
from marwright.recipe.load import load_recipe
from marwright.training.checkpoint import META
from marwright.training.data import open_trained_dataset
from marwright.training.tensors import inputs_of, targets_of
from marwright.training.types import read_meta

TITLE = "A ResNet-18 in float32, bfloat16 and int8"
_RUNS = 31
_BATCHES, _THREADS = (1, 16), (1, 2)
# Less than four, because of scales and of what is beside weights.
_SMALLER, _AGREEMENT = 3.5, 0.99
_MODEL = '''\
"""A ResNet-18 as torchvision has it, for images of three channels."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet18


def build(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return a network from `(N, 3, H, W)` images to `(N, outputs)` logits."""
    return resnet18(num_classes=outputs)
'''
_RECIPE = """\
version = "1.0"
task = "classification"

[data]
dataset = "digits"

[preprocess]
kind = "image"
channels = 3
height = 64
width = 64
fit = "stretch"

[model]
factory = "train/resnet.py"

[fit]
epochs = 6
batch_size = 32
learning_rate = 2e-3
schedule = "one_cycle"
threads = 2
device = "cpu"

[export]
precision = "{precision}"

[serve]
handler = "classify_image"
"""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Train it once, make it of all precisions, and hold the fast ones against float32."""
    project = copy_project(root, folder / "project", models=())
    (project / "train").mkdir(exist_ok=True)
    (project / "train" / "resnet.py").write_text(_MODEL, encoding="utf-8")
    recipe = project / "archive" / "resnet.toml"
    files = {}
    for precision in ("bf16", "int8"):
        recipe.write_text(_RECIPE.format(precision=precision), encoding="utf-8")
        # Through the gate; weights are trained once, as they do not depend on this.
        run(project, "parity", "--model", "resnet")
        traced = (project / "build" / "resnet" / "model.pt").rename(folder / f"{precision}.pt")
        files[precision] = traced
    made = project / "build" / "resnet"
    runs: dict[str, tuple[Path, Callable[[int], Run]]] = {
        "TorchScript float32": (files["int8"], lambda _: _torchscript(files["int8"])),
        "TorchScript bfloat16": (files["bf16"], lambda _: _torchscript(files["bf16"])),
        "ONNX float32": (made / "model.onnx", lambda n: _onnx(made / "model.onnx", n)),
        "ONNX int8": (made / "model.int8.onnx", lambda n: _onnx(made / "model.int8.onnx", n)),
    }
    meta = read_meta(made / META)
    splits = open_trained_dataset(load_recipe(recipe), project, meta)
    inputs = inputs_of(splits.samples, splits.test, meta.spec).numpy()
    labels = targets_of(splits.samples, splits.test, meta.spec).numpy()
    answers = {name: _answers(start(2), inputs) for name, (_, start) in runs.items()}
    seconds = {
        (threads, batch): _interleaved(
            {name: start(threads) for name, (_, start) in runs.items()}, inputs[:batch], threads
        )
        for threads in _THREADS
        for batch in _BATCHES
    }
    rows: list[tuple[object, ...]] = []
    ok = True
    for name, (path, _) in runs.items():
        exact = f"{name.split()[0]} float32"
        smaller = runs[exact][0].stat().st_size / path.stat().st_size
        agree = float((answers[name] == answers[exact]).mean())
        faster = [seconds[place][exact] / seconds[place][name] for place in seconds]
        if name == "ONNX int8":
            ok = smaller >= _SMALLER and agree >= _AGREEMENT and min(faster) > 1
        rows.append(
            (name, f"{path.stat().st_size / 2**20:.1f} MiB", f"{smaller:.2f}×",
             *(f"{1000 * seconds[place][name]:.1f} ms ({ratio:.2f}×)"
               for place, ratio in zip(seconds, faster, strict=True)),
             f"{(answers[name] == labels).mean():.4f}", f"{100 * agree:.2f} %")
        )  # fmt: skip
    header = (
        "", "size", "smaller",
        *(f"batch {batch}, {threads} thread{'s' * (threads > 1)}" for threads, batch in seconds),
        "accuracy", "same label",
    )  # fmt: skip
    return ok, f"{table(header, rows)}\n\n{_note(made, len(labels))}"


def _note(made: Path, held_out: int) -> str:
    report: dict[str, Any] = json.loads((made / "quantise.json").read_bytes())
    costs = ", ".join(f"`{c['layer']}` ({c['error']:.2g})" for c in report["sensitivity"][:3])
    return (
        f"Medians of {_RUNS} interleaved runs; factors are against float32 in the same format, on "
        f"{held_out} held-out samples. int8 was calibrated on {report['calibration_samples']} "
        f"training samples and costs {report['drop']:.2f} points of accuracy on the "
        f"{report['validation_samples']} validation samples, with {len(report['excluded'])} of "
        f"{report['layers']} layers left in float32. The costliest layers, with the error of each "
        f"alone over what outputs vary by: {costs}."
    )


def _torchscript(path: Path) -> Run:
    module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]

    def run(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            outputs: NDArray[np.float32] = module(torch.from_numpy(inputs)).numpy()
        return outputs

    return run


def _onnx(path: Path, threads: int) -> Run:
    session = open_session(path, optimised=True, threads=threads)

    def run(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = session.run(None, {"input": inputs})[0]
        return outputs

    return run


def _answers(run: Run, inputs: NDArray[np.float32]) -> NDArray[np.int64]:
    parts = [inputs[start : start + 64] for start in range(0, len(inputs), 64)]
    labels: NDArray[np.int64] = np.concatenate([run(part).argmax(axis=1) for part in parts])
    return labels


def _interleaved(
    runs: dict[str, Run], inputs: NDArray[np.float32], threads: int
) -> dict[str, float]:
    """Return the median seconds of each, so that what else a machine does meets all of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    try:
        # The first runs compile.
        for turn in range(_RUNS + 3):
            for name, run in runs.items():
                started = time.perf_counter()
                run(inputs)
                if turn >= 3:
                    seconds[name].append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return {name: median(times) for name, times in seconds.items()}
