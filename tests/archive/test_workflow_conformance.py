"""The same words to torch-workflow-archiver and to `pack-workflow` make the same workflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from marwright.archive.types import WORKFLOW_MANIFEST
from marwright.archive.verify import verify
from marwright.cli.main import main
from tests.archive.tiny import members_of
from tests.archive.unproven import make
from tests.archive.workflows import FLOW, OWN, SPEC, make_project

ARCHIVER = str(Path(sys.executable).with_name("torch-workflow-archiver"))
# Of the archiver's own, and the time.
NOT_COMPARED = {"createdOn", "archiverVersion"}
OPTIONS = [
    "--workflow-name flow --spec-file flow.yaml --handler flow.py",
    "--workflow-name My.flow-2_x --spec-file specs/flow.yml --handler src/steps.py",
    "--workflow-name flow --spec-file ./flow.yaml --handler ./src/steps.py "
    "--extra-files words.txt,data/table.csv",
    "--workflow-name flow --spec-file flow.yaml --handler flow.py --force",
    "--workflow-name flow --spec-file flow.yaml --handler flow.py -f --extra-files words.txt",
]


def archived(words: str) -> Path:
    """Run torch-workflow-archiver; returns the archive that it makes in theirs/."""
    # It stages in the temporary folder, and removes what has the workflow's name there.
    for folder in ("theirs", "scratch"):
        Path(folder).mkdir()
    done = subprocess.run(
        [ARCHIVER, *words.split(), "--export-path", "theirs"],
        env={"PATH": os.defpath, "TMPDIR": str(Path("scratch").absolute())},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [path] = Path("theirs").iterdir()
    return path


@pytest.mark.parametrize("words", OPTIONS)
def test_archives_hold_the_same_but_for_our_inventory(
    here: Path, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_project()
    make({"src/steps.py": FLOW, "specs/flow.yml": SPEC, "words.txt": "a", "data/table.csv": "1"})
    path = archived(words)
    assert main(["pack-workflow", *words.split(), "--export-path", "ours"]) == 0
    assert capsys.readouterr().out.startswith(f"ours/{path.name}: ")
    theirs, ours = members_of(path), members_of(Path("ours") / path.name)
    assert set(ours) == set(theirs) | OWN
    for name in set(theirs) - {WORKFLOW_MANIFEST}:
        assert ours[name] == theirs[name], name
    manifests = [json.loads(members[WORKFLOW_MANIFEST]) for members in (theirs, ours)]
    assert manifests[0].keys() == manifests[1].keys()
    for manifest in manifests:
        for key in NOT_COMPARED:
            assert isinstance(manifest.pop(key), str)
    assert manifests[0] == manifests[1]


def test_options_are_theirs_and_a_few_of_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    def usage(text: str) -> tuple[set[str], set[str]]:
        """Return all options, and those that must be given."""
        line = text.partition("\n\n")[0]
        optional = "".join(re.findall(r"\[[^]]*\]", line))
        every = {*re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)}
        required = {*re.findall(r"--[a-z-]+", line)} - {*re.findall(r"--[a-z-]+", optional)}
        return every, required

    done = subprocess.run([ARCHIVER, "--help"], capture_output=True, text=True, check=True)
    with pytest.raises(SystemExit):
        main(["pack-workflow", "--help"])
    (theirs, needed), (ours, needed_by_us) = usage(done.stdout), usage(capsys.readouterr().out)
    assert needed == needed_by_us == {"--workflow-name", "--spec-file"}
    assert {"-f", "--force", "--handler", "--extra-files", "--export-path"} <= theirs <= ours
    assert ours - theirs == {
        "--debug", "--project", "--model-store", "--source-root", "--extra-trees", "--provided",
    }  # fmt: skip


@pytest.mark.torch
def test_what_the_archiver_makes_passes_verify(here: Path) -> None:
    make_project()
    report = verify(archived(OPTIONS[0]))
    assert report.problems == []
    assert "digests: it carries no record of them" in report.unchecked
