"""The rules that our GitHub workflows keep: `python -m ci.workflows`.

A workflow holds no code of its own. Every `run:` is one make target, so that a person can run what
CI runs; actions are pinned by SHA; and no job may write but the one that publishes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".github" / "workflows"

PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
SCHEMA = ("--builtin-schema", "vendor.github-workflows")
AUDIT = ("--offline", "--no-progress", "--quiet", "--persona", "pedantic")
# What may hold more than `contents: read`, by the target that its job runs.
WRITERS = {"publish": {"contents": "write"}}


def make_targets(makefile: Path) -> frozenset[str]:
    """The targets that a Makefile declares as phony, variables in the list followed."""
    text = makefile.read_text(encoding="utf-8").replace("\\\n", " ")
    variables = dict(re.findall(r"^(\w+) *[:?]?= *(.*)$", text, re.MULTILINE))
    names: set[str] = set()
    for line in re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE):
        names.update(re.sub(r"\$\((\w+)\)", lambda use: variables[use[1]], line).split())
    return frozenset(names)


def own_rules(workflow: Path, targets: frozenset[str]) -> Iterator[str]:
    """What a workflow breaks of the rules that no tool knows, one line each."""
    text = workflow.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    if content.get("permissions") != {}:
        yield "permissions: must be {} for the whole file; a job asks for what it needs"
    for name, job in content["jobs"].items():
        for problem in _job_rules(job, targets):
            yield f"job {name}: {problem}"
    # The version is a comment, which a YAML reader drops.
    for use in re.findall(r"^\s*(?:- )?uses:\s*(.*?)\s*$", text, re.MULTILINE):
        if not PINNED.fullmatch(use):
            yield f"uses: {use}: must be owner/action@<full SHA> # vX.Y.Z"


def _job_rules(job: dict[str, Any], targets: frozenset[str]) -> Iterator[str]:
    allowed: dict[str, str] = {"contents": "read"}
    for step in job.get("steps", []):
        if "run" in step:
            target = step["run"].removeprefix("make ")
            if f"make {target}" != step["run"] or target not in targets:
                yield f"run: {step['run']}: must be `make` and one target of the Makefile"
            allowed |= WRITERS.get(target, {})
        if str(step.get("uses", "")).startswith("actions/checkout@") and (
            step.get("with", {}).get("persist-credentials") is not False
        ):
            yield "actions/checkout needs persist-credentials: false"
    permissions = job.get("permissions")
    if not isinstance(permissions, dict):
        yield "permissions: must be listed"
        return
    for scope, level in permissions.items():
        if level != "none" and level not in ("read", allowed.get(scope)):
            yield f"permissions: {scope}: {level} is more than its targets need"


def tool_findings(workflows: Sequence[Path]) -> Iterator[str]:
    """What the JSON Schema of workflows and zizmor, offline, have against them."""
    tools = {
        "check-jsonschema": [sys.executable, "-m", "check_jsonschema", *SCHEMA],
        # Beside this Python, which may not be on the PATH.
        "zizmor": [str(Path(sys.executable).with_name("zizmor")), *AUDIT],
    }
    for tool, command in tools.items():
        done = subprocess.run(
            [*command, *map(str, workflows)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            yield f"{tool}: {(done.stdout + done.stderr).strip()}"


def problems(workflows: Sequence[Path], makefile: Path) -> list[str]:
    """Everything that is wrong with these workflows; empty when they may land."""
    targets = make_targets(makefile)
    found = [f"{path.name}: {rule}" for path in workflows for rule in own_rules(path, targets)]
    return [*found, *tool_findings(workflows)]


def main() -> int:
    """Prints what is wrong with the repository's workflows. The exit status is 1 if anything is."""
    workflows = sorted([*FOLDER.glob("*.yml"), *FOLDER.glob("*.yaml")])
    found = problems(workflows, ROOT / "Makefile")
    for problem in found:
        sys.stdout.write(f"{problem}\n")
    names = ", ".join(path.name for path in workflows)
    sys.stdout.write(f"workflows: {len(found)} problems in {names}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
