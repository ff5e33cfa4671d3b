"""`explain` and `list` say what a person needs to know, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.projects import ALL, SRC, archives, built, edit, make_project, pipeline

pytestmark = pytest.mark.torch


def lines(project: Path) -> list[str]:
    return built(project, "explain", "--model", "tiny_a").splitlines()


def test_current_model(project: Path) -> None:
    told = lines(project)
    assert told[0] == "tiny_a"
    assert [line.split()[:2] for line in told[1:]] == [[step, "current"] for step in ALL]


def test_changed_value_is_shown_and_later_steps_wait(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 3")
    told = lines(project)
    assert told[1].split(maxsplit=2) == ["train", "stale", "recipe fit.epochs: 2 → 3"]
    assert told[2].split(maxsplit=2) == ["trace", "waits", "waits for train"]


def test_changed_source_is_named(project: Path) -> None:
    edit(project, f"{SRC}/archive/running.py", "    yield\n", "    _ = 0\n    yield\n")
    told = lines(project)
    assert told[-1].split(maxsplit=2) == [
        "verify",
        "stale",
        "source marwright/archive/running.py: changed",
    ]
    assert all(" current " in line for line in told[1:-1])


def test_changed_output_is_named(project: Path) -> None:
    (project / "build/tiny_a/model.onnx").write_bytes(b"nothing")
    onnx = next(line for line in lines(project) if line.split()[0] == "onnx")
    assert "build/tiny_a/model.onnx: changed since step onnx made it" in onnx


def test_never_built(tmp_path: Path) -> None:
    project = make_project(tmp_path / "new", models=("tiny_a",))
    assert lines(project)[1].split(maxsplit=2) == ["train", "stale", "never built"]
    table = built(project, "list").splitlines()
    assert table[1].split()[:4] == ["tiny_a", "1.0", "regression", "–"]
    assert table[1].rstrip().endswith("train is stale")


def test_list_shows_metric_exports_and_state(project: Path) -> None:
    table = built(project, "list").splitlines()
    assert table[0].split() == [
        "model", "version", "task", "metric", "exports", "agree", "published", "state",
    ]  # fmt: skip
    for line in table[1:]:
        assert " r2 " in line
        assert "≤" in line
        assert line.rstrip().endswith("current")


def test_machines_read_states_and_figures(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "seed = 0", "seed = 5")
    done = json.loads(built(project, "explain", "--json"))
    assert {step["state"] for step in done["tiny_b"]} == {"current"}
    assert done["tiny_a"][0] == {
        "step": "train", "state": "stale", "reasons": ["recipe fit.seed: 0 → 5"],
    }  # fmt: skip
    rows = {row["model"]: row for row in json.loads(built(project, "list", "--json"))}
    meta = json.loads((project / "build/tiny_b/meta.json").read_bytes())
    assert rows["tiny_b"]["metrics"] == meta["metrics"]
    assert rows["tiny_b"]["parity"]["ok"] is True
    assert rows["tiny_b"]["published"] == archives(project)["tiny_b.mar"]
    assert (rows["tiny_a"]["state"], rows["tiny_b"]["state"]) == ("train is stale", "current")


def test_a_build_says_as_much_as_is_asked_for(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "seed = 0", "seed = 5\nepochs = 1\nbatch_size = 16")
    edit(project, "archive/tiny_a.toml", "epochs = 2\n", "")
    said = built(project, "train", "--model", "tiny_a", "-v")
    [starts] = [line for line in said.splitlines() if "train    starts" in line]
    assert all(f"recipe fit.{key}: " in starts for key in ("seed", "epochs", "batch_size"))
    assert built(project, "train", "--model", "tiny_a", "-q") == ""
    edit(project, "archive/tiny_a.toml", "seed = 5", "seed = 6")
    assert built(project, "train", "--model", "tiny_a", "--quiet") == ""
    # Errors are for everybody.
    edit(project, "archive/tiny_a.toml", 'minimum_metric = "any"', "minimum_metric = 0.99")
    done = pipeline(project, "train", "--model", "tiny_a", "-q")
    assert (done.returncode, done.stdout) == (6, "")
    assert "below [fit] minimum_metric = 0.99" in done.stderr
