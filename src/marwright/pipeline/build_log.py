"""`build.json`: what varies from run to run. No key reads it, and nothing of it is packed."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from typing import Any

from marwright.archive.types import read_json, to_json
from marwright.files import write_bytes
from marwright.pipeline.layout import Layout
from marwright.pipeline.run_step import StepRun


def note_step(layout: Layout, model: str, run: StepRun) -> None:
    """Note where, when and how long a step ran."""
    path = layout.folder(model) / "build.json"
    log = read_build_log(layout, model)
    log["host"] = {"name": platform.node(), "machine": platform.machine()}
    log["git_commit"] = git_commit(layout)
    log.setdefault("steps", {})[run.record.step] = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 2),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "peak_mib": run.peak_kib // 1024,
    }
    write_bytes(path, to_json(log))


def read_build_log(layout: Layout, model: str) -> dict[str, Any]:
    """Return the model's build log; empty before its first build."""
    return read_json(layout.folder(model) / "build.json", dict[str, Any]) or {}


def git_commit(layout: Layout) -> str:
    """Return the checked-out commit, with `+` when files differ from it; empty outside of git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=layout.root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
