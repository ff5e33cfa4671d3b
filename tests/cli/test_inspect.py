"""`inspect` and `diff`: an archive's card as a person reads it, and as a program does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.card import read_card
from marwright.archive.types import INVENTORY, MANIFEST, PROOF, to_json
from marwright.cli.inspect import build_of, diff, inspect
from marwright.files import sha256_file, write_bytes
from marwright.pipeline.layout import Layout
from marwright.pipeline.state import Output, Record, write_record
from marwright.recipe.errors import VerifyError
from tests.archive.tiny import (
    edited_json,
    edited_manifest,
    members_of,
    payload,
    rewrite,
)
from tests.projects import ALL, ROOT, pipeline

Out = pytest.CaptureFixture[str]
LOG = {
    "git_commit": "0123abc+",
    "host": {"name": "somewhere", "machine": "x86_64"},
    "steps": {
        "train": {"finished": "2026-01-02T03:04:05+00:00", "seconds": 60.25},
        "archive": {"finished": "2026-01-02T03:05:06+00:00", "seconds": 1.5},
    },
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A project in which nothing was built."""
    (tmp_path / "project").mkdir()
    return Layout(root=tmp_path / "project")


@pytest.fixture
def mar(tmp_path: Path) -> Path:
    return payload(tmp_path).pack(tmp_path / "tiny.mar")


def record_build(layout: Layout, mar: Path) -> None:
    """Let an archive be what was last built as its model."""
    recorded = Record(
        step="archive",
        key="",
        parts={},
        outputs={"build/tiny_image/tiny_image.mar": Output.of(mar)},
        note="",
    )
    layout.record("tiny_image", "archive").parent.mkdir(parents=True)
    write_record(recorded, layout.record("tiny_image", "archive"))
    write_bytes(layout.folder("tiny_image") / "build.json", to_json(LOG))


def facts(printed: str) -> dict[str, str]:
    """Return the first table that was printed, whose first column ends with two spaces."""
    lines = printed.partition("\n\n")[0].splitlines()
    pairs = (line.partition("  ") for line in lines)
    return {name: value.strip() for name, _, value in pairs}


def test_card_of_a_proven_archive_is_shown(mar: Path, layout: Layout, capsys: Out) -> None:
    assert inspect(mar, layout, as_json=False) == 0
    printed = capsys.readouterr().out
    found = facts(printed)
    assert found | {"file": "", "packed by": ""} == {
        "file": "",
        "SHA-256": sha256_file(mar),
        "model": "tiny_image 1.2",
        "packed by": "",
        "handler": "marwright.runtime.classify_image:handle",
        "payload": "model.pt",
        "proof": "claimed; `verify` tests it",
        "accuracy": "0.7500 (baseline 0.2500)",
        "exports agree": "0.25 of the limit, errors ≤ 1.0e-06, at batches 2, 0 flips",
        "golden samples": "4",
        **{f"config {key}": str(value) for key, value in read_card(mar).config.items()},
        "built with torch": "0",
        "built with numpy": "0",
    }
    assert found["file"] == f"{mar}, {mar.stat().st_size / 1024:.1f} KiB"
    assert found["packed by"].startswith("marwright")


def test_every_member_is_shown_with_size_and_digest(mar: Path, layout: Layout, capsys: Out) -> None:
    inspect(mar, layout, as_json=False)
    table = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    assert table[0].split() == ["member", "size", "SHA-256"]
    digests = {name: member.sha256 for name, member in read_card(mar).members.items()}
    assert [(line.split()[0], line.split()[-1]) for line in table[1:]] == [
        (name, f"{digests[name][:12]}…") for name in sorted(members_of(mar))
    ]
    (payload_line,) = (line for line in table if line.startswith("model.pt "))
    assert "2.0 KiB" in payload_line


def test_card_of_an_unproven_archive_with_a_stock_handler(
    mar: Path, layout: Layout, tmp_path: Path, capsys: Out
) -> None:
    stranger = rewrite(
        mar,
        tmp_path / "stranger.mar",
        {**edited_manifest(mar, handler="image_classifier", serializedFile=None, configFile=None),
         PROOF: None, INVENTORY: None},
    )  # fmt: skip
    assert inspect(stranger, layout, as_json=False) == 0
    found = facts(capsys.readouterr().out)
    assert found["handler"] == "image_classifier (TorchServe's own)"
    assert found["payload"] == "none"
    assert found["proof"] == "none: unproven"
    assert not {"exports agree", "accuracy"} & set(found)


