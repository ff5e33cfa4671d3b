"""`verify` of files and of a store: what is said of each archive, and how it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from marwright.archive import probing
from marwright.archive.types import INVENTORY, PROOF
from marwright.cli.verify_files import verify_files
from marwright.files import sha256_file
from marwright.recipe.errors import StoreError
from tests.archive.stand_in import put, saying
from tests.archive.tiny import members_of, payload, rewrite
from tests.projects import pipeline

NOTE = "  model-config.yaml: read by the handler only: handler\n"


@pytest.fixture(autouse=True)
def _probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put a program in the probe's place that finds nothing wrong; no torch."""
    (tmp_path / "program").mkdir()
    monkeypatch.setattr(probing, "PROBE", put(tmp_path / "program", saying()))


@pytest.fixture
def mar(tmp_path: Path) -> Path:
    """A proven archive."""
    return payload(tmp_path).pack(tmp_path / "tiny.mar")


@pytest.fixture
def unproven(mar: Path) -> Path:
    return rewrite(mar, mar.with_name("bare.mar"), {PROOF: None, INVENTORY: None})


@pytest.fixture
def damaged(mar: Path) -> Path:
    return rewrite(mar, mar.with_name("damaged.mar"), {"model.pt": b"other"})


Out = pytest.CaptureFixture[str]


def test_proven_archive_is_summed_up_with_its_times(mar: Path, capsys: Out) -> None:
    assert verify_files([mar], as_json=False) == 0
    head, times, sandbox, *rest = capsys.readouterr().out.splitlines(keepends=True)
    assert head == (
        f"{mar}: proven · {len(members_of(mar))} members · 4 golden samples · "
        f"sha256 {sha256_file(mar)}\n"
    )
    assert [word for word in times.split() if word.isalpha() and word != "s,"] == [
        "read", "unpack", "scan", "start", "open", "load", "golden", "s",
    ]  # fmt: skip
    assert sandbox.startswith("  run with ")
    assert rest == [NOTE]


def test_unproven_archive_says_what_was_not_looked_at(unproven: Path, capsys: Out) -> None:
    assert verify_files([unproven], as_json=False) == 0
    head, _, _, *rest = capsys.readouterr().out.splitlines(keepends=True)
    assert head.startswith(f"{unproven}: loads, unproven · ")
    assert rest == ["  not checked: digests: it carries no record of them\n", NOTE]


def test_every_file_is_checked_whatever_is_wrong_with_others(
    mar: Path, damaged: Path, capsys: Out
) -> None:
    gone = mar.with_name("gone.mar")
    assert verify_files([damaged, gone, mar], as_json=False) == 4
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{damaged}: model.pt: changed; its SHA-256 is ")
    assert second == f"{gone}: No such file or directory"
    assert third.startswith(f"{mar}: proven · ")


def test_reports_as_json_say_all_of_it(mar: Path, damaged: Path, capsys: Out) -> None:
    gone = mar.with_name("gone.mar")
    assert verify_files([mar, damaged, gone], as_json=True) == 4
    told: dict[str, Any] = json.loads(capsys.readouterr().out)["archives"]
    assert list(told) == [str(mar), str(damaged), str(gone)]
    healthy = told[str(mar)]
    assert list(healthy.pop("seconds")) == [
        "read", "unpack", "scan", "start", "open", "load", "golden",
    ]  # fmt: skip
    assert isinstance(healthy.pop("sandbox"), list)
    assert healthy == {
        "sha256": sha256_file(mar),
        "size": mar.stat().st_size,
        "members": len(members_of(mar)),
        "golden_samples": 4,
        "handler": "tried",
        "proven": True,
        "problems": [],
        "unchecked": [],
        "notes": [NOTE.strip()],
    }
    (problem,) = told[str(damaged)]["problems"]
    assert problem.startswith(f"{damaged}: model.pt: changed; ")
    assert told[str(gone)] == {"problems": [f"{gone}: No such file or directory"]}


