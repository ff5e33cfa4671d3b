"""`parity --quick`: a look at the gate that runs, is kept, leads to no archive, and can fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from marwright.archive.types import from_json
from marwright.parity.inputs_file import read_inputs
from marwright.parity.types import ParityReport
from marwright.pipeline.plan import STEPS
from tests.projects import built, edit, pipeline, steps_run

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

QUICK = ("parity", "--quick", "--model", "tiny_a")


def read(path: Path) -> ParityReport:
    return from_json(path.read_bytes(), ParityReport)


@pytest.fixture
def exported(project: Path) -> Path:
    """The project as it was before its first gate."""
    shutil.rmtree(project / "model_store")
    for name in ("parity", "answers", "report", "archive", "verify"):
        [step] = [step for step in STEPS if step.name == name]
        for output in step.outputs:
            named = "tiny_a.mar" if output == "model.mar" else output
            (project / "build/tiny_a" / named).unlink()
        (project / f"build/tiny_a/state/{name}.json").unlink()
    return project


def test_a_quick_look_leaves_its_report_and_no_archive(exported: Path, built_project: Path) -> None:
    assert steps_run(built(exported, *QUICK)) == {"tiny_a": ["quick"]}
    folder = exported / "build/tiny_a"
    quick, whole = read(folder / "quick.json"), read(built_project / "build/tiny_a/parity.json")
    assert quick.ok
    assert (quick.search is None, whole.search is None) == (True, False)
    assert sum(quick.samples.values()) < sum(whole.samples.values())
    assert {case.batch for case in quick.cases} < {case.batch for case in whole.cases}
    for name in ("parity.json", "worst.safetensors", "answers.json", "tiny_a.mar"):
        assert not (folder / name).exists(), name
    assert not (exported / "model_store").exists()
    assert built(exported, *QUICK) == "up to date (parity): tiny_a\n"
    # The gate does not take its word.
    ran = steps_run(built(exported, "parity", "--model", "tiny_a"))
    assert ran == {"tiny_a": ["parity", "answers"]}
    # Nor does anything need it.
    (folder / "quick.json").unlink()
    built(exported, "archive", "--model", "tiny_a")
    built(exported, "verify", "--model", "tiny_a")


def test_a_quick_look_that_fails_stops_with_what_it_found(exported: Path) -> None:
    impossible = "[parity]\nk = 1e-9\nfloor = 1e-15\n\n[serve]"
    edit(exported, "archive/tiny_a.toml", "[serve]", impossible)
    done = pipeline(exported, *QUICK)
    assert done.returncode == 8
    assert "times what is allowed, on " in done.stderr
    assert "Traceback" not in done.stderr
    failed = exported / "build/tiny_a/failed/quick"
    assert not read(failed / "parity.json").ok
    assert "build/tiny_a/failed/quick/report.html has it all" in done.stderr
    assert (failed / "report.html").read_text(encoding="utf-8").startswith("<!")
    assert not (exported / "build/tiny_a/quick.json").exists()
    count = len(read_inputs(failed / "worst.safetensors"))
    assert f": {count} new, " in built(exported, "keep-worst", "--model", "tiny_a")


@pytest.mark.parametrize("verbs", [("parity", "archive"), ("parity", "train")])
def test_a_quick_look_goes_with_no_other_verb(project: Path, verbs: tuple[str, str]) -> None:
    done = pipeline(project, *verbs, "--quick")
    assert done.returncode == 2
    assert f"--quick is for `parity` alone, not for {' '.join(verbs)}" in done.stderr
    assert steps_run(done.stdout) == {}
