"""SIGKILL at random times of a build: what is published stays whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec

from archive.files import sha256_file
from archive.reader import read_contents
from archive.verify import verify
from ci.prove.project import command, copy_project, run, set_value, table

TITLE = "50 kills"
KILLS = 50
_MODEL = "diabetes"


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Kill forced-stale builds, alone or with their children, and verify what is published.

    After each kill the published archive must be the old one or the new one, by its digest and
    the seed that its proof records, and must verify; in the end an unbroken build must work.
    """
    project = copy_project(root, folder / "project", (_MODEL,))
    set_value(project, _MODEL, "epochs", 5)
    set_value(project, _MODEL, "patience", 5)
    set_value(project, _MODEL, "minimum_metric", "-10.0")
    started = time.monotonic()
    run(project, "archive")
    whole = time.monotonic() - started
    published = project / "model_store" / f"{_MODEL}.mar"
    chance = random.Random(0)
    phases: Counter[str] = Counter()
    old_or_new: Counter[str] = Counter()
    broken = []
    for kill in range(1, KILLS + 1):
        set_value(project, _MODEL, "seed", kill)
        before = sha256_file(published)
        phase = _kill_at(project, chance.uniform(0, whole), whole_group=bool(kill % 2))
        phases[phase] += 1
        after = sha256_file(published)
        seed = _recorded_seed(published)
        which = "old" if after == before else "new"
        report = verify(published)
        if not report.proven or (which == "new" and seed != kill):
            broken.append(f"kill {kill} in {phase}: {report.problems or f'seed {seed}'}")
        old_or_new[which] += 1
        print(f"  kill {kill:2} in {phase:<22} published is {which}", flush=True)
    run(project, "archive")
    run(project, "verify")
    rows: list[tuple[object, ...]] = [*sorted(phases.items())]
    text = (
        f"{table(('phase that was hit', 'kills'), rows)}\n\n"
        f"After {KILLS} kills (every other one of the whole process group) the published archive "
        f"was the old one {old_or_new['old']} times and the new one {old_or_new['new']} times; it "
        f"verified {KILLS - len(broken)} times of {KILLS}. An unbroken build took {whole:.1f} s, "
        "and one after the last kill succeeded."
    )
    return not broken, "\n".join([text, *broken])


def _kill_at(project: Path, delay: float, *, whole_group: bool) -> str:
    """Start a build, kill it after `delay` seconds, and return the step that was running."""
    phase = ["before the first step"]
    with subprocess.Popen(
        command("archive"), cwd=project, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as build:
        assert build.stdout is not None
        lines = build.stdout

        def follow() -> None:
            for line in lines:
                words = line.split()
                if words[2:3] == ["starts"]:
                    phase[0] = words[1]
                elif words[2:4] and words[3:4] == ["s"]:
                    phase[0] = f"between {words[1]} and next"

        reader = threading.Thread(target=follow)
        reader.start()
        try:
            build.wait(delay)
            phase[0] = "after the last step"
        except subprocess.TimeoutExpired:
            if whole_group:
                os.killpg(build.pid, signal.SIGKILL)
            else:
                build.kill()
        reader.join()
    # Killed alone, its step ends by itself; only then is the state what the next build finds.
    lock = project / "build" / _MODEL / ".lock"
    subprocess.run(["flock", str(lock), "true"], check=True)
    return phase[0]


def _recorded_seed(mar: Path) -> int | None:
    proof = read_contents(mar).proof
    return msgspec.to_builtins(proof.recipe)["fit"]["seed"] if proof else None
