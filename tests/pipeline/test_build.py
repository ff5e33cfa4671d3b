"""What runs when something changes, on a real project with real steps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archive.files import sha256_file
from tests.projects import built, edit, make_project, pipeline, steps_run

pytestmark = pytest.mark.torch

ALL = ["train", "trace", "onnx", "parity", "archive", "verify"]


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
    assert done.stdout == "up to date (verify): tiny_a, tiny_b\n"


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


def test_edited_handler_packs_and_verifies_only(project: Path) -> None:
    edit(project, "handlers/predict_table.py", "import torch", "import torch  # edited")
    before = archives(project)
    expected = ["archive", "verify"]
    assert steps_run(built(project, "archive")) == {"tiny_a": expected, "tiny_b": expected}
    after = archives(project)
    assert all(before[name] != after[name] for name in before)


def test_edited_preprocessing_retrains(project: Path) -> None:
    old = "((rows - mean) / std).astype(np.float32)"
    edit(project, "handlers/preprocess.py", old, "((rows - mean) / (std * 2)).astype(np.float32)")
    assert steps_run(built(project, "archive", "--model", "tiny_a")) == {"tiny_a": ALL}


def test_changed_fit_value_rebuilds_that_model_only(project: Path) -> None:
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs = 3")
    assert steps_run(built(project, "archive")) == {"tiny_a": ALL}


def test_retraining_to_the_same_weights_stops_there(project: Path) -> None:
    # Early stopping with more patience than epochs changes nothing but the key.
    edit(project, "recipes/tiny_a.toml", "epochs = 2", "epochs = 2\npatience = 11")
    ran = steps_run(built(project, "train"))
    assert ran == {"tiny_a": ["train"]}


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


def test_parity_failure_stops_the_build_and_keeps_the_worst_input(project: Path) -> None:
    before = archives(project)
    impossible = "[export]\natol = 1e-13\nrtol = 1e-13\n\n[serve]"
    edit(project, "recipes/tiny_a.toml", "[serve]", impossible)
    edit(project, "recipes/tiny_b.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    done = pipeline(project, "archive")
    assert done.returncode == 8
    assert "tiny_a parity: onnxruntime at batch" in done.stderr
    assert "build/tiny_a/failed/parity/worst_input.json" in done.stderr
    assert (project / "build/tiny_a/failed/parity/worst_input.json").read_text().startswith("{")
    assert (project / "build/tiny_a/failed/parity/parity.json").is_file()
    after = archives(project)
    assert after["tiny_a.mar"] == before["tiny_a.mar"], "a failed gate must not publish"
    assert after["tiny_b.mar"] != before["tiny_b.mar"], "one failing model must not stop another"


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
    other = make_project(tmp_path / "another" / "deeper folder")
    done = pipeline(other, "archive", "--jobs", "1", env={"TZ": "Pacific/Kiritimati"})
    assert done.returncode == 0, done.stderr
    assert archives(other) == archives(built_project)
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
    edit(project, "train/trace.py", "    model.eval()\n", "    import os; os.abort()\n")
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
