"""What runs when something changes, on a real project with real steps."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from archive.files import sha256_file
from archive.parity.inputs_file import read_inputs, write_inputs
from archive.parity.types import ParityReport
from archive.types import AnswersReport, from_json
from tests.projects import built, edit, make_project, pipeline, steps_run

pytestmark = pytest.mark.torch

ALL = ["train", "trace", "onnx", "parity", "answers", "report", "archive", "verify"]


def archives(project: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in (project / "model_store").glob("*.mar")}


def test_second_build_runs_nothing_and_imports_nothing_heavy(project: Path) -> None:
    code = (
        "import sys; from pipeline.cli import main; code = main(['train', 'archive']);"
        "heavy = {'torch', 'rich', 'numpy', 'subprocess'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "up to date (train archive): tiny_a, tiny_b\n"


def test_comment_and_formatting_of_a_recipe_run_nothing(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs   =   2   # enough for a test")
    assert steps_run(built(project, "archive")) == {}


def test_comment_in_training_code_runs_nothing(project: Path) -> None:
    edit(project, "train/fit.py", "import copy", "# why copy\nimport copy")
    assert steps_run(built(project, "archive")) == {}


def test_touched_files_run_nothing(project: Path) -> None:
    for path in project.rglob("*"):
        os.utime(path)
    assert steps_run(built(project, "archive")) == {}


def test_edited_handler_is_asked_again_packed_and_verified_and_nothing_else(project: Path) -> None:
    edit(project, "handlers/predict_table.py", "import torch", "import torch\n\nEDITED = True")
    before = archives(project)
    # It answers as before, so there is no other page to draw.
    expected = ["answers", "archive", "verify"]
    assert steps_run(built(project, "archive")) == {"tiny_a": expected, "tiny_b": expected}
    after = archives(project)
    assert all(before[name] != after[name] for name in before)


def test_edited_preprocessing_retrains(project: Path) -> None:
    old = "((rows - mean) / std).astype(np.float32)"
    edit(project, "handlers/preprocess.py", old, "((rows - mean) / (std * 2)).astype(np.float32)")
    ran = steps_run(built(project, "train", "--model", "tiny_a"))
    assert ran == {"tiny_a": ["train", "trace"]}


def test_changed_fit_value_rebuilds_that_model_only(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs = 3")
    assert steps_run(built(project, "archive")) == {"tiny_a": ALL}


def test_retraining_to_the_same_weights_stops_there(project: Path) -> None:
    # Early stopping with more patience than epochs changes nothing but the key.
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs = 2\npatience = 11")
    ran = steps_run(built(project, "train"))
    assert ran == {"tiny_a": ["train"]}


def test_comment_in_a_handler_packs_and_verifies_only(project: Path) -> None:
    edit(project, "handlers/predict_table.py", "import torch", "import torch  # edited")
    expected = ["archive", "verify"]
    assert steps_run(built(project, "archive")) == {"tiny_a": expected, "tiny_b": expected}


def test_changed_serve_value_packs_only(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    assert steps_run(built(project, "archive")) == {"tiny_a": ["archive", "verify"]}


def test_missing_output_and_missing_published_archive_are_made_again(project: Path) -> None:
    before = archives(project)
    (project / "model_store/tiny_a.mar").unlink()
    (project / "build/tiny_b/parity.json").unlink()
    assert steps_run(built(project, "archive")) == {"tiny_a": ["verify"], "tiny_b": ["parity"]}
    assert archives(project) == before


def test_verify_names_a_flipped_byte_that_keeps_size_and_mtime(project: Path) -> None:
    weights = project / "build/tiny_a/weights.safetensors"
    stat = weights.stat()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    done = pipeline(project, "verify")
    assert done.returncode == 4
    assert "build/tiny_a/weights.safetensors: changed since step train made it" in done.stderr
    assert "Traceback" not in done.stderr
    assert steps_run(built(project, "archive")) == {"tiny_a": ["train"]}
    built(project, "verify")


def test_parity_failure_stops_the_build_and_keeps_what_it_found(project: Path) -> None:
    before = archives(project)
    impossible = "[parity]\nk = 1e-9\nfloor = 1e-15\n\n[serve]"
    edit(project, "recipes/tiny_a.toml", "[serve]", impossible)
    edit(project, "recipes/tiny_b.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
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
    edit(project, "recipes/tiny_a.toml", impossible, "[serve]")
    assert steps_run(built(project, "report", "--model", "tiny_a")) == {}
    assert not failed.exists()


def test_wrong_answer_stops_the_build_before_it_is_packed(project: Path) -> None:
    before = archives(project)
    old, new = "* loaded.spec.target_std + loaded", "* loaded.spec.target_std - loaded"
    edit(project, "handlers/predict_table.py", old, new)
    # That there is no page of it must not hide what failed.
    edit(project, "report/model.py", "def ", "raise RuntimeError('no pages')\n\n\ndef ")
    done = pipeline(project, "archive", "--model", "tiny_a")
    assert done.returncode == 8
    assert steps_run(done.stdout) == {"tiny_a": ["answers"]}
    assert "tiny_a: no page of what failed: no pages" in done.stdout
    assert "tiny_a answers: handlers/predict_table.py: torchscript: sample " in done.stderr
    assert "Traceback" not in done.stderr
    failed = project / "build/tiny_a/failed/answers"
    report = from_json((failed / "answers.json").read_bytes(), AnswersReport)
    assert [problem.split(": ")[1] for problem in report.problems] == ["torchscript", "model.onnx"]
    assert archives(project) == before


def test_committed_inputs_are_part_of_the_key_and_tried_first(project: Path) -> None:
    kept = "recipes/regression/tiny_a.safetensors"
    told = built(project, "keep-worst", "--model", "tiny_a")
    count = len(read_inputs(project / "build/tiny_a/worst.safetensors"))
    assert told.startswith(f"{kept}: {count} new, {count} in all; ")
    assert f"file {kept}: " in built(project, "explain")
    ran = steps_run(built(project, "report"))
    assert ran == {"tiny_a": ["parity", "answers", "report"]}
    report = from_json((project / "build/tiny_a/parity.json").read_bytes(), ParityReport)
    assert (report.samples["regression"], report.cases[0].kind) == (count, "regression")
    assert steps_run(built(project, "report")) == {}
    # Others than those of this model are refused, and named.
    write_inputs([np.zeros(3, dtype=np.float32)], project / kept)
    done = pipeline(project, "parity")
    assert done.returncode == 8
    assert f"tiny_a parity: {kept}: input 0 is float32 (3,), and the model takes" in done.stderr
    assert "Traceback" not in done.stderr


def test_unreadable_recipe_stops_only_its_model(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epoch = 2")
    edit(project, "recipes/tiny_b.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    done = pipeline(project, "archive")
    assert done.returncode == 3
    assert 'recipes/tiny_a.toml: [fit] epoch: unknown key; did you mean "epochs"?' in done.stderr
    assert steps_run(done.stdout) == {"tiny_b": ["archive", "verify"]}


def test_same_bytes_in_another_folder_time_zone_and_order_of_jobs(
    built_project: Path, tmp_path: Path
) -> None:
    other = make_project(tmp_path / "another" / "deeper folder", models=("tiny_a",))
    done = pipeline(other, "archive", "--jobs", "1", env={"TZ": "Pacific/Kiritimati"})
    assert done.returncode == 0, done.stderr
    assert archives(other)["tiny_a.mar"] == archives(built_project)["tiny_a.mar"]
    for output in ("model.onnx", "model.pt", "meta.json"):
        ours, theirs = (p / "build/tiny_a" / output for p in (built_project, other))
        assert sha256_file(ours) == sha256_file(theirs), output


def test_two_builds_at_once_take_turns(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    command = [sys.executable, "-m", "pipeline", "archive", "--model", "tiny_a"]
    builds = [
        subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [build.communicate(timeout=120)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    ran = [steps_run(output) for output in outputs]
    assert sorted(ran, key=len) == [{}, {"tiny_a": ["archive", "verify"]}]
    assert steps_run(built(project, "verify")) == {}


def test_killed_build_leaves_complete_files_and_no_orphan(project: Path) -> None:
    before = archives(project)
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs = 3")
    command = [sys.executable, "-m", "pipeline", "archive"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as build:
        assert build.stdout is not None
        for line in build.stdout:
            if "trace" in line and "starts" in line:
                break
        build.kill()
    assert archives(project) == before
    _wait_until_no_child_of(project)
    # The training was complete: the next run goes on behind it.
    assert steps_run(built(project, "archive")) == {"tiny_a": ALL[1:]}
    built(project, "verify")


def test_kill_during_verify_ends_the_process_that_runs_the_handler(project: Path) -> None:
    # The archive step imports the handler too; only in the isolated probe shall it hang.
    hang = "import sys\nimport time\n\ntime.sleep(60 * sys.flags.isolated)\nimport torch\n"
    edit(project, "handlers/predict_table.py", "import torch\n", hang)
    command = [sys.executable, "-m", "pipeline", "archive", "--model", "tiny_a"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as build:
        assert build.stdout is not None
        for line in build.stdout:
            if "verify" in line and "starts" in line:
                break
        _wait_for(lambda: _probes(project), "the probe to start")
        build.kill()
    _wait_for(lambda: not _probes(project), "the probe to end with its build")
    _wait_until_no_child_of(project)
    # What the killed build left half done goes with the next one.
    edit(project, "handlers/predict_table.py", "time.sleep(60", "time.sleep(0")
    built(project, "archive", "--model", "tiny_a")
    assert [p for p in project.rglob(".*") if p.name.endswith((".tmp", ".out"))] == []


def _probes(project: Path) -> list[str]:
    """Return the probes that run on archives of a project."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except OSError:
            continue
        if "probe.py" in command and str(project) in command:
            found.append(command)
    return found


