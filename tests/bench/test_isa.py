"""Tests that run as on another processor are seen to do so, and their failures are told."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from bench import isa
from bench.isa import Run, main, other, prepare, processor_flags
from marwright.pipeline.isa import LEVELS, VARIABLE
from tests.projects import ROOT

HERE = processor_flags()


@pytest.fixture(autouse=True)
def own_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give back what `prepare` sets, and write no logs into the checkout."""
    monkeypatch.setenv(VARIABLE, "")
    for name in LEVELS["default"].environment:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(isa, "ROOT", tmp_path)


@pytest.mark.torch
@pytest.mark.parametrize("level", [name for name in LEVELS if LEVELS[name].flags <= HERE])
def test_every_library_that_can_be_asked_is_at_the_level(level: str) -> None:
    assert other(prepare(level, 1)) == ""


@pytest.mark.torch
@pytest.mark.parametrize("variable", LEVELS["default"].environment)
def test_a_library_that_is_not_is_named(variable: str) -> None:
    run = prepare("default", 1)
    kept = {name: value for name, value in run.environment.items() if name != variable}
    # A processor without AVX2 has nothing else to compute with.
    if not LEVELS["avx2"].flags <= HERE:
        pytest.skip("this processor has no more than the default")
    library = {"ATEN": "torch", "ONEDNN": "oneDNN", "MKL": "MKL", "NPY": "numpy"}.get(
        variable.partition("_")[0], "OpenBLAS"
    )
    found = other(Run(level="default", threads=1, log=run.log, environment=kept))
    assert found.startswith(f"FAILED: {library} has ")


def test_flags_are_those_that_linux_tells(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: a processor\nflags\t\t: fpu sse4_2 fma\n\nflags\t\t: fpu\n")
    assert processor_flags(cpuinfo) == {"fpu", "sse4_2", "fma"}
    cpuinfo.write_text("Features\t: asimd\n")
    assert processor_flags(cpuinfo) == frozenset()


def test_a_failing_test_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_it.py").write_text("def test_good(): pass\ndef test_bad(): assert 0\n")
    run = prepare("default", 1)
    outcome = isa.tested(run, ["test_it.py"])
    assert outcome.startswith("FAILED: 1 failed, 1 passed")
    assert "FAILED test_it.py::test_bad" in capsys.readouterr().out
    assert run.log == tmp_path / "build/isa/default-1.log"
    assert "test_bad" in run.log.read_text()


def test_a_level_that_cannot_run_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(isa, "processor_flags", lambda: frozenset(["sse4_2"]))
    assert main(["--isa", "avx2"]) == 1
    said = capsys.readouterr().out
    assert "avx2: not run: this processor lacks avx2, fma" in said
    assert "It cannot vary the kernels of onnxruntime (MLAS)" in said


@pytest.mark.parametrize(
    ("tests", "recipes", "status"),
    [("3 passed", "a: r2 0.5", 0), ("FAILED: 1 failed", "", 1), ("3 passed", "FAILED: a", 1)],
)
def test_one_failure_of_all_runs_counts(
    monkeypatch: pytest.MonkeyPatch, tests: str, recipes: str, status: int
) -> None:
    asked = []

    def other(run: Run) -> str:
        asked.append((run.level, run.threads, os.environ[VARIABLE]))
        return ""

    monkeypatch.setattr(isa, "other", other)
    monkeypatch.setattr(isa, "processor_flags", lambda: frozenset(["sse4_2", "avx2", "fma"]))
    monkeypatch.setattr(isa, "tested", lambda run, _: tests if run.threads == 2 else "3 passed")
    monkeypatch.setattr(isa, "built", lambda run: recipes if run.threads == 2 else "a: r2 0.5")
    assert main([]) == status
    assert asked == [(level, n, level) for level in ("default", "avx2") for n in (1, 2)]


def test_the_numeric_tests_are_where_they_are_looked_for() -> None:
    folders = [word for word in isa._NUMERIC if word.startswith("tests/")]
    assert len(folders) == 5
    for folder in folders:
        assert [*(ROOT / folder).rglob("test_*.py")], folder


@pytest.mark.parametrize("recipe", sorted((isa.ROOT / "archive").glob("*.toml")), ids=str)
def test_every_shipped_recipe_takes_a_number_of_threads(recipe: Path, tmp_path: Path) -> None:
    copy = tmp_path / recipe.name
    copy.write_bytes(recipe.read_bytes())
    isa._set_threads(copy, 2)
    values = tomllib.loads(copy.read_text(encoding="utf-8"))
    assert (values.get("fit") or values["train"])["threads"] == 2
