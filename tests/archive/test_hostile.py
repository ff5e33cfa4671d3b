"""Hostile archives: each is refused, for what is wrong with it, before anything of it is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.archive.verify import verify
from marwright.cli.verify_files import verify_files
from marwright.recipe.errors import VerifyError
from tests.archive.container.zips import zip_of
from tests.archive.hostile import ALL, CASES, Hostile

# Only who has run it knows that it was never asked anything.
RUN = "a proof without golden samples"
MARKS = {RUN: [pytest.mark.torch]}


@pytest.mark.parametrize(
    "hostile", [pytest.param(it, id=name, marks=MARKS.get(name, [])) for name, it in CASES.items()]
)
def test_hostile_archive_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hostile: Hostile
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = hostile.write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    report = verify(path, scratch)
    assert report.problems == [hostile.problem]
    assert not report.proven
    # Nothing was unpacked beside it, above it, or left behind.
    assert sorted(tmp_path.rglob("*")) == before
    assert verify_files([path], as_json=False) == VerifyError.exit_code
    assert capsys.readouterr().out == f"{path}: {hostile.problem}\n"


@pytest.mark.torch
def test_the_archive_that_they_are_made_of_is_accepted(tmp_path: Path) -> None:
    path = Hostile(zip_of(*ALL), "").write(tmp_path)
    report = verify(path)
    assert report.problems == []
    assert report.unchecked == [
        "digests: it carries no record of them",
        "model.bin: a payload of a kind that cannot be opened here",
        "requests: none was tried; `--sample FILE` sends one",
        "golden samples: it carries none",
    ]
