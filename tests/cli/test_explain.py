"""`explain` and `list` say what a person needs to know, without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.projects import ALL, SRC, built, edit, make_project

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
    edit(project, f"{SRC}/archive/probe.py", "os.chdir(folder)", "os.chdir(str(folder))")
    told = lines(project)
    assert told[-1].split(maxsplit=2) == [
        "verify",
        "stale",
        "source marwright/archive/probe.py: changed",
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