def test_json_of_healthy_files_ends_well(mar: Path, capsys: Out) -> None:
    assert verify_files([mar], as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["archives"][str(mar)]["proven"]


# A store


@pytest.fixture
def store(mar: Path, tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    shutil.copy(mar, tmp_path / "store" / "tiny_image.mar")
    return tmp_path / "store"


def test_store_of_proven_archives_is_healthy(store: Path, capsys: Out) -> None:
    assert verify_files([], store, as_json=False) == 0
    assert capsys.readouterr().out.startswith(f"{store / 'tiny_image.mar'}: proven · ")


def test_unproven_archive_in_a_store_is_refused(store: Path, unproven: Path, capsys: Out) -> None:
    shutil.copy(unproven, store / "stranger.mar")
    (store / "tiny_image.mar").unlink()
    assert verify_files([], store, as_json=False) == 4
    assert capsys.readouterr().out == (
        f"{store / 'stranger.mar'}: carries no proof; build it from a recipe\n"
        f"  `rm {store / 'stranger.mar'}` removes it from the store\n"
    )


def test_unproven_archive_with_problems_is_told_those_only(
    mar: Path, store: Path, capsys: Out
) -> None:
    changes = {PROOF: None, INVENTORY: None, "marwright/runtime/classify_image.py": None}
    rewrite(mar, store / "tiny_image.mar", changes)
    assert verify_files([], store, as_json=False) == 4
    line, _ = capsys.readouterr().out.splitlines()
    assert "marwright/runtime/classify_image.py is not in the archive" in line


@pytest.mark.parametrize("name", ["stranger.mar", "it's one.mar", "$(x).mar"])
def test_refused_archive_in_a_store_comes_with_the_command_that_removes_it(
    name: str, store: Path, unproven: Path, capsys: Out
) -> None:
    (store / "tiny_image.mar").unlink()
    shutil.copy(unproven, store / name)
    assert verify_files([], store, as_json=False) == 4
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("  `rm ")
    command = last.partition("`")[2].rpartition("`")[0]
    subprocess.run(["sh", "-c", command], check=True)
    assert [*store.iterdir()] == []


def test_refused_archive_elsewhere_is_nobodys_to_remove(damaged: Path, capsys: Out) -> None:
    assert verify_files([damaged], as_json=False) == 4
    assert "rm " not in capsys.readouterr().out


def test_what_should_not_be_in_a_store_is_told_first(store: Path, capsys: Out) -> None:
    (store / "notes.txt").write_text("remember")
    shutil.copy(store / "tiny_image.mar", store / "twin.mar")
    assert verify_files([], store, as_json=False) == 4
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert lines[0] == f"{(notes := store / 'notes.txt')}: is no archive: `rm {notes}` removes it"
    assert lines[1].startswith(f"{store / 'twin.mar'}: tiny_image 1.2 is tiny_image.mar already")
    # And each archive is looked at all the same.
    assert [line.partition(" · ")[0] for line in lines[2:]] == [
        f"{store / name}: proven" for name in ("tiny_image.mar", "twin.mar")
    ]


def test_store_as_json_says_what_should_not_be_there(store: Path, capsys: Out) -> None:
    (store / "notes.txt").write_text("remember")
    assert verify_files([], store, as_json=True) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == [
        f"{(notes := store / 'notes.txt')}: is no archive: `rm {notes}` removes it"
    ]
    assert told["archives"][str(store / "tiny_image.mar")]["proven"]


def test_files_beside_a_store_are_one_report(store: Path, unproven: Path, capsys: Out) -> None:
    assert verify_files([unproven], store, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)["archives"]
    assert list(told) == [str(unproven), str(store / "tiny_image.mar")]
    assert not told[str(unproven)]["proven"]


def test_store_that_is_empty_says_so(tmp_path: Path, capsys: Out) -> None:
    store = tmp_path / "store"
    store.mkdir()
    assert verify_files([], store, as_json=False) == 0
    assert capsys.readouterr().out == f"{store}: holds no archives\n"


def test_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gone: no such folder"):
        verify_files([], tmp_path / "gone", as_json=False)


# As a person types it, with the real probe


@pytest.mark.torch
def test_store_of_a_build_is_healthy_until_something_slips_in(project: Path) -> None:
    store = project / "model_store"
    done = pipeline(project, "verify", "--store", "model_store", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["archives"]
    assert list(told) == ["model_store/tiny_a.mar", "model_store/tiny_b.mar"]
    assert all(report["proven"] for report in told.values())

    (store / "tiny_b.mar").unlink()
    bare = {PROOF: None, INVENTORY: None}
    rewrite(store / "tiny_a.mar", store / "stranger.mar", bare)
    done = pipeline(project, "verify", "--store", "model_store")
    assert done.returncode == 4
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert lines[0].startswith("model_store/stranger.mar: tiny_a 1.0 is tiny_a.mar already")
    assert lines[1] == "model_store/stranger.mar: carries no proof; build it from a recipe"
    assert lines[2].startswith("model_store/tiny_a.mar: proven · ")

    done = pipeline(project, "verify", "--store", "no_store")
    assert (done.returncode, done.stderr) == (10, "marwright: no_store: no such folder\n")