def _wait_for(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def _wait_until_no_child_of(project: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        running = [p for p in Path("/proc").glob("[0-9]*") if _runs_in(p, project)]
        if not running:
            return
        time.sleep(0.1)
    raise AssertionError(f"still running after their build was killed: {running}")


def _runs_in(process: Path, project: Path) -> bool:
    try:
        return (process / "cwd").resolve() == project.resolve()
    except OSError:
        return False


def test_interrupted_build_says_so_in_one_line(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs = 3")
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "archive"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as build:  # fmt: skip
        assert build.stdout is not None
        build.stdout.readline()
        build.send_signal(2)
        _, errors = build.communicate(timeout=60)
    assert build.returncode == 130
    assert errors.strip() == "marwright: interrupted; what was complete stays"
    assert "never built" not in built(project, "explain")
    assert " fit.epochs: 2 → 3" in built(project, "explain"), "it went on to train"
    _wait_until_no_child_of(project)


def test_step_that_dies_is_reported_with_its_log(project: Path) -> None:
    edit(project, "train/trace.py", "    network = model.eval()\n", "    import os; os.abort()\n")
    done = pipeline(project, "train", "--model", "tiny_a")
    assert done.returncode == 1
    assert "tiny_a trace: its process was killed by signal 6" in done.stderr
    assert "log: build/tiny_a/log/trace.log" in done.stderr


def test_training_that_diverges_names_what_to_change(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs = 2\nlearning_rate = 1e30")
    done = pipeline(project, "train", "--model", "tiny_a")
    assert done.returncode == 6
    assert "lower [fit] learning_rate (now 1e+30)" in done.stderr
    assert "Traceback" not in done.stderr


def test_metric_below_the_recipes_minimum_stops_the_build(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs = 2\nminimum_metric = 0.9")
    done = pipeline(project, "train", "--model", "tiny_a")
    assert done.returncode == 6
    assert "below [fit] minimum_metric = 0.9" in done.stderr


def test_what_was_made_while_its_source_was_edited_is_not_used(project: Path) -> None:
    before = sha256_file(project / "build/tiny_a/weights.safetensors")
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs = 3")
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", "--model", "tiny_a"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as build:  # fmt: skip
        assert build.stdout is not None
        build.stdout.readline()
        edit(project, "train/models/mlp.py", "nn.ReLU()", "nn.GELU()")
        _, errors = build.communicate(timeout=120)
    assert build.returncode == 1
    assert "source train/models/mlp.py: changed while it ran" in errors
    assert sha256_file(project / "build/tiny_a/weights.safetensors") == before
    assert steps_run(built(project, "train", "--model", "tiny_a")) == {"tiny_a": ["train", "trace"]}


def test_recipe_edited_during_a_build_is_for_the_next_one(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    command = [sys.executable, "-m", "pipeline", "archive", "--model", "tiny_a"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as build:
        assert build.stdout is not None
        build.stdout.readline()
        edit(project, "recipes/tiny_a.toml", "max_batch_delay_ms = 20", "max_batch_delay_ms = 30")
        build.communicate(timeout=120)
    assert build.returncode == 0
    with zipfile.ZipFile(project / "model_store/tiny_a.mar") as archive:
        assert b"maxBatchDelay: 20" in archive.read("model-config.yaml")
    assert steps_run(built(project, "archive")) == {"tiny_a": ["archive", "verify"]}


def test_environment_changes_no_result(project: Path) -> None:
    before = archives(project)
    (project / "build/tiny_a/state/train.json").unlink()
    kernels = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "2",
               "PYTHONWARNINGS": "error", "PYTORCH_JIT": "0"}  # fmt: skip
    done = pipeline(project, "archive", env=kernels)
    assert done.returncode == 0, done.stderr
    assert steps_run(done.stdout) == {"tiny_a": ["train"]}
    assert archives(project) == before


DATASET = """\
import numpy as np
from train.types import TableSamples

def load(table):
    rows = np.loadtxt(table, delimiter=",")
    return TableSamples(rows=rows[:, :-1], targets=rows[:, -1], columns=("a", "b"), target="c")
"""


def test_files_of_a_data_set_are_part_of_the_key(project: Path) -> None:
    rows = [f"{i % 17},{i % 5},{i % 17 + 2 * (i % 5) + i / 100}" for i in range(200)]
    (project / "rows.csv").write_text("\n".join(rows))
    (project / "train/datasets/own.py").write_text(DATASET)
    edit(project, "recipes/tiny_a.toml", '"diabetes"', '"own"\nfiles = ["rows.csv"]')
    only = ("--model", "tiny_a")
    assert steps_run(built(project, "train", *only)) == {"tiny_a": ["train", "trace"]}
    assert steps_run(built(project, "train", *only)) == {}
    (project / "rows.csv").write_text("\n".join([*rows, "1,2,3"]))
    assert "data rows.csv: changed" in built(project, "explain", *only)
    # Data that no key knows is noticed where it would be mixed with the old.
    edit(project, "recipes/tiny_a.toml", 'files = ["rows.csv"]', "")
    edit(project, "train/datasets/own.py", "def load(table):", 'def load(table="rows.csv"):')
    built(project, "train", *only)
    (project / "rows.csv").write_text("\n".join(rows))
    done = pipeline(project, "parity", *only)
    assert done.returncode == 5
    assert "not the one that the weights were trained with" in done.stderr


def test_data_set_that_fails_says_so_without_a_traceback(project: Path) -> None:
    edit(project, "train/datasets/diabetes.py", "load_diabetes(scaled=False)", "open('no.csv')")
    done = pipeline(project, "train", "--model", "tiny_a")
    assert done.returncode == 5
    assert "train/datasets/diabetes.py: load() failed: FileNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_where_a_folder_belongs_stops_only_its_model(project: Path) -> None:
    shutil.rmtree(project / "build/tiny_a")
    (project / "build/tiny_a").write_text("in the way")
    edit(project, "recipes/tiny_b.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    done = pipeline(project, "archive")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert steps_run(done.stdout) == {"tiny_b": ["archive", "verify"]}


def test_verify_checks_files_and_names_what_is_wrong(project: Path, tmp_path: Path) -> None:
    mar = tmp_path / "copy.mar"
    shutil.copy(project / "model_store/tiny_a.mar", mar)
    told = built(project, "verify", str(mar))
    assert "proven" in told
    assert "4 golden samples" in told
    # A file beside other verbs is checked first, and they are done all the same.
    told = built(project, "archive", "verify", str(mar))
    assert f"{mar}: proven" in told
    assert "tiny_b" in told
    data = bytearray(mar.read_bytes())
    data[len(data) // 2] ^= 1
    mar.write_bytes(data)
    done = pipeline(project, "verify", "--json", "no.mar", str(mar))
    assert done.returncode == 4
    reports = json.loads(done.stdout)["archives"]
    assert reports["no.mar"]["problems"] == ["no.mar: No such file or directory"]
    assert len(reports[str(mar)]["problems"]) >= 1


def test_command_lines_that_mean_nothing_are_refused(built_project: Path) -> None:
    for arguments in (("archive", "x.mar"), ("train", "--model", ","), ("train", "--jobs", "0")):
        assert pipeline(built_project, *arguments).returncode == 2, arguments
    assert pipeline(built_project, "train", "--model", "archive").returncode == 3


def test_list_names_archives_that_no_recipe_declares(project: Path) -> None:
    shutil.copy(project / "model_store/tiny_a.mar", project / "model_store/gone.mar")
    assert "model_store/gone.mar: no recipe declares it" in built(project, "list")
    (project / "model_store/tiny_a.mar").write_bytes(b"other")
    assert "changed since" in built(project, "list")
