"""What a build says when a step fails, and what it leaves alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from marwright.archive.types import AnswersReport, from_json
from marwright.parity.inputs_file import read_inputs
from marwright.parity.types import ParityReport
from tests.projects import SRC, archives, built, edit, pipeline, steps_run

pytestmark = pytest.mark.torch


def test_parity_failure_stops_the_build_and_keeps_what_it_found(project: Path) -> None:
    before = archives(project)
    impossible = "[parity]\nk = 1e-9\nfloor = 1e-15\n\n[serve]"
    edit(project, "archive/tiny_a.toml", "[serve]", impossible)
    edit(project, "archive/tiny_b.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    done = pipeline(project, "archive")
    assert done.returncode == 8
    # Which of the backends is named first is the machine's to say.
    assert re.search("tiny_a parity: (onnx|onnx optimised|torchscript): ", done.stderr)
    assert "times what is allowed, on " in done.stderr
    assert "build/tiny_a/failed/parity/report.html has it all" in done.stderr
    assert "`make keep-worst MODEL=tiny_a` keeps the worst inputs" in done.stderr
    failed = project / "build/tiny_a/failed/parity"
    report = from_json((failed / "parity.json").read_bytes(), ParityReport)
    assert not report.ok
    assert {problem.check for problem in report.problems} <= {"tolerance", "invariance"}
    assert len(read_inputs(failed / "worst.safetensors")) == len(report.worst) > 0
    assert (failed / "report.html").read_text(encoding="utf-8").startswith("<!")
    after = archives(project)
    assert after["tiny_a.mar"] == before["tiny_a.mar"], "a failed gate must not publish"
    assert after["tiny_b.mar"] != before["tiny_b.mar"], "one failing model must not stop another"
    # Once the gate is current again, what failed is gone, though nothing ran.
    edit(project, "archive/tiny_a.toml", impossible, "[serve]")
    assert steps_run(built(project, "report", "--model", "tiny_a")) == {}
    assert not failed.exists()


def test_wrong_answer_stops_the_build_before_it_is_packed(project: Path) -> None:
    before = archives(project)
    old, new = "* loaded.spec.target_std + loaded", "* loaded.spec.target_std - loaded"
    edit(project, f"{SRC}/runtime/predict_table.py", old, new)
    # That there is no page of it must not hide what failed.
    edit(project, f"{SRC}/report/model.py", "def ", "raise RuntimeError('no pages')\n\n\ndef ")
    done = pipeline(project, "archive", "--model", "tiny_a")
    assert done.returncode == 8
    assert steps_run(done.stdout) == {"tiny_a": ["answers"]}
    assert "tiny_a: no page of what failed: no pages" in done.stdout
    assert "tiny_a answers: marwright/runtime/predict_table.py: torchscript: sample " in done.stderr
    assert "Traceback" not in done.stderr
    failed = project / "build/tiny_a/failed/answers"
    report = from_json((failed / "answers.json").read_bytes(), AnswersReport)
    assert [problem.split(": ")[1] for problem in report.problems] == ["torchscript", "model.onnx"]
    assert archives(project) == before


def test_unreadable_recipe_stops_only_its_model(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epoch = 2")
    edit(project, "archive/tiny_b.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    done = pipeline(project, "archive")
    assert done.returncode == 3
    assert 'archive/tiny_a.toml: [fit] epoch: unknown key; did you mean "epochs"?' in done.stderr
    assert steps_run(done.stdout) == {"tiny_b": ["archive", "verify"]}


def test_step_that_dies_is_reported_with_its_log(project: Path) -> None:
    first = "    from marwright.files import sha256_file\n"
    edit(
        project,
        f"{SRC}/pipeline/steps/trace.py",
        first,
        f"    import os; os.abort()\n{first}",
    )
    done = pipeline(project, "train", "--model", "tiny_a")
    assert done.returncode == 1
    assert "tiny_a trace: its process was killed by signal 6" in done.stderr
    assert "log: build/tiny_a/log/trace.log" in done.stderr


def test_training_that_diverges_names_what_to_change(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 2\nlearning_rate = 1e30")
    done = pipeline(project, "train", "--model", "tiny_a")
    assert done.returncode == 6
    assert "lower [fit] learning_rate (now 1e+30)" in done.stderr
    assert "Traceback" not in done.stderr


def test_metric_below_the_recipes_minimum_stops_the_build(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", 'minimum_metric = "any"', "minimum_metric = 0.9")
    done = pipeline(project, "train", "--model", "tiny_a")
    assert done.returncode == 6
    assert "below [fit] minimum_metric = 0.9" in done.stderr


def test_data_set_that_fails_says_so_without_a_traceback(project: Path) -> None:
    edit(
        project,
        f"{SRC}/training/datasets/diabetes.py",
        "load_diabetes(scaled=False)",
        "open('no.csv')",
    )
    done = pipeline(project, "train", "--model", "tiny_a")
    assert done.returncode == 5
    assert "training/datasets/diabetes.py: load() failed: FileNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_where_a_folder_belongs_stops_only_its_model(project: Path) -> None:
    shutil.rmtree(project / "build/tiny_a")
    (project / "build/tiny_a").write_text("in the way")
    edit(project, "archive/tiny_b.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    done = pipeline(project, "archive")
    assert done.returncode == 12
    assert "build/tiny_a" in done.stderr
    assert "move away what lies there" in done.stderr
    assert "Traceback" not in done.stderr
    assert steps_run(done.stdout) == {"tiny_b": ["archive", "verify"]}


def test_command_lines_that_mean_nothing_are_refused(built_project: Path) -> None:
    for arguments in (("archive", "x.mar"), ("train", "--model", ","), ("train", "--jobs", "0")):
        assert pipeline(built_project, *arguments).returncode == 2, arguments
    assert pipeline(built_project, "train", "--model", "archive").returncode == 3
