"""What a build leaves when it is killed, meets another one, or its sources change under it."""

from __future__ import annotations

import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.project import command as command_line
from bench.project import environment
from marwright.files import sha256_file
from tests.projects import ALL, SRC, archives, built, edit, steps_run

pytestmark = pytest.mark.torch


def started(project: Path, *words: str, errors: int | None = None) -> subprocess.Popen[str]:
    """Start a command of the project's engine, whose output can be followed."""
    return subprocess.Popen(
        command_line(*words), cwd=project, env=environment(project),
        stdout=subprocess.PIPE, stderr=errors, text=True,
    )  # fmt: skip


def test_two_builds_at_once_take_turns(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    command = ("archive", "--model", "tiny_a")
    builds = [started(project, *command) for _ in range(2)]
    outputs = [build.communicate(timeout=120)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    ran = [steps_run(output) for output in outputs]
    assert sorted(ran, key=len) == [{}, {"tiny_a": ["archive", "verify"]}]
    assert steps_run(built(project, "verify")) == {}


def test_killed_build_leaves_complete_files_and_no_orphan(project: Path) -> None:
    before = archives(project)
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 3")
    command = ("archive",)
    with started(project, *command) as build:
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
    # The archive step imports the handler too; only in the probe shall it hang.
    hang = (
        "import sys\nimport time\n\n"
        "time.sleep(60 * sys.argv[0].endswith('service_worker.py'))\nimport numpy as np\n"
    )
    edit(project, f"{SRC}/runtime/predict_table.py", "import numpy as np\n", hang)
    command = ("archive", "--model", "tiny_a")
    with started(project, *command) as build:
        assert build.stdout is not None
        for line in build.stdout:
            if "verify" in line and "starts" in line:
                break
        _wait_for(lambda: _probes(project), "the probe to start")
        build.kill()
    _wait_for(lambda: not _probes(project), "the probe to end with its build")
    _wait_until_no_child_of(project)
    # What the killed build left half done goes with the next one.
    edit(project, f"{SRC}/runtime/predict_table.py", "time.sleep(60", "time.sleep(0")
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
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 3")
    with started(project, "archive", errors=subprocess.PIPE) as build:  # fmt: skip
        assert build.stdout is not None
        build.stdout.readline()
        build.send_signal(2)
        _, errors = build.communicate(timeout=60)
    assert build.returncode == 130
    assert errors.strip() == "marwright: interrupted; what was complete stays"
    assert "never built" not in built(project, "explain")
    assert " fit.epochs: 2 → 3" in built(project, "explain"), "it went on to train"
    _wait_until_no_child_of(project)


def test_what_was_made_while_its_source_was_edited_is_not_used(project: Path) -> None:
    before = sha256_file(project / "build/tiny_a/weights.safetensors")
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 3")
    with started(project, "train", "--model", "tiny_a", errors=subprocess.PIPE) as build:
        assert build.stdout is not None
        build.stdout.readline()
        edit(project, f"{SRC}/training/models/mlp.py", "nn.ReLU()", "nn.GELU()")
        _, errors = build.communicate(timeout=120)
    assert build.returncode == 1
    assert "source marwright/training/models/mlp.py: changed while it ran" in errors
    assert sha256_file(project / "build/tiny_a/weights.safetensors") == before
    assert steps_run(built(project, "train", "--model", "tiny_a")) == {"tiny_a": ["train", "trace"]}


def test_recipe_edited_during_a_build_is_for_the_next_one(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    command = ("archive", "--model", "tiny_a")
    with started(project, *command) as build:
        assert build.stdout is not None
        build.stdout.readline()
        edit(project, "archive/tiny_a.toml", "max_batch_delay_ms = 20", "max_batch_delay_ms = 30")
        build.communicate(timeout=120)
    assert build.returncode == 0
    with zipfile.ZipFile(project / "model_store/tiny_a.mar") as archive:
        assert b"maxBatchDelay: 20" in archive.read("model-config.yaml")
    assert steps_run(built(project, "archive")) == {"tiny_a": ["archive", "verify"]}
