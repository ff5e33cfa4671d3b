"""`summary`, `lr-find` and `study`, and a network in a person's own file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from marwright.cli.look import look
from marwright.pipeline.layout import Layout
from marwright.pipeline.steps.report import study_key
from marwright.recipe.load import load_recipe
from tests.projects import SRC, built, edit, make_project, pipeline, steps_run, tiny

pytestmark = pytest.mark.torch

NET = '''\
"""A network of one's own."""

from torch import nn


def build(shape: tuple[int, ...], outputs: int, *, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(shape[0], hidden), nn.Tanh(), nn.Linear(hidden, outputs))
'''
STUDY = """
[study]
seeds = 2

[study.variants.long]
"fit.learning_rate" = 1e-2
"fit.epochs" = 30
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_project(tmp_path_factory.mktemp("look") / "project", models=())
    (root / "user").mkdir()
    (root / "user" / "net.py").write_text(NET, encoding="utf-8")
    own = tiny(0).replace('factory = "mlp"', 'factory = "user/net.py"\nparams = { hidden = 5 }')
    (root / "archive" / "own.toml").write_text(own + STUDY, encoding="utf-8")
    return root


def test_a_network_of_ones_own_is_trained_and_is_part_of_the_key(project: Path) -> None:
    assert steps_run(built(project, "train")) == {"own": ["train", "trace"]}
    assert steps_run(built(project, "train")) == {}
    edit(project, "user/net.py", "nn.Tanh()", "nn.ReLU()")
    assert steps_run(built(project, "train")) == {"own": ["train", "trace"]}
    edit(project, "user/net.py", "from torch import nn\n", "from torch import nn  # its layers\n")
    assert steps_run(built(project, "train")) == {}


def test_summary_shows_layers_and_rates(project: Path) -> None:
    said = built(project, "summary", "--model", "own")
    assert "own: user/net.py, input 10, 2 stages" in said
    assert "61 parameters, 61 of them are trained" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["0", "55", "from", "epoch", "1", "0.001"] in rows
    assert ["1", "Tanh", "5"] in rows or ["1", "ReLU", "5"] in rows


def test_summary_says_what_was_not_taken_of_weights_and_why(project: Path) -> None:
    weights = {"0.weight": torch.zeros(5, 10), "0.bias": torch.zeros(5)}
    head = {"2.weight": torch.zeros(1, 5), "2.bias": torch.zeros(1), "norm.weight": torch.zeros(5)}
    torch.save(weights | head, project / "own.pt")
    recipe = (project / "archive" / "own.toml").read_text(encoding="utf-8").replace(
        "[model]", '[model]\ninit_from = "own.pt"\ninit_labels = "other"'
    )  # fmt: skip
    (project / "archive" / "begun.toml").write_text(recipe, encoding="utf-8")
    try:
        said = built(project, "summary", "--model", "begun").splitlines()
    finally:
        (project / "archive" / "begun.toml").unlink()
    assert "starts from own.pt: 2 tensors taken, 2 new: 2.bias, 2.weight" in said
    assert "not taken: 2.bias, 2.weight: the head of other labels" in said
    assert "not taken: norm.weight: not in this network" in said


def test_lr_find_draws_what_it_saw(project: Path) -> None:
    said = built(project, "lr-find", "--model", "own")
    assert "begin with" in said
    found = json.loads((project / "build" / "own" / "lr_find.json").read_bytes())
    page = (project / "build" / "own" / "lr_find.html").read_text(encoding="utf-8")
    assert f"{found['suggested']:.1e}" in page
    assert "<svg" in page


def test_a_study_compares_variants_over_seeds(project: Path) -> None:
    built(project, "train")
    said = built(project, "study", "--model", "own", "--jobs", "2")
    report = json.loads((project / "archive" / "own" / "study.json").read_bytes())
    own, long = report["variants"]
    assert (own["name"], long["name"]) == ("as declared", "long")
    assert long["settings"] == {"fit.learning_rate": 1e-2, "fit.epochs": 30}
    values = [[found["r2"] for found in variant["metrics"]] for variant in (own, long)]
    assert all(len(found) == 2 for found in values)
    assert values[0][0] != values[0][1]
    assert max(values[0]) < min(values[1])
    assert "as declared" in said
    # The first seed is the recipe's own, and the build's figure.
    meta = json.loads((project / "build" / "own" / "meta.json").read_bytes())
    assert own["metrics"][0]["r2"] == meta["metrics"]["r2"]


def test_a_study_is_of_the_code_that_it_ran(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(root=project)
    monkeypatch.setattr("marwright.pipeline.keys.ENGINE", project / "src")

    def key() -> str:
        return study_key(load_recipe(project / "archive" / "own.toml"), layout)

    def changes(path: str, old: str, new: str) -> bool:
        before, text = key(), (project / path).read_text(encoding="utf-8")
        edit(project, path, old, new)
        try:
            return key() != before
        finally:
            (project / path).write_text(text, encoding="utf-8")

    recipe = "archive/own.toml"
    assert changes("user/net.py", "nn.Sequential(", "nn.Sequential(nn.Identity(), ")
    assert changes(f"{SRC}/training/loop/optimizer.py", "parameter.ndim > 1", "parameter.ndim > 2")
    assert changes(recipe, "hidden = 5", "hidden = 6")
    assert changes(recipe, '"fit.epochs" = 30', '"fit.epochs" = 31')
    assert changes(recipe, "seeds = 2", "seeds = 3")
    # What the study sets itself, what no training reads, and words.
    assert not changes(recipe, "seed = 0", "seed = 1")
    assert not changes(recipe, 'minimum_metric = "any"', "minimum_metric = 0.1")
    assert not changes(recipe, "[serve]", "[serve]\nbatch_size = 3")
    assert not changes("user/net.py", "from torch", "# layers\nfrom torch")
    assert not changes(f"{SRC}/training/board.py", "loss/train", "loss/training")


def test_a_training_that_fails_ends_a_study(project: Path) -> None:
    before = (project / "archive" / "own.toml").read_text(encoding="utf-8")
    try:
        edit(
            project, "archive/own.toml", '"fit.learning_rate" = 1e-2', '"fit.learning_rate" = 1e30'
        )
        done = pipeline(project, "study", "--model", "own")
        assert (done.returncode, "lower [fit] learning_rate" in done.stderr) == (6, True)
    finally:
        (project / "archive" / "own.toml").write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"fit.speed" = 1', "[study.variants.long]: [fit] speed: unknown key"),
        ('"fit.epochs" = 0', "[study.variants.long]: [fit] epochs: expected `int` >= 1"),
        ('"fit.epochs.x" = 1', "the recipe: fit.epochs.x: epochs is no section"),
        ("fit.epochs = 4", 'write "fit.epochs" = …, in quotes'),
        ('"model.factory" = "none"', "[study.variants.long]: archive/own.toml: [model] factory"),
        ('"model.init_from" = "recipe:none"', "there is no recipe archive/none.toml"),
        ('"fit.seed" = 3', 'variant "long": fit.seed is set by the study itself'),
        ('"serve.batch_size" = 3', 'variant "long": serve.batch_size: training reads of task,'),
    ],
)
def test_a_variant_that_no_recipe_could_be_is_refused(
    project: Path, line: str, message: str
) -> None:
    recipe = project / "archive" / "own.toml"
    before = recipe.read_text(encoding="utf-8")
    try:
        edit(project, "archive/own.toml", '"fit.epochs" = 30', line)
        done = pipeline(project, "study", "--model", "own")
        assert (done.returncode, message in done.stderr) == (3, True), done.stderr
    finally:
        recipe.write_text(before, encoding="utf-8")


def test_a_look_leaves_this_process_without_the_project_s_modules(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [*sys.path], Path.cwd()
    recipe = load_recipe(project / "archive" / "own.toml")
    assert look("summary", {"own": recipe}, Layout(root=project), debug=False) == 0
    assert ([*sys.path], Path.cwd()) == before
    assert "61 parameters" in capfd.readouterr().out


def test_what_a_script_trains_has_no_rates_to_find(project: Path) -> None:
    file = project / "archive" / "scripted.toml"
    own = (project / "archive" / "own.toml").read_text(encoding="utf-8")
    file.write_text(own.partition("[fit]")[0] + '[train]\nscript = "user/net.py:build"\n')
    try:
        done = pipeline(project, "lr-find", "--model", "scripted")
        assert done.returncode == 2
        assert "lr-find is of [fit], and user/net.py:build trains this model" in done.stderr
        said = built(project, "summary", "--model", "scripted")
        assert "61 parameters, trained by user/net.py:build" in said
        assert "epoch" not in said
    finally:
        file.unlink()


def test_an_error_of_a_look_is_told_as_any_other(project: Path) -> None:
    edit(project, "user/net.py", "hidden), nn", "hiden), nn")
    try:
        done = pipeline(project, "summary", "--model", "own")
    finally:
        edit(project, "user/net.py", "hiden), nn", "hidden), nn")
    assert done.returncode == 3
    assert done.stderr.startswith("marwright: archive/own.toml: [model.params]: user/net.py, line")
    assert "Traceback" not in done.stderr
