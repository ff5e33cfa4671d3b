"""A recipe's precision decides which steps there are, and what they make."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch

from marwright.archive.types import PROOF, AnswersReport, Proof, VerifyReport, from_json
from marwright.export.quantise.types import QuantiseReport
from marwright.files import sha256_file
from marwright.parity.types import ParityReport
from marwright.pipeline.plan import STEPS
from marwright.pipeline.step import Job
from marwright.pipeline.steps import quantise
from marwright.recipe.errors import ParityError
from marwright.recipe.load import load_recipe
from marwright.training.data import open_trained_dataset
from marwright.training.tensors import inputs_of, targets_of
from marwright.training.types import read_meta
from tests.export.quantise.graphs import STAY_WIDE, chain, written
from tests.projects import built, edit, steps_run

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

MADE = ("model.int8.onnx", "quantise.json", "state/quantise.json")
# As far as the exports: `pipeline` has no verb that goes up to here.
BUILD = """
import sys
from pathlib import Path
from marwright.pipeline.build import build
from marwright.pipeline.layout import Layout
from marwright.pipeline.plan import steps_up_to
from marwright.cli.summary import summarise
from marwright.recipe.load import load_recipes
recipes, _ = load_recipes(Path("archive"))
layout = Layout(root=Path.cwd())
sys.exit(summarise(build(recipes, steps_up_to("quantise"), layout, jobs=2), ["quantise"], layout))
"""


def exported(project: Path) -> dict[str, list[str]]:
    """Build up to the exports; returns the steps that ran, by model."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return steps_run(done.stdout)


