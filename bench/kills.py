"""SIGKILL at random times of a build: what is published stays whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import msgspec

from bench.project import command, copy_project, run, set_value, table
from marwright.archive.container.open import open_archive
from marwright.archive.contents import read_contents
from marwright.archive.verify import verify
from marwright.files import sha256_file
from marwright.pipeline.build import damaged, locked
from marwright.pipeline.layout import Layout
from marwright.pipeline.plan import STEPS

TITLE = "50 kills"
KILLS = 50
_MODEL = "diabetes"


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Kill forced-stale builds, alone or with their children, and verify what is published.

    After each kill the published archive must be the old one or the new one, by its digest and
    the seed that its proof records, and must verify; re-hashing must find no damage; and in the
    end nothing half done may lie about once an unbroken build has run. A build that ended before
    its kill does not count.
    """
    project = copy_project(root, folder / "project", (_MODEL,))
    for key, value in (("epochs", 5), ("patience", 5), ("minimum_metric", '"any"')):
        set_value(project, _MODEL, key, value)
    run(project, "archive")
    set_value(project, _MODEL, "seed", 1000)
    started = time.monotonic()
    run(project, "archive")
    whole = time.monotonic() - started
    published = project / "model_store" / f"{_MODEL}.mar"
    chance = random.Random(0)
    phases: Counter[str] = Counter()
    which: Counter[str] = Counter()
    broken: list[str] = []
    attempt = 0
    while sum(phases.values()) < KILLS:
        attempt += 1
        set_value(project, _MODEL, "seed", attempt)
        before = sha256_file(published)
        phase = _kill_at(project, chance.uniform(0, whole), whole_group=bool(attempt % 2))
        if phase is None:
            continue
        phases[phase] += 1
        now = "old" if sha256_file(published) == before else "new"
        which[now] += 1
        broken += [f"kill in {phase}: {p}" for p in _problems(project, published, now, attempt)]
        print(f"  kill {sum(phases.values()):2} in {phase:<22} published is {now}", flush=True)
    run(project, "archive")
    run(project, "verify")
    halves = [p for p in project.rglob(".*") if p.name.endswith((".tmp", ".out"))]
    broken += [f"left behind: {path.relative_to(project)}" for path in halves]
    order = ("before the first step", *(step.name for step in STEPS))
    rows: list[tuple[object, ...]] = [(phase, phases[phase]) for phase in order if phases[phase]]
    text = (
        f"{table(('step that was hit', 'kills'), rows)}\n\n"
        f"After {KILLS} kills (every other one of the whole process group) the published archive "
        f"was the old one {which['old']} times, the new one {which['new']} times. Problems found "
        f"by verifying it and by re-hashing every output: {len(broken)}. An unbroken build took "
        f"{whole:.1f} s; one after the last kill succeeded and left nothing half done behind."
    )
    return not broken, "\n".join([text, *broken])


def _problems(project: Path, published: Path, which: str, seed: int) -> list[str]:
    """Return what is wrong after a kill."""
    report = verify(published)
    problems = list(report.problems)
    if which == "new" and _recorded_seed(published) != seed:
        problems.append("the published archive is neither the old nor the new one")
    return problems + damaged(_MODEL, Layout(root=project))


def _kill_at(project: Path, delay: float, *, whole_group: bool) -> str | None:
    """Start a build and kill it after `delay` seconds.

    Returns the step that was running, or None when the build ended before it was killed.
    """
    phase = "before the first step"
    log = project / "build.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command("archive"), cwd=project, stdout=output, start_new_session=True
        ) as build,
    ):
        try:
            build.wait(delay)
            return None
        except subprocess.TimeoutExpired:
            if whole_group:
                os.killpg(build.pid, signal.SIGKILL)
            else:
                build.kill()
    for line in log.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[2:3] == ["starts"]:
            phase = words[1]
    # A step that was running holds the lock until it has ended too.
    with locked(_MODEL, Layout(root=project), lambda _: None):
        return phase


def _recorded_seed(mar: Path) -> int | None:
    with open_archive(mar) as archive:
        proof = read_contents(archive, archive.digests()).proof
    return msgspec.to_builtins(proof.recipe)["fit"]["seed"] if proof else None
