"""What varies from run to run is noted beside the outputs, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch


def test_each_step_notes_its_time_and_memory(built_project: Path) -> None:
    log = json.loads((built_project / "build/tiny_a/build.json").read_bytes())
    assert [*log["steps"]] == [
        "answers", "archive", "onnx", "parity", "report", "trace", "train", "verify",
    ]  # fmt: skip
    for step in log["steps"].values():
        assert step["finished"].endswith("+00:00")
        assert step["seconds"] > 0
        # Every step but verify, which runs torch in a process of its own, imports torch.
        assert step["cpu_seconds"] > 0
        assert step["peak_mib"] > 10
    assert log["host"]["machine"]


def test_no_output_holds_what_varies(built_project: Path) -> None:
    log = json.loads((built_project / "build/tiny_a/build.json").read_bytes())
    folder = built_project / "build/tiny_a"
    for path in folder.glob("*"):
        if path.is_file() and path.name not in ("build.json", ".lock"):
            content = path.read_bytes()
            assert str(built_project).encode() not in content, path.name
            finished = log["steps"]["train"]["finished"]
            assert finished.encode() not in content, path.name