def test_what_is_wrong_is_shown_below_and_ends_with_its_code(
    mar: Path, layout: Layout, tmp_path: Path, capsys: Out
) -> None:
    changed = rewrite(mar, tmp_path / "changed.mar", {"model.pt": b"other"})
    assert inspect(changed, layout, as_json=False) == VerifyError.exit_code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("problem: model.pt: changed; its SHA-256 is ")


def test_archive_without_a_manifest_is_shown_too(
    mar: Path, layout: Layout, tmp_path: Path, capsys: Out
) -> None:
    headless = rewrite(mar, tmp_path / "headless.mar", {MANIFEST: None}, proven=True)
    assert inspect(headless, layout, as_json=False) == VerifyError.exit_code
    printed = capsys.readouterr().out
    assert f"problem: {MANIFEST}: missing; this is not a model archive" in printed
    assert "labels.json" in printed


def told(mar: Path, layout: Layout, capsysbinary: pytest.CaptureFixture[bytes]) -> dict[str, Any]:
    assert inspect(mar, layout, as_json=True) == 0
    found: dict[str, Any] = json.loads(capsysbinary.readouterr().out)
    return found


def test_card_as_json_says_all_of_it(
    mar: Path, layout: Layout, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    card = json.loads(to_json(read_card(mar)))
    assert told(mar, layout, capsysbinary) == {**card, "build": {}}


def test_problems_as_json_end_with_their_code(
    mar: Path, layout: Layout, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    changed = rewrite(mar, tmp_path / "changed.mar", {"model.pt": b"other"})
    assert inspect(changed, layout, as_json=True) == VerifyError.exit_code
    (problem,) = json.loads(capsysbinary.readouterr().out)["problems"]
    assert problem.startswith("model.pt: changed; ")


# What the project knows of the archive's build


def test_build_log_of_this_very_archive_is_shown(
    mar: Path, layout: Layout, tmp_path: Path, capsys: Out
) -> None:
    record_build(layout, mar)
    copy = tmp_path / "copy.mar"
    copy.write_bytes(mar.read_bytes())
    assert inspect(copy, layout, as_json=False) == 0
    found = facts(capsys.readouterr().out)
    assert found["built"] == "on somewhere, 2026-01-02T03:05:06+00:00, in 62 s"
    assert found["commit"] == "0123abc+"


def test_build_log_of_another_archive_is_not_shown(
    mar: Path, layout: Layout, tmp_path: Path
) -> None:
    record_build(layout, mar)
    assert build_of(read_card(mar), layout) == LOG
    other = rewrite(mar, tmp_path / "other.mar", {"more.txt": b""}, proven=True)
    assert build_of(read_card(other), layout) == {}
    renamed = edited_manifest(mar, modelName="tiny_table")
    assert build_of(read_card(rewrite(mar, tmp_path / "b.mar", renamed)), layout) == {}
    layout.record("tiny_image", "archive").write_bytes(b"{}")
    assert build_of(read_card(mar), layout) == {}


# What differs


def test_archives_that_hold_the_same_do_not_differ(mar: Path, tmp_path: Path, capsys: Out) -> None:
    again = rewrite(mar, tmp_path / "again.mar", {}, proven=True)
    assert diff(mar, again) == 0
    assert capsys.readouterr().out == "the same members with the same bytes\n"


def test_difference_is_printed_and_ends_with_1(mar: Path, tmp_path: Path, capsys: Out) -> None:
    changes = {**edited_json(mar, "preprocess.json", height=9), "more.txt": b"12"}
    other = rewrite(mar, tmp_path / "other.mar", changes)
    assert diff(mar, other) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"extra    more.txt (2 bytes): only in {other}"
    assert lines[1].startswith("changed  preprocess.json (")
    assert lines[2:] == ["           height: 8 → 9"]


# As a person types it


@pytest.mark.torch
def test_built_archive_is_inspected_and_compared(project: Path) -> None:
    one, other = "model_store/tiny_a.mar", "model_store/tiny_b.mar"
    done = pipeline(project, "inspect", one, "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert (card["path"], card["golden_samples"], card["problems"]) == (one, 4, [])
    assert list(card["build"]["steps"]) == sorted(ALL)
    done = pipeline(project, "diff", one, other)
    assert done.returncode == 1
    assert "           model.modelName: 'tiny_a' → 'tiny_b'" in done.stdout.splitlines()
    assert pipeline(project, "diff", one, one).returncode == 0


@pytest.mark.parametrize("verb", [("inspect", "gone.mar"), ("diff", "gone.mar", "gone.mar")])
def test_archive_that_is_not_there_is_named(verb: tuple[str, ...]) -> None:
    done = pipeline(ROOT, *verb)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "marwright: gone.mar: No such file or directory\n"
