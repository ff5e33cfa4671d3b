"""A recipe whose network a script trains, from the command line and by running the script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import TABLE, built, edit, make_project, pipeline, steps_run

pytestmark = pytest.mark.torch

SCRIPT = """\
import marwright
from helper import rate
import torch


def train(job):
    optimizer = torch.optim.SGD(job.network.parameters(), lr=rate())
    for epoch in range(1, job.params["epochs"] + 1):
        loss = torch.nn.functional.mse_loss(job.network(job.train.inputs), job.train.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        job.progress(epoch, job.params["epochs"], train_loss=loss.item())
    (job.out / "seen").write_text("kept while it trains")
    return job.network


marwright.train(__file__)
"""
RECIPE = f"""\
{TABLE}
[train]
script = "train/own.py"
params = {{ epochs = 2 }}
minimum_metric = "any"
"""


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    project = make_project(tmp_path / "project", models=())
    for folder in ("train", "archive"):
        (project / folder).mkdir(exist_ok=True)
    (project / "train/own.py").write_text(SCRIPT, encoding="utf-8")
    (project / "helper.py").write_text("def rate():\n    return 0.1\n", encoding="utf-8")
    (project / "archive/own.toml").write_text(RECIPE, encoding="utf-8")
    return project


def test_a_script_is_a_step_like_any_other(scripted: Path) -> None:
    assert steps_run(built(scripted, "train")) == {"own": ["train", "trace"]}
    report = json.loads((scripted / "build/own/train.json").read_text(encoding="utf-8"))
    assert [epoch["number"] for epoch in report["epochs"]] == [1, 2]
    assert built(scripted, "train").startswith("up to date")
    # What it keeps while it trains is gone when that is done.
    assert not (scripted / "build/own/resume/train").exists()
    # A comment changes nothing; a parameter, or a module that it imports, does.
    edit(scripted, "train/own.py", "def train(job):", "def train(job):  # as ever")
    assert built(scripted, "train").startswith("up to date")
    edit(scripted, "helper.py", "0.1", "0.2")
    assert "source helper.py: changed" in built(scripted, "explain")
    assert steps_run(built(scripted, "train"))["own"][0] == "train"
    edit(scripted, "archive/own.toml", "epochs = 2", "epochs = 3")
    assert "recipe train.params.epochs: 2 → 3" in built(scripted, "explain")
    # The engine's own loop is no part of it, and what runs a script is.
    edit(scripted, "src/marwright/training/loop/run.py", "math.inf", "float('inf')")
    edit(scripted, "archive/own.toml", "epochs = 3", "epochs = 2")
    assert "loop/run.py" not in built(scripted, "explain")
    # Another minimum judges what was trained, and trains nothing.
    built(scripted, "train")
    edit(scripted, "archive/own.toml", '"any"', "0.99")
    done = pipeline(scripted, "train")
    assert done.returncode == 6
    assert "below [train] minimum_metric = 0.99" in done.stderr


def test_a_script_is_studied_over_seeds(scripted: Path) -> None:
    edit(scripted, "archive/own.toml", "[train]", "[study]\nseeds = 2\n\n[train]")
    edit(
        scripted,
        "archive/own.toml",
        "seeds = 2",
        'seeds = 2\nvariants.long = { "train.params.epochs" = 3 }',
    )
    built(scripted, "study")
    report = json.loads((scripted / "archive/own/study.json").read_text(encoding="utf-8"))
    assert [variant["epochs"] for variant in report["variants"]] == [[2, 2], [3, 3]]
    (first, second), _ = (variant["metrics"] for variant in report["variants"])
    assert first != second


def test_a_script_runs_alone(scripted: Path) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "train/own.py"], cwd=scripted, check=False, text=True,
            capture_output=True, env={"PYTHONPATH": f"{scripted / 'src'}:{scripted}"},
        )  # fmt: skip

    done = run()
    assert done.returncode == 0, done.stderr
    assert steps_run(done.stdout) == {"own": ["train", "trace"]}
    assert (scripted / "build/own/model.pt").exists()
    edit(scripted, "archive/own.toml", "train/own.py", "helper.py:rate")
    done = run()
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert 'train/own.py: no recipe names it: add [train] script = "train/own.py"' in done.stderr


def test_a_script_that_fails_is_named_by_its_line(scripted: Path) -> None:
    edit(scripted, "train/own.py", "lr=rate()", "lr=rate(1)")
    done = pipeline(scripted, "train")
    assert done.returncode == 6
    assert "train/own.py:7: TypeError: rate() takes 0 positional arguments" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[train]", "[fit]\nepochs = 3\n[train]", "[train] script trains this model: remove [fit]"),
        ("train/own.py", "train/gone.py", "[train] script: there is no train/gone.py"),
        ("train/own.py", "helper.py", "[train] script: helper.py has no `train` function"),
        ("train/own.py", "own", "[train] script"),
        ("epochs = 2 }", "epochs = 2 }\nlearning_rate = 1", "[train] learning_rate: unknown key"),
    ],
)
def test_a_section_that_is_wrong_is_told(scripted: Path, old: str, new: str, said: str) -> None:
    edit(scripted, "archive/own.toml", old, new)
    done = pipeline(scripted, "list")
    assert done.returncode == 3
    assert said in done.stderr