@pytest.fixture(scope="module")
def whole(built_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a model of bf16 and one of int8, exported. Not to be written to."""
    project = Path(
        shutil.copytree(built_project, tmp_path_factory.mktemp("precisions") / "project")
    )
    for model, precision in (("tiny_a", "int8"), ("tiny_b", "bf16")):
        # What two epochs of training reach is not to be kept.
        gate = "[parity]\nmax_metric_drop = 90\nsamples = 32\nsearch = 2"
        sections = f'[export]\nprecision = "{precision}"\n\n{gate}\n\n[serve]'
        edit(project, f"archive/{model}.toml", "[serve]", sections)
    # Neither weights nor ONNX files are others.
    assert exported(project) == {"tiny_a": ["trace", "quantise"], "tiny_b": ["trace"]}
    return project


@pytest.fixture
def project(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "project"))


def test_only_int8_has_a_step_quantise(whole: Path) -> None:
    names = [step.name for step in STEPS]
    assert names.index("onnx") < names.index("quantise") < names.index("parity")
    for model, made in (("tiny_a", True), ("tiny_b", False)):
        folder = whole / "build" / model
        assert [(folder / name).exists() for name in MADE] == [made] * len(MADE)
        assert ("quantise" in built(whole, "explain", "--model", model)) == made
    assert exported(whole) == {}


def test_the_traced_module_alone_is_bfloat16(built_project: Path, whole: Path) -> None:
    one, other = (project / "build/tiny_b" for project in (whole, built_project))
    assert sha256_file(one / "model.onnx") == sha256_file(other / "model.onnx")
    traced, exact = (torch.jit.load(str(folder / "model.pt")) for folder in (one, other))
    assert {value.dtype for value in traced.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in exact.parameters()} == {torch.float32}
    rows = torch.randn(5, 10)
    with torch.inference_mode():
        outputs, expected = traced(rows), exact(rows)
    assert outputs.dtype == torch.float32
    assert 0 < float((outputs - expected).abs().max()) < 0.03 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("model", "precision", "reduced", "dtype", "served"),
    [
        ("tiny_a", "int8", "int8", torch.float32, "model.int8.onnx"),
        ("tiny_b", "bf16", "torchscript", torch.bfloat16, "model.onnx"),
    ],
    ids=["int8", "bf16"],
)
def test_it_goes_through_the_gate_into_the_store(
    project: Path, model: str, precision: str, reduced: str, dtype: torch.dtype, served: str
) -> None:
    ran = steps_run(built(project, "archive", "--model", model))
    assert ran == {model: ["parity", "answers", "report", "archive", "verify"]}
    folder, store = project / "build" / model, project / "model_store"
    report = from_json((folder / "parity.json").read_bytes(), ParityReport)
    assert report.precision == precision
    backends = {"torchscript", "onnx", "onnx optimised", reduced}
    assert {case.backend for case in report.cases} == backends
    errors = {
        name: max(c.max_error for c in report.cases if (c.backend, c.kind) == (name, "held-out"))
        for name in backends
    }
    # It alone is of reduced precision.
    assert all(errors[reduced] > 100 * errors[name] for name in backends - {reduced})
    answers = from_json((folder / "answers.json").read_bytes(), AnswersReport)
    assert sorted(answers.exports) == sorted(["torchscript", served])
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!")
    verified = from_json((folder / "verify.json").read_bytes(), VerifyReport)
    assert (verified.problems, verified.proven, verified.golden_samples > 0) == ([], True, True)
    assert verified.sha256 == sha256_file(store / f"{model}.mar")
    with zipfile.ZipFile(store / f"{model}.mar") as archive:
        proof = from_json(archive.read(PROOF), Proof)
        packed = torch.jit.load(io.BytesIO(archive.read("model.pt")))
    assert proof.parity.precision == precision
    assert proof.parity.drop is not None
    assert {value.dtype for value in packed.parameters()} == {dtype}
    assert built(project, "archive", "--model", model) == f"up to date (archive): {model}\n"


def test_the_int8_file_and_its_report_are_of_each_other(whole: Path) -> None:
    folder = whole / "build/tiny_a"
    report = from_json((folder / "quantise.json").read_bytes(), QuantiseReport)
    assert report.int8_bytes == (folder / "model.int8.onnx").stat().st_size
    assert report.limit == 90
    graph = onnx.load(folder / "model.int8.onnx").graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert json.loads((folder / "build.json").read_bytes())["steps"]["quantise"]["seconds"] > 0
    assert (folder / "log/quantise.log").read_bytes() == b""


def test_another_limit_quantises_again_and_trains_nothing(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "max_metric_drop = 90", "max_metric_drop = 80")
    edit(project, "archive/tiny_b.toml", "max_metric_drop = 90", "max_metric_drop = 80")
    assert exported(project) == {"tiny_a": ["quantise"]}


def test_a_lost_file_is_made_again_with_the_same_bytes(project: Path) -> None:
    file = project / "build/tiny_a/model.int8.onnx"
    before = sha256_file(file)
    file.unlink()
    assert exported(project) == {"tiny_a": ["quantise"]}
    assert sha256_file(file) == before


def test_what_int8_made_goes_when_it_is_no_longer_asked_for(project: Path) -> None:
    folder = project / "build/tiny_a"
    edit(project, "archive/tiny_a.toml", '"int8"', '"fp32"')
    exported(project)
    assert [name for name in MADE if (folder / name).exists()] == []
    assert exported(project) == {}


def test_a_model_that_int8_destroys_stops_the_build_with_its_report(
    whole: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(whole / "archive/tiny_a.toml")
    strict = msgspec.structs.replace(recipe.parity, max_metric_drop=5)
    recipe = msgspec.structs.replace(recipe, parity=strict)
    files = whole / "build/tiny_a"
    meta = read_meta(files / "meta.json")
    splits = open_trained_dataset(recipe, Path(), meta)
    rows, targets = (
        of(splits.samples, splits.train, meta.spec).double().numpy()
        for of in (inputs_of, targets_of)
    )
    # As good as a line can be; and on the way, a value a million times the other one.
    best = np.linalg.lstsq(rows, targets, rcond=None)[0]
    first = np.hstack([best, np.zeros_like(best), 1e6 * best])
    model = chain(first.tolist(), STAY_WIDE, STAY_WIDE, [[1.0], [1.0], [0.0]])
    job = Job(
        recipe=recipe,
        root=whole,
        inputs={"meta.json": files / "meta.json", "model.onnx": written(model, tmp_path / "in")},
        out=tmp_path,
        failed=tmp_path / "failed",
        resume=tmp_path / "resume",
        key="",
        progress=lambda *_: None,
    )
    with pytest.raises(ParityError, match=r"^int8 costs \d\d\.\d\d points of r2 on the 57 valid"):
        quantise.run(job)
    assert not (tmp_path / "quantise.json").exists()
    report = from_json((tmp_path / "failed/quantise.json").read_bytes(), QuantiseReport)
    assert report.drop > 20
    assert report.limit == 5
