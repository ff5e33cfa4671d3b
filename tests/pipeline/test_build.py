"""What runs when something changes, on a real project with real steps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from marwright.archive.types import from_json
from marwright.files import sha256_file
from marwright.parity.inputs_file import read_inputs, write_inputs
from marwright.parity.types import ParityReport
from tests.projects import ALL, SRC, archives, built, edit, make_project, pipeline, steps_run

pytestmark = pytest.mark.torch

HANDLER = f"{SRC}/runtime/predict_table.py"


def test_second_build_runs_nothing_and_imports_nothing_heavy(project: Path) -> None:
    code = (
        "import sys; from marwright.cli.main import main; code = main(['train', 'archive']);"
        "heavy = {'torch', 'rich', 'numpy', 'subprocess'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "up to date (train archive): tiny_a, tiny_b\n"


def test_comment_and_formatting_of_a_recipe_run_nothing(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs   =   2   # enough for a test")
    assert steps_run(built(project, "archive")) == {}


def test_comment_in_training_code_runs_nothing(project: Path) -> None:
    file, line = f"{SRC}/training/fit.py", "from torch import nn"
    edit(project, file, line, f"# its networks\n{line}")
    assert steps_run(built(project, "archive")) == {}


def test_touched_files_run_nothing(project: Path) -> None:
    for path in project.rglob("*"):
        os.utime(path)
    assert steps_run(built(project, "archive")) == {}


def test_edited_handler_is_asked_again_packed_and_verified_and_nothing_else(project: Path) -> None:
    edit(project, HANDLER, "import numpy as np", "import numpy as np\n\nEDITED = True")
    before = archives(project)
    # It answers as before, so there is no other page to draw.
    expected = ["answers", "archive", "verify"]
    assert steps_run(built(project, "archive")) == {"tiny_a": expected, "tiny_b": expected}
    after = archives(project)
    assert all(before[name] != after[name] for name in before)


def test_edited_preprocessing_retrains(project: Path) -> None:
    old = "(known - spec.center[place]) / spec.scale[place]"
    edit(project, f"{SRC}/runtime/preprocess.py", old, f"{old} / 2")
    ran = steps_run(built(project, "train", "--model", "tiny_a"))
    assert ran == {"tiny_a": ["train", "trace"]}


def test_changed_fit_value_rebuilds_that_model_only(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 3")
    assert steps_run(built(project, "archive")) == {"tiny_a": ALL}


def test_retraining_to_the_same_weights_stops_there(project: Path) -> None:
    # Early stopping with more patience than epochs changes nothing but the key.
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 2\npatience = 11")
    ran = steps_run(built(project, "train"))
    assert ran == {"tiny_a": ["train"]}


def test_comment_in_a_handler_packs_and_verifies_only(project: Path) -> None:
    edit(project, HANDLER, "import numpy as np", "import numpy as np  # edited")
    expected = ["archive", "verify"]
    assert steps_run(built(project, "archive")) == {"tiny_a": expected, "tiny_b": expected}


def test_changed_serve_value_packs_only(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
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


def test_committed_inputs_are_part_of_the_key_and_tried_first(project: Path) -> None:
    kept = "archive/tiny_a/worst.safetensors"
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
from marwright.training.samples import TableSamples


def load(table):
    rows = np.loadtxt(table, delimiter=",")
    return TableSamples(rows=rows[:, :-1], targets=rows[:, -1], columns=("a", "b"), target="c")
"""


def test_files_of_a_data_set_are_part_of_the_key(project: Path) -> None:
    rows = [f"{i % 17},{i % 5},{i % 17 + 2 * (i % 5) + i / 100}" for i in range(200)]
    (project / "rows.csv").write_text("\n".join(rows))
    (project / "train").mkdir()
    (project / "train/own.py").write_text(DATASET)
    edit(project, "archive/tiny_a.toml", '"diabetes"', '"train/own.py"\nfiles = ["rows.csv"]')
    only = ("--model", "tiny_a")
    assert steps_run(built(project, "train", *only)) == {"tiny_a": ["train", "trace"]}
    assert steps_run(built(project, "train", *only)) == {}
    (project / "rows.csv").write_text("\n".join([*rows, "1,2,3"]))
    assert "data rows.csv: changed" in built(project, "explain", *only)
    # Data that no key knows is noticed where it would be mixed with the old.
    edit(project, "archive/tiny_a.toml", 'files = ["rows.csv"]', "")
    edit(project, "train/own.py", "def load(table):", 'def load(table="rows.csv"):')
    built(project, "train", *only)
    (project / "rows.csv").write_text("\n".join(rows))
    done = pipeline(project, "parity", *only)
    assert done.returncode == 5
    assert "not the one that the weights were trained with" in done.stderr


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


def test_list_names_archives_that_no_recipe_declares(project: Path) -> None:
    shutil.copy(project / "model_store/tiny_a.mar", project / "model_store/gone.mar")
    assert "model_store/gone.mar: tiny_a 1.0 is tiny_a.mar already" in built(project, "list")
    (project / "model_store/tiny_a.mar").write_bytes(b"other")
    assert "changed since" in built(project, "list")
