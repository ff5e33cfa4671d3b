"""`make bench-archive`: how fast archives are written, and in how much memory."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.payload import write_payload
from bench.project import command, table

TITLE = "Writing archives"
# Sizes in bytes, and how many rounds of all contestants.
_SIZES = {"512 MiB": (512 << 20, 5), "2 GiB": (2 << 30, 3)}
_WITHOUT_FSYNC = """\
import os, runpy, sys
from marwright import files
os.fsync = files.start_writing = lambda descriptor: None
runpy.run_module("marwright", run_name="__main__", alter_sys=True)
"""
_OURS, _OURS_FSYNC = "ours, without fsync", "ours"
_DEFAULT, _STORE = "torch-model-archiver", "torch-model-archiver, zip-store"
_COPY, _COPY_FSYNC = "cp", "cp, then fsync"


@dataclass(slots=True)
class _Runs:
    """What the runs of one contestant took: seconds, and peak memory in bytes."""

    seconds: list[float] = field(default_factory=list)
    memory: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Pack payloads with every contestant, one after another, in several rounds.

    Whole commands are timed, interpreters' starts included. Nothing waits to be written to disk
    when one starts. Holds when the targets of issue 3 do.
    """
    ok, parts = True, []
    for name, (size, rounds) in _SIZES.items():
        payload = write_payload(folder / "model.pt", size)
        runs = _measure(root, folder, payload, rounds)
        checks = _checks(runs)
        ok = ok and all(held for _, held in checks)
        ours = runs[_OURS].median
        rows: list[tuple[object, ...]] = [
            (
                contestant,
                f"{run.median:.2f}",
                f"{min(run.seconds):.2f}–{max(run.seconds):.2f}",
                f"{run.median / ours:.2f}",
                f"{run.memory / (1 << 20):.0f}",
            )
            for contestant, run in runs.items()
        ]
        head = (f"{name}, {rounds} rounds", "median, s", "range, s", "ratio", "peak memory, MiB")
        lines = [f"- {text}: {'met' if held else 'MISSED'}" for text, held in checks]
        cost = runs[_OURS_FSYNC].median - ours
        lines.append(f"- what fsync costs ours: {cost:+.2f} s")
        parts += [table(head, rows), "\n".join(lines)]
    return ok, "\n\n".join(parts)


def _checks(runs: dict[str, _Runs]) -> list[tuple[str, bool]]:
    default, store, ours = (runs[name].median for name in (_DEFAULT, _STORE, _OURS))
    synced, copied = runs[_OURS_FSYNC].median, runs[_COPY_FSYNC].median
    memory = max(runs[_OURS].memory, runs[_OURS_FSYNC].memory) / (1 << 20)
    return [
        (f"{default / ours:.1f} × faster than its default; target 20", default / ours >= 20),
        (f"{store / ours:.1f} × faster than its zip-store; target 2", store / ours >= 2),
        (f"{synced / copied:.2f} × of cp and fsync; target at most 2", synced / copied <= 2),
        (f"peak memory {memory:.0f} MiB; target below 64", memory < 64),
    ]


def _measure(root: Path, folder: Path, payload: Path, rounds: int) -> dict[str, _Runs]:
    words = ("--model-name", "bench", "--version", "1.0", "--handler", "base_handler", "--force",
             "--serialized-file", str(payload), "--export-path", str(folder))  # fmt: skip
    theirs = [str(Path(sys.executable).with_name("torch-model-archiver")), *words]
    pack = command("pack", *words)
    copy = folder / "copy.pt"
    contestants = {
        _DEFAULT: [theirs],
        _STORE: [[*theirs, "--archive-format", "zip-store"]],
        _OURS: [[sys.executable, "-c", _WITHOUT_FSYNC, *pack[3:]]],
        _OURS_FSYNC: [pack],
        _COPY: [["cp", str(payload), str(copy)]],
        _COPY_FSYNC: [["cp", str(payload), str(copy)], ["sync", str(copy)]],
    }
    runs = {name: _Runs() for name in contestants}
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    env = {**os.environ, "TMPDIR": str(temporary)}
    for turn in range(rounds):
        for name, commands in contestants.items():
            for left in (folder / "bench.mar", copy):
                left.unlink(missing_ok=True)
            os.sync()
            seconds, memory = _run(commands, root, env)
            runs[name].seconds.append(seconds)
            runs[name].memory = max(runs[name].memory, memory)
            print(f"  round {turn + 1}: {name}: {seconds:.2f} s", flush=True)
    shutil.rmtree(temporary)
    return runs


def _run(commands: list[list[str]], root: Path, env: dict[str, str]) -> tuple[float, int]:
    """Run commands one after another; returns seconds, and the largest one's memory in bytes."""
    started, memory = time.perf_counter(), 0
    for words in commands:
        child = subprocess.Popen(words, cwd=root, env=env, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"{' '.join(words)} ended with {child.returncode}")
        # Linux counts in KiB.
        memory = max(memory, usage.ru_maxrss << 10)
    return time.perf_counter() - started, memory
