"""One of torchvision's classification architectures, from nothing through export and gate.

    python -m marwright.parity.zoo names
    python -m marwright.parity.zoo make ARCHITECTURE FOLDER THREADS
    python -m marwright.parity.zoo gate ARCHITECTURE FOLDER THREADS [all]

`names` prints the architectures. `make` writes weights, traced module and ONNX file; `gate`, in a
process of its own, reloads all of them. Each prints one JSON line, a `ZooRow`. With `all` it is the
gate of a recipe, with the search and the error by layer; without, a quick look.

Weights are random; but batch norm's statistics are those of a few photographs, and what an
architecture starts at zero (the head of a ViT) is random too: otherwise its output would be a
constant, and any comparison would pass.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from pathlib import Path

import msgspec
import numpy as np
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn

from marwright.export.to_onnx import ONNX, export_onnx
from marwright.export.trace import TRACED, trace
from marwright.files import sha256_file
from marwright.parity.compare import Candidate
from marwright.parity.gate import Subject, run_gate
from marwright.parity.inputs import Domain, Group
from marwright.parity.types import ZooRow
from marwright.recipe.errors import MarwrightError
from marwright.recipe.types import Parity
from marwright.training.checkpoint import load_weights
from marwright.training.weights import save_weights

_OPSET = 20
_WEIGHTS = "weights.safetensors"
# Inception's last pooling wants this; all others take 224.
_SIDES = {"inception_v3": 299}
_CLASSES = 1000
# torchvision's own normalisation of ImageNet (torchvision.transforms._presets).
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Crops of photographs for batch norm's statistics, and for the gate.
_STATISTICS, _REAL, _MANY = 24, 16, 256
# The batch that most rows go through in.
_SERVING = 4


def architectures() -> list[str]:
    """Return the names of all classification architectures of torchvision."""
    return sorted(torchvision.models.list_models(module=torchvision.models))


def build(name: str) -> nn.Module:
    """Return an architecture without trained weights, on the CPU."""
    own = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **own)
    return model


def domain(name: str) -> Domain:
    """Return what a normalised image can be, at the architecture's size."""
    side = _SIDES.get(name, 224)
    mean, std = (np.array(v, dtype=np.float32)[:, None, None] for v in (_MEAN, _STD))
    return Domain(shape=(3, side, side), low=(0 - mean) / std, high=(1 - mean) / std)


def make(name: str, folder: Path) -> None:
    """Write weights, traced module and ONNX file of an architecture."""
    torch.manual_seed(0)
    model = build(name)
    _wake(model)
    _set_statistics(model, photographs(name, _STATISTICS, seed=1))
    model.eval()
    save_weights(model, folder / _WEIGHTS)
    shape, origin = domain(name).shape, sha256_file(folder / _WEIGHTS)
    export_onnx(model, shape, _OPSET, folder, origin=origin)
    trace(model, shape, folder, origin=origin)


def _wake(model: nn.Module) -> None:
    """Give random weights to the linear layers that start at zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02)


def photographs(name: str, count: int, seed: int) -> Group:
    """Return crops of the photographs that ship with scikit-learn, normalised."""
    chance = np.random.default_rng(seed)
    images = domain(name)
    side = images.shape[1]
    rows = []
    for number in range(count):
        photo = Image.fromarray(load_sample_images().images[number % 2])
        size = int(chance.integers(64, min(photo.size)))
        left, top = (int(chance.integers(0, length - size + 1)) for length in photo.size)
        crop = photo.resize((side, side), box=(left, top, left + size, top + size))
        pixels = np.asarray(crop, dtype=np.float32).transpose(2, 0, 1) / 255
        rows.append(images.low + (images.high - images.low) * pixels)
    names = tuple(f"crop {number}" for number in range(count))
    return Group(kind="held-out", rows=np.stack(rows).astype(np.float32), names=names)


def _set_statistics(model: nn.Module, images: Group) -> None:
    """Set batch norm's statistics to those of a few images, layer after layer in each pass."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # A plain average over the passes.
        norm.momentum = None
    model.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        for rows in np.array_split(images.rows, 3) if norms else ():
            model(torch.from_numpy(rows))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def gate(name: str, folder: Path, threads: int, *, quick: bool = True) -> ZooRow:
    """Reload everything, and run the gate."""
    model = build(name)
    load_weights(model, folder / _WEIGHTS)
    model.eval()
    outcome = run_gate(
        Candidate(
            eager=model,
            yardstick=model,
            traced=folder / TRACED,
            onnx=folder / ONNX,
            origin=sha256_file(folder / _WEIGHTS),
        ),
        Subject(
            task="classification",
            domain=domain(name),
            real=photographs(name, _REAL if quick else _MANY, seed=0),
            serving=_SERVING,
        ),
        Parity(),
        threads=threads,
        quick=quick,
    )
    report = outcome.report
    size = report.size or 1.0
    near = [case for case in report.cases if case.kind == "held-out"]
    far = [case for case in report.cases if case.kind != "held-out"]
    return ZooRow(
        name=name,
        ok=report.ok,
        cause="; ".join(f"{p.check}, {p.backend}: {p.text}" for p in report.problems),
        error=max((case.max_error for case in near), default=-1.0) / size,
        float32=report.noise / size,
        signal=report.signal / size,
        ratio=max((case.ratio for case in near), default=-1.0),
        far_ratio=max((case.ratio for case in far), default=-1.0),
        inputs=report.summary().samples,
        divergence=report.divergence,
        gflop=report.flops / 1e9,
    )


def main(arguments: list[str]) -> int:
    """Print the names, or run one stage and print its row, or in the row why there is no result."""
    if arguments == ["names"]:
        sys.stdout.write("\n".join(architectures()) + "\n")
        return 0
    stage, name, folder, threads, *all_of_it = arguments
    row = _run(stage, name, Path(folder), int(threads), quick=not all_of_it)
    sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
    return 0


def _run(stage: str, name: str, folder: Path, threads: int, *, quick: bool) -> ZooRow:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    started = time.monotonic()
    row = ZooRow(name=name, ok=stage == "make")
    try:
        if stage == "make":
            make(name, folder)
        else:
            row = gate(name, folder, threads, quick=quick)
    except MarwrightError as error:
        row = ZooRow(name=name, ok=False, cause=f"{type(error).__name__}: {error}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return msgspec.structs.replace(row, seconds=time.monotonic() - started, peak_mib=peak)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
