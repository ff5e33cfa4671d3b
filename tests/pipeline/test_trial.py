"""Nobody trains an hour to learn that a network cannot be exported: it is tried before epoch 1."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from marwright.files import sha256_file
from marwright.pipeline.trial import PASSED, _in_a_fork, tried
from marwright.recipe.errors import ExportError
from marwright.recipe.types import Export
from marwright.runtime.spec import ImageSpec
from tests.projects import built, edit, make_project, pipeline
from tests.training.conftest import image_recipe

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

# As a person would write them. Layers of torch's own have no line in a traceback: where they were
# made is named.
SOURCE = """\
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import orthogonal


class Pooled(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.head = nn.Linear(9, outputs)

    def forward(self, images):
        images = functional.adaptive_max_pool2d(images, 3)
        return self.head(images.flatten(1))


class Middle(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.head = nn.Linear(64, outputs)

    def forward(self, images):
        values, _ = images.flatten(2).median(1)
        return self.head(values)


def build(shape, outputs, *, kind):
    flat = [nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, outputs)]
    if kind == "pooled":
        return Pooled(outputs)
    if kind == "middle":
        return Middle(outputs)
    if kind == "scripted":
        flat[1] = torch.jit.script(flat[1])
    if kind == "pool layer":
        flat = [
            nn.AdaptiveMaxPool2d(3),
            nn.Flatten(),
            nn.Linear(9, outputs),
        ]
    if kind == "orthogonal":
        flat[1] = orthogonal(flat[1])
    return nn.Sequential(*flat)
"""
RECIPE = """\
version = "1.0"
task = "classification"

[data]
dataset = "digits"

[preprocess]
kind = "image"
channels = 1
height = 8
width = 8

[model]
factory = "user/net.py"
params = {{ kind = "{kind}" }}

[serve]
handler = "classify_image"

[fit]
epochs = 2
learning_rate = 0.01
"""
SAID = {
    "pooled": "the model cannot be exported to ONNX: user/net.py:13: aten.adaptive_max_pool2d has "
    "no ONNX operator: use max_pool2d with a fixed kernel and stride, or adaptive_avg_pool2d",
    "middle": "the model cannot be exported to ONNX: user/net.py:23: aten.median.dim has no ONNX "
    "operator: use the middle of torch.sort along the axis",
    "scripted": "user/net.py:43: 1 (Linear) is made by torch.jit.script or torch.jit.trace, which "
    "cannot be exported to ONNX: give the module itself; tracing it is this project's work",
    "pool layer": "the model cannot be exported to ONNX: user/net.py:43, in 0 (AdaptiveMaxPool2d): "
    "aten.adaptive_max_pool2d has no ONNX operator: use max_pool2d with a fixed kernel and stride",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("trial") / "project", models=())
    (folder / "user").mkdir()
    (folder / "user" / "net.py").write_text(SOURCE, encoding="utf-8")
    for kind in (*SAID, "orthogonal"):
        recipe = folder / "archive" / f"{kind.replace(' ', '_')}.toml"
        recipe.write_text(RECIPE.format(kind=kind), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def refused(project: Path) -> str:
    said = ""
    for kind in SAID:
        done = pipeline(project, "train", f"--model={kind.replace(' ', '_')}")
        said += done.stdout + done.stderr
        assert done.returncode == ExportError.exit_code, said
    return " ".join(said.split())


@pytest.mark.parametrize("kind", SAID)
def test_what_cannot_be_exported_is_not_trained(project: Path, refused: str, kind: str) -> None:
    assert SAID[kind] in refused
    assert "Traceback" not in refused
    assert "See the stack trace" not in refused
    assert "starts" in refused
    assert not re.search(r"loss \d", refused), "an epoch was trained"
    folder = project / "build" / kind.replace(" ", "_")
    assert not (folder / "weights.safetensors").exists()
    assert not (folder / "state" / PASSED).exists()


def test_what_can_be_is_tried_once_and_trains_as_if_it_had_not_been(project: Path) -> None:
    """A parametrised layer exports; weights are the same bits with the trial and without."""
    folder = project / "build" / "orthogonal"
    built(project, "onnx", "--model=orthogonal")
    passed, first = folder / "state" / PASSED, sha256_file(folder / "weights.safetensors")
    key, when = passed.read_text(encoding="utf-8"), passed.stat().st_mtime_ns
    # The training is stale, and what an export is a function of is as before.
    (folder / "state" / "train.json").unlink()
    built(project, "train", "--model=orthogonal")
    assert sha256_file(folder / "weights.safetensors") == first
    assert (passed.read_text(encoding="utf-8"), passed.stat().st_mtime_ns) == (key, when)
    edit(project, "user/net.py", "nn.Linear(64, 16)", "nn.Linear(64, 17)")
    edit(project, "user/net.py", "nn.Linear(16, outputs)", "nn.Linear(17, outputs)")
    built(project, "train", "--model=orthogonal")
    assert passed.read_text(encoding="utf-8") != key


class Otherwise(nn.Module):
    """Answers otherwise where torch's exporter looks at it, which torch says nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(rows.flatten(1))
        return outputs + 1 if torch.compiler.is_compiling() else outputs


class Among(Otherwise):
    """Answers a row by its neighbours, as no norm of a batch should."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head((rows - rows.mean(0)).flatten(1))
        return outputs


@pytest.mark.parametrize(
    ("network", "export", "said"),
    [
        (Otherwise, {}, r"the ONNX file answers otherwise than the model: .*is_compiling"),
        (Among, {}, "answers a sample otherwise when others stand beside it in a batch"),
        (lambda: nn.Flatten(), {"precision": "int8"}, "the model has nothing to make int8 of"),
    ],
    ids=["compiled", "among others", "int8"],
)
def test_what_the_gate_would_say_is_said_before(
    network: Callable[[], nn.Module], export: dict[str, Any], said: str
) -> None:
    spec = ImageSpec(
        channels=1, height=2, width=2, fit="stretch", interpolation="bilinear", mean=(0.0,),
        std=(1.0,),
    )  # fmt: skip
    recipe = msgspec.structs.replace(image_recipe(), export=Export(**export))
    with pytest.raises(ExportError, match=said):
        tried(network(), recipe, spec)


def test_a_study_trains_nothing_where_one_variant_cannot_be_exported(project: Path) -> None:
    text = RECIPE.format(kind="orthogonal").replace("learning_rate = 0.01", "learning_rate = 1e30")
    recipe = project / "archive" / "studied.toml"
    variant = '"model.params" = { kind = "pooled" }'
    recipe.write_text(f"{text}[study]\nseeds = 2\n[study.variants.other]\n{variant}\n", "utf-8")
    try:
        done = pipeline(project, "study", "--model", "studied")
    finally:
        recipe.unlink()
    said = " ".join((done.stdout + done.stderr).split())
    # Of a training, it would be that its loss is NaN.
    assert done.returncode == ExportError.exit_code, said
    assert f'variant "other": {SAID["pooled"]}' in said
    assert "Traceback" not in said
    log = (project / "build" / "studied" / "log" / "study.log").read_text(encoding="utf-8")
    assert "adaptive_max_pool2d" in log


def test_a_copy_that_ends_without_a_word_is_told_of() -> None:
    assert _in_a_fork(lambda: None) == ""
    assert _in_a_fork(lambda: os._exit(3)) == "the export of the untrained network ended with 3"
    killed = _in_a_fork(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert killed == "the export of the untrained network was killed by signal 9; out of memory?"

    def wrong() -> None:
        raise ExportError("user/net.py:3: wrong")

    assert _in_a_fork(wrong) == "user/net.py:3: wrong"
