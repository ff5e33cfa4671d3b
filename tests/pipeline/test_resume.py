"""A training that is killed, again and again, ends with the weights of one that was not."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from bench.project import command
from marwright.files import sha256_file
from tests.projects import TABLE, built, edit, make_project, pipeline

pytestmark = pytest.mark.torch

FIT = """
[fit]
epochs = 1000
patience = 1000
learning_rate = 1e-3
ema = 0.9
minimum_metric = "any"
"""


def weights(project: Path) -> str:
    return sha256_file(project / "build" / "long" / "weights.safetensors")


def log(project: Path) -> str:
    return (project / "build" / "long" / "log" / "train.log").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = make_project(tmp_path / "project", models=())
    (root / "archive" / "long.toml").write_text(TABLE + FIT, encoding="utf-8")
    return root


@pytest.fixture
def large(project: Path) -> Path:
    """The same, of a network so large that writing what it has learned takes a while."""
    edit(project, "archive/long.toml", "[fit]\n", "[model.params]\nhidden = 20000\n\n[fit]\n")
    edit(project, "archive/long.toml", "epochs = 1000", "epochs = 150")
    return project


def kill_after(project: Path, seconds: float) -> None:
    """Kill a training some time after it has kept what it can go on from."""
    state = project / "build" / "long" / "resume" / "train" / "state.pt"
    before = state.stat().st_mtime_ns if state.exists() else 0
    with subprocess.Popen(command("train"), cwd=project, stdout=subprocess.DEVNULL) as build:
        deadline = time.monotonic() + 60
        while not (state.exists() and state.stat().st_mtime_ns != before):
            assert build.poll() is None, "it was over before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(seconds)
        build.kill()


def test_kills_do_not_change_the_weights(project: Path) -> None:
    built(project, "train")
    whole = weights(project)
    resume = project / "build" / "long" / "resume" / "train"
    assert not resume.exists()
    (project / "build" / "long" / "weights.safetensors").unlink()
    for seconds in (0.0, 0.37):
        kill_after(project, seconds)
    built(project, "train")
    assert "goes on after epoch" in log(project)
    assert weights(project) == whole
    assert not resume.exists()


def test_a_changed_recipe_begins_anew(project: Path) -> None:
    edit(project, "archive/long.toml", "learning_rate = 1e-3", "learning_rate = 2e-3")
    kill_after(project, 0.0)
    edit(project, "archive/long.toml", "epochs = 1000", "epochs = 3")
    built(project, "train")
    assert "goes on" not in log(project)


def half_written(project: Path) -> list[Path]:
    return [*(project / "build" / "long" / "resume" / "train").glob(".state.pt.*.tmp")]


def test_a_kill_in_the_middle_of_a_write_changes_nothing(large: Path) -> None:
    project = large
    built(project, "train")
    whole = weights(project)
    (project / "build" / "long" / "weights.safetensors").unlink()
    kill_after(project, 0.0)
    # The next one is killed while it writes: what it has written so far is left.
    with subprocess.Popen(command("train"), cwd=project, stdout=subprocess.DEVNULL) as build:
        deadline = time.monotonic() + 60
        while not half_written(project):
            assert build.poll() is None and time.monotonic() < deadline
        build.kill()
    built(project, "train")
    assert "goes on after epoch" in log(project)
    assert weights(project) == whole
    assert not (project / "build" / "long" / "resume").exists()


def test_a_lower_minimum_goes_on_from_what_was_trained(large: Path) -> None:
    project = large
    edit(project, "archive/long.toml", "epochs = 150", "epochs = 60")
    edit(project, "archive/long.toml", 'minimum_metric = "any"', "minimum_metric = 1.0")
    failed = pipeline(project, "train")
    assert failed.returncode == 6
    assert "below [fit] minimum_metric = 1" in failed.stderr
    edit(project, "archive/long.toml", "minimum_metric = 1.0", 'minimum_metric = "any"')
    built(project, "train")
    assert "goes on after epoch" in log(project)
