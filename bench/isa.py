"""`make test-isa`: the numeric tests and the recipes, as on other x86-64 processors.

For each instruction set that this processor has, with one thread and with two: the libraries are
seen to compute with it, then the tests run, then every recipe is built from nothing. `ISA=avx2` and
`THREADS=1` name one of them; with `WHOLE=1` all tests run, a real server included.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.kernels import FIXED, kernels
from bench.project import command, copy_project, table
from marwright.pipeline.facts import facts_of
from marwright.pipeline.isa import LEVELS, VARIABLE, level_environment
from marwright.pipeline.layout import Layout

ROOT = Path(__file__).resolve().parents[1]
THREADS = (1, 2)
# What each library says of itself at a level; oneDNN and MKL in words that begin so.
_SAID = {
    "default": {
        "torch": "DEFAULT", "OpenBLAS": "Nehalem", "numpy": "X86_V2", "oneDNN": "Intel SSE4.1",
        "MKL": "Intel(R) Streaming SIMD Extensions 4.2",
    },
    "avx2": {
        "torch": "AVX2", "OpenBLAS": "Haswell", "numpy": "X86_V3", "oneDNN": "Intel AVX2",
        "MKL": "Intel(R) Advanced Vector Extensions 2 ",
    },
    "avx512": {
        "torch": "AVX512", "OpenBLAS": "SkylakeX", "numpy": "X86_V4", "oneDNN": "Intel AVX-512 ",
        "MKL": "Intel(R) Advanced Vector Extensions 512 ",
    },
}  # fmt: skip
_NUMERIC = (
    "-m",
    "(torch or onnx) and not serve",
    "tests/runtime",
    "tests/training",
    "tests/export",
    "tests/parity",
    "tests/archive",
)
_SIDE_BY_SIDE = ("--numprocesses=logical", "--maxprocesses=4", "--dist=worksteal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One level with a number of threads; where its output goes, and its environment."""

    level: str
    threads: int
    log: Path
    environment: Mapping[str, str]


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for; returns 1 when a test failed, or a recipe could not be built."""
    parser = argparse.ArgumentParser(prog="python -m bench.isa", description=__doc__)
    parser.add_argument("--isa", choices=LEVELS, help="one instruction set; without it, all")
    parser.add_argument("--threads", type=int, choices=THREADS, help="without it, 1 and 2")
    parser.add_argument("--whole", action="store_true", help="all tests, not the numeric ones")
    asked = parser.parse_args(words)
    print(f"It cannot vary the kernels of {', '.join(FIXED)}.", flush=True)
    rows: list[tuple[object, ...]] = []
    for level in [asked.isa] if asked.isa else LEVELS:
        if missing := LEVELS[level].flags - processor_flags():
            print(f"{level}: not run: this processor lacks {', '.join(sorted(missing))}")
            # What was asked for by name and cannot run is no success.
            rows += [(level, "", "FAILED: not run", "")] if asked.isa else []
            continue
        for threads in [asked.threads] if asked.threads else THREADS:
            run = prepare(level, threads)
            tests = ("tests",) if asked.whole else _NUMERIC
            outcome = (tested(run, tests), built(run)) if not (off := other(run)) else (off, "")
            rows.append((level, threads, *outcome))
    print(table(("instructions", "threads", "tests", "recipes"), rows))
    return 1 if not rows or any("FAILED" in str(cell) for row in rows for cell in row) else 0


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return what Linux says that the processor can do."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    return frozenset(found[1].split() if found else ())


def prepare(level: str, threads: int) -> Run:
    """Return the environment in which every library is kept to the level and the threads."""
    os.environ[VARIABLE] = level
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    folder = ROOT / "build" / "isa"
    folder.mkdir(parents=True, exist_ok=True)
    return Run(
        level=level,
        threads=threads,
        log=folder / f"{level}-{threads}.log",
        environment={**os.environ, **level_environment(), **dict.fromkeys(names, str(threads))},
    )


def other(run: Run) -> str:
    """Say which libraries compute with something else, "" where none does.

    A run in which one of them does would prove nothing.
    """
    found, expected = kernels(run.environment), _SAID[run.level]
    off = [f"{name} has {found[name]!r}" for name in expected
           if not f"{found[name]} ".startswith(expected[name])]  # fmt: skip
    said = ", ".join(f"{name} {value}" for name, value in found.items())
    print(f"{run.level}, threads {run.threads}: {said}", flush=True)
    return f"FAILED: {'; '.join(off)}" if off else ""


def tested(run: Run, tests: Sequence[str]) -> str:
    """Run tests and return pytest's last line, with FAILED before it where it ended so."""
    with run.log.open("w", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *_SIDE_BY_SIDE, "-q", "-rfE", "--no-header", *tests],
            cwd=ROOT, env=run.environment, stdout=log, stderr=log, check=False,
        )  # fmt: skip
    lines = run.log.read_text(encoding="utf-8").strip().splitlines() or [""]
    last = lines[-1].strip("= ")
    if done.returncode == 0:
        print(f"{run.level}, threads {run.threads}: {last}", flush=True)
        return last
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    print("\n".join([*failed, f"{last}: see {run.log.relative_to(ROOT)}"]), flush=True)
    return f"FAILED: {last}"


def built(run: Run) -> str:
    """Build every recipe from nothing, in a copy, and return metrics and errors of exports."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="marwright-isa-") as name:
        project = copy_project(ROOT, Path(name) / "project")
        for recipe in (project / "archive").glob("*.toml"):
            _set_threads(recipe, run.threads)
        done = subprocess.run(
            command("archive"), cwd=project, env=run.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = _measured(project)
    with run.log.open("a", encoding="utf-8") as log:
        log.write(f"\n{done.stdout}{done.stderr}")
    seconds = time.monotonic() - started
    said = f"{'' if done.returncode == 0 else 'FAILED: '}{'; '.join(found)} ({seconds:.0f} s)"
    print(f"{run.level}, threads {run.threads}: {said}", flush=True)
    return said


def _set_threads(recipe: Path, threads: int) -> None:
    text = recipe.read_text(encoding="utf-8")
    # A recipe that says how many threads it wants keeps them: it is one of these two.
    if "threads =" not in text:
        changed = re.sub(r"^\[(fit|train)\]\n", rf"\g<0>threads = {threads}\n", text, flags=re.M)
        assert changed != text, f"{recipe.name} has neither [fit] nor [train]"
        recipe.write_text(changed, encoding="utf-8")


def _measured(project: Path) -> list[str]:
    """Return for each recipe its metric and what its exports err by, as far as it came."""
    layout = Layout(root=project)
    names = sorted(path.stem for path in layout.recipes.glob("*.toml"))
    facts = {name: facts_of(name, layout) for name in names}
    return [f"{name}: {facts[name].metric}, {facts[name].exports}" for name in names]


if __name__ == "__main__":
    sys.exit(main())
