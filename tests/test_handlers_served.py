"""A handler of TorchServe's own style, from a recipe through a real TorchServe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score

from marwright.archive.types import AnswersReport, from_json
from marwright.recipe.load import load_recipe
from marwright.serve.ports import free_ports
from marwright.serve.server import Server
from marwright.training.data import open_dataset
from tests.archive.answers.handlers import DERIVED
from tests.projects import built, edit, make_project, pipeline

pytestmark = [pytest.mark.torch, pytest.mark.onnx, pytest.mark.serve]

RECIPE = """\
version = "1.0"
task = "classification"
data = { dataset = "digits" }
preprocess = { kind = "image", channels = 1, height = 8, width = 8 }
model = { factory = "small_cnn", params = { width = 8, dropout = 0.0 } }
fit = { epochs = 4, learning_rate = 1e-2 }
serve = { handler = "handlers/shapes.py" }
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("handled") / "project", models=())
    (project / "archive/shapes.toml").write_text(RECIPE, encoding="utf-8")
    (project / "handlers").mkdir()
    (project / "handlers/shapes.py").write_text(DERIVED, encoding="utf-8")
    built(project, "archive", "--model", "shapes")
    return project


@pytest.fixture(scope="module")
def server(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("server")
    store = project / "model_store"
    with Server(store=store, home=home, port=free_ports(), models=("shapes",)) as server:
        server.wait_ready()
        yield server


def test_what_is_not_checked_is_in_the_report_and_in_the_proof(project: Path) -> None:
    answers = from_json((project / "build/shapes/answers.json").read_bytes(), AnswersReport)
    assert (answers.ok, answers.exports, answers.notes) == (True, ["torchscript"], [])
    [absent] = answers.absent
    assert absent.endswith("labels and their order are not checked")
    built(project, "report", "--model", "shapes")
    page = (project / "build/shapes/report.html").read_text(encoding="utf-8")
    assert "Not checked" in page
    said = pipeline(project, "verify", str(project / "model_store/shapes.mar")).stdout
    assert "4 golden samples" in said


def test_requests_are_answered_and_a_bad_one_harms_no_neighbour(
    project: Path, server: Server
) -> None:
    recipe = load_recipe(project / "archive/shapes.toml")
    splits = open_dataset(recipe, project).splits
    chosen = splits.test[:120]
    bodies = [splits.samples.request(int(index))[0] for index in chosen]
    bodies.insert(5, b"no image")
    headers = {"Content-Type": "image/png"}
    with ThreadPoolExecutor(8) as pool:
        answers = [
            *pool.map(lambda b: server.predict("shapes", content=b, headers=headers), bodies)
        ]
    bad = answers.pop(5)
    assert (bad.status_code, bad.text) == (400, "no image")
    assert {answer.status_code for answer in answers} == {200}
    labels = [int(answer.text) for answer in answers]
    meta = json.loads((project / "build/shapes/meta.json").read_bytes())
    found = accuracy_score(splits.samples.targets[chosen], labels)
    assert found == pytest.approx(meta["metrics"]["accuracy"], abs=0.1)


def test_a_handler_whose_outputs_are_others_stops_the_build(project: Path) -> None:
    """With the exit code of the gate, and the step and the file in the message."""
    source = (project / "handlers/shapes.py").read_text(encoding="utf-8")
    added = "\n    def inference(self, data):\n        return super().inference(data) + 0.01\n"
    edit(project, "handlers/shapes.py", source, source + added)
    done = pipeline(project, "archive", "--model", "shapes")
    edit(project, "handlers/shapes.py", source + added, source)
    assert done.returncode == 8, done.stdout + done.stderr
    said = "shapes answers: handlers/shapes.py: `inference` gives other outputs than the checkpoint"
    assert said in done.stderr
