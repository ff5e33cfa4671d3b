"""Archives that do not hold what they say: each is refused, with the member and the cause."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from pathlib import Path

import msgspec
import pytest

from marwright.archive.container.open import open_archive
from marwright.archive.contents import Contents, read_contents
from marwright.archive.types import FORMAT, INVENTORY, MANIFEST, MODEL_CONFIG, PROOF
from marwright.archive.write import write_archive, write_members
from tests.archive.tiny import (
    answers_report,
    edited_json,
    edited_manifest,
    members_of,
    parity_report,
    rewrite,
)

HANDLER = "marwright/runtime/classify_image.py"


def read(mar: Path) -> Contents:
    """Read an archive whose container is sound: that is held by the tests of container/."""
    with open_archive(mar) as archive:
        digests = archive.digests()
        assert (archive.problems, digests.problems) == ([], [])
        return read_contents(archive, digests)


def problems(mar: Path) -> list[str]:
    return read(mar).problems


def data_offset(mar: Path, name: str) -> int:
    """Return where a member's bytes begin in the file."""
    with zipfile.ZipFile(mar) as archive:
        start = archive.getinfo(name).header_offset
    header = mar.read_bytes()[start : start + 30]
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return int(start + 30 + name_length + extra_length)


def test_healthy_archive_has_no_problems(packed: Path) -> None:
    contents = read(packed)
    assert contents.problems == []
    assert contents.notes == [f"{MODEL_CONFIG}: read by the handler only: handler"]
    assert contents.manifest is not None
    assert contents.manifest.model.model_name == "tiny_image"
    assert contents.inventory is not None
    assert contents.inventory.proven
    assert contents.proof is not None
    assert contents.proof.recipe["name"] == "tiny_image"


# Members, against the inventory


def test_flipped_byte_is_found_in_every_member(packed: Path, tmp_path: Path) -> None:
    whole = packed.read_bytes()
    members = members_of(packed)
    flipped = tmp_path / "flipped.mar"
    for name, content in members.items():
        if content:
            where = data_offset(packed, name) + len(content) // 2
            flipped.write_bytes(whole[:where] + bytes([whole[where] ^ 1]) + whole[where + 1 :])
            with open_archive(flipped) as archive:
                (found,) = archive.digests().problems
            assert found.startswith(f"{name}: its CRC-32 is ")
    assert {name.rpartition("/")[2] for name in members if not members[name]} == {"__init__.py"}


def test_changed_member_with_a_fitting_checksum_is_found(packed: Path, tmp_path: Path) -> None:
    for name, content in members_of(packed).items():
        if name == INVENTORY:
            continue
        changed = content.replace(b"python", b"python3") if name == MANIFEST else content + b"\n"
        mar = rewrite(packed, tmp_path / "changed.mar", {name: changed})
        digests = [hashlib.sha256(c).hexdigest()[:12] for c in (changed, content)]
        said = f"{name}: changed; its SHA-256 is {digests[0]}…, recorded is {digests[1]}…"
        assert problems(mar) == [said]


def test_dropped_member_is_found(packed: Path, tmp_path: Path) -> None:
    for name in members_of(packed):
        found = problems(rewrite(packed, tmp_path / "dropped.mar", {name: None}))
        if name == INVENTORY:
            assert found == [f"{PROOF}: {INVENTORY} does not say that the archive is proven"]
        else:
            assert found[0] == f"{name}: missing; {INVENTORY} records it"


def test_archive_with_neither_inventory_nor_proof_is_not_proven(
    packed: Path, tmp_path: Path
) -> None:
    contents = read(rewrite(packed, tmp_path / "bare.mar", {INVENTORY: None, PROOF: None}))
    assert contents.problems == []
    assert (contents.inventory, contents.proof) == (None, None)


def test_added_member_is_found(packed: Path, tmp_path: Path) -> None:
    mar = rewrite(packed, tmp_path / "added.mar", {"handlers/extra.py": b"import os\n"})
    assert problems(mar) == [f"handlers/extra.py: extra; {INVENTORY} does not record it"]


def test_renamed_member_is_found_under_both_names(packed: Path, tmp_path: Path) -> None:
    labels = members_of(packed)["labels.json"]
    changes = {"labels.json": None, "names.json": labels}
    assert problems(rewrite(packed, tmp_path / "renamed.mar", changes)) == [
        f"labels.json: missing; {INVENTORY} records it",
        f"names.json: extra; {INVENTORY} does not record it",
    ]


def test_swapped_members_are_both_found(packed: Path, tmp_path: Path) -> None:
    members = members_of(packed)
    one, two = "marwright/runtime/request.py", "marwright/runtime/spec.py"
    mar = rewrite(packed, tmp_path / "swapped.mar", {one: members[two], two: members[one]})
    assert [problem.partition(":")[0] for problem in problems(mar)] == [one, two]


def test_folders_are_no_members(packed: Path, tmp_path: Path) -> None:
    """torch-model-archiver writes entries for folders; there is nothing in them to record."""
    mar = tmp_path / "folders.mar"
    mar.write_bytes(packed.read_bytes())
    with zipfile.ZipFile(mar, "a") as archive:
        archive.mkdir("handlers")
    assert problems(mar) == []


def test_inventory_that_records_another_digest_is_found(packed: Path, tmp_path: Path) -> None:
    recorded = read(packed).inventory
    assert recorded is not None
    changes = edited_json(packed, INVENTORY, members={**recorded.members, "model.pt": "0" * 64})
    (problem,) = problems(rewrite(packed, tmp_path / "inventory.mar", changes))
    assert problem.startswith("model.pt: changed; ")
    assert problem.endswith("recorded is 000000000000…")


def test_inventory_of_an_archive_without_proof_is_held_too(packed: Path, tmp_path: Path) -> None:
    members = {name: content for name, content in members_of(packed).items()
               if name not in (INVENTORY, PROOF)}  # fmt: skip
    unproven = write_archive(tmp_path / "unproven.mar", members, proven=False).path
    contents = read(unproven)
    assert contents.problems == []
    assert contents.inventory is not None
    assert not contents.inventory.proven
    (problem,) = problems(rewrite(unproven, tmp_path / "changed.mar", {"model.pt": b"other"}))
    assert problem.startswith("model.pt: changed; ")


DEEP = b"[" * 10_000 + b"]" * 10_000
NO_JSON = [
    (b"", "truncated"),
    (b"null", "Expected `object`, got `null`"),
    (b"{", "truncated"),
    (b"\xff", "malformed"),
    (b"[1]", "Expected `object`, got `array`"),
]


@pytest.mark.parametrize(
    ("inventory", "cause"),
    [
        *NO_JSON,
        (b'{"format": 2}', "missing required field `proven`"),
        (b'{"format": 2, "proven": 1, "members": {}}', "Expected `bool`, got `int`"),
        (b'{"format": 2, "proven": true, "members": {}, "more": 1}', "unknown field `more`"),
        (b'{"format": 2, "proven": true, "members": {"a": 1}}', "Expected `str`, got `int`"),
        (b'{"format": ' + DEEP, "Expected `int`, got `array`"),
    ],
)
def test_inventory_that_cannot_be_read_is_refused(
    packed: Path, tmp_path: Path, inventory: bytes, cause: str
) -> None:
    found = problems(rewrite(packed, tmp_path / "inventory.mar", {INVENTORY: inventory}))
    assert found[0].startswith(f"{INVENTORY}: ")
    assert cause in found[0]
    # Without it nothing is proven, whatever else is there.
    assert found[1:] == [f"{PROOF}: {INVENTORY} does not say that the archive is proven"]


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1])
def test_inventory_of_another_format_is_refused(packed: Path, tmp_path: Path, number: int) -> None:
    mar = rewrite(packed, tmp_path / "other.mar", edited_json(packed, INVENTORY, format=number))
    assert problems(mar) == [f"{INVENTORY}: format {number}; only {FORMAT} is known here"]


# The proof


@pytest.mark.parametrize(
    ("proof", "cause"),
    [
        *NO_JSON,
        (b'{"recipe": {}}', "missing required field"),
        (b'{"recipe": {"a": ' + DEEP + b"}}", "recursion depth"),
    ],
)
def test_proof_that_cannot_be_read_is_refused(
    packed: Path, tmp_path: Path, proof: bytes, cause: str
) -> None:
    found = problems(rewrite(packed, tmp_path / "proof.mar", {PROOF: proof}, proven=True))
    assert found[0].startswith(f"{PROOF}: ")
    assert cause in found[0]
    assert found[1:] == []


def test_claim_without_a_proof_is_refused(packed: Path, tmp_path: Path) -> None:
    mar = rewrite(packed, tmp_path / "claim.mar", {PROOF: None}, proven=True)
    assert problems(mar) == [f"{PROOF}: missing; {INVENTORY} says that the archive is proven"]


def test_proof_without_a_claim_is_refused(packed: Path, tmp_path: Path) -> None:
    mar = rewrite(packed, tmp_path / "meek.mar", edited_json(packed, INVENTORY, proven=False))
    assert problems(mar) == [f"{PROOF}: {INVENTORY} does not say that the archive is proven"]


SUMMARY = msgspec.to_builtins(parity_report().summary())


@pytest.mark.parametrize(
    ("parity", "cause"),
    [
        ({**SUMMARY, "ok": False}, "the parity gate that it records did not pass"),
        ({}, "Object missing required field `ok` - at `$.parity`"),
        ({"ok": "true"}, "Expected `bool`, got `str` - at `$.parity.ok`"),
        ({"ok": 1}, "Expected `bool`, got `int` - at `$.parity.ok`"),
        ({"ok": True}, "Object missing required field `precision` - at `$.parity`"),
    ],
)
def test_proof_that_records_no_passed_gate_is_refused(
    packed: Path, tmp_path: Path, parity: dict[str, object], cause: str
) -> None:
    changes = edited_json(packed, PROOF, parity=parity)
    mar = rewrite(packed, tmp_path / "proof.mar", changes, proven=True)
    assert problems(mar) == [f"{PROOF}: {cause}"]


WRONG = msgspec.to_builtins(answers_report("sample 3 of the test split: refused"))


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        (WRONG, "the handler's answers that it records were not right"),
        ({**WRONG, "ok": True}, "ok is True; its 10 requests to 1 exports with 1 problems say"),
        ({**WRONG, "problems": [], "ok": True, "requests": 0}, "ok is True; its 0 requests to"),
        ({}, "Object missing required field `ok` - at `$.answers`"),
        (None, "Expected `object`, got `null` - at `$.answers`"),
    ],
)
def test_proof_that_records_no_right_answers_is_refused(
    packed: Path, tmp_path: Path, answers: dict[str, object] | None, cause: str
) -> None:
    changes = edited_json(packed, PROOF, answers=answers)
    (problem,) = problems(rewrite(packed, tmp_path / "proof.mar", changes, proven=True))
    assert problem.startswith(f"{PROOF}: {cause}")


@pytest.mark.parametrize(
    ("key", "value", "proven"), [("modelName", "other", "tiny_image"), ("modelVersion", "9", "1.2")]
)
def test_proof_of_another_model_is_refused(
    packed: Path, tmp_path: Path, key: str, value: str, proven: str
) -> None:
    changes = edited_manifest(packed, **{key: value})
    mar = rewrite(packed, tmp_path / "other.mar", changes, proven=True)
    assert problems(mar) == [f"{MANIFEST}: {key} is {value!r}, {PROOF} says {proven!r}"]


# The manifest, and what it names


def test_archive_without_a_manifest_is_refused(tmp_path: Path) -> None:
    mar = write_members(tmp_path / "bad.mar", {"model.pt": b"weights"})
    assert problems(mar) == [f"{MANIFEST}: missing; this is not a model archive"]


@pytest.mark.parametrize(
    ("manifest", "cause"),
    [*NO_JSON, (b'{"model": {}, "runtime": "python"}', "missing required field")],
)
def test_manifest_that_cannot_be_read_is_the_only_problem(
    tmp_path: Path, manifest: bytes, cause: str
) -> None:
    """In detail, a manifest is held by the tests of manifest.py."""
    contents = read(write_members(tmp_path / "bad.mar", {MANIFEST: manifest}))
    (problem,) = contents.problems
    assert problem.startswith(f"{MANIFEST}: ")
    assert cause in problem
    assert contents.manifest is None


@pytest.mark.parametrize("key", ["serializedFile", "modelFile", "requirementsFile", "configFile"])
@pytest.mark.parametrize("name", ["gone.bin", "../model.pt", "handlers"])
def test_manifest_that_names_a_missing_file_is_refused(
    packed: Path, tmp_path: Path, key: str, name: str
) -> None:
    changes = edited_manifest(packed, **{key: name})
    mar = rewrite(packed, tmp_path / "bad.mar", changes, proven=True)
    assert problems(mar) == [f"{MANIFEST}: {key} is {name!r}, which is not in the archive"]


def test_manifest_may_leave_out_files_and_say_more(packed: Path, tmp_path: Path) -> None:
    changes = edited_manifest(packed, serializedFile=None, configFile=None, somethingNew=1)
    assert problems(rewrite(packed, tmp_path / "ok.mar", changes, proven=True)) == []


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        # A module that the server happens to have, with a function that takes what it is given.
        ("operator:is_", "handler operator:is_: operator.py is not in the archive"),
        ("handlers.gone:handle", "handler handlers.gone:handle: handlers/gone.py is not in the "
         "archive"),
        ("marwright.runtime.classify_image:gone", f"{HANDLER}: has no gone; TorchServe would look "
         "for a class instead, without a word"),
    ],
)  # fmt: skip
def test_handler_that_is_not_there_is_refused(
    packed: Path, tmp_path: Path, handler: str, problem: str
) -> None:
    mar = rewrite(packed, tmp_path / "h.mar", edited_manifest(packed, handler=handler), proven=True)
    assert problems(mar) == [problem]


def test_handler_whose_source_is_damaged_is_refused(packed: Path, tmp_path: Path) -> None:
    (problem,) = problems(
        rewrite(packed, tmp_path / "h.mar", {HANDLER: b"def handle(:\n"}, proven=True)
    )
    assert problem.startswith(f"{HANDLER}: not Python: ")


def test_handler_that_only_the_cpp_backend_runs_is_not_looked_for(
    packed: Path, tmp_path: Path
) -> None:
    changes = edited_json(packed, MANIFEST, runtime="LSP", **_model_of("libhandler:Handler"))
    assert problems(rewrite(packed, tmp_path / "lsp.mar", changes, proven=True)) == []


def _model_of(handler: str) -> dict[str, dict[str, str]]:
    return {"model": {"modelName": "tiny_image", "modelVersion": "1.2", "handler": handler}}


def test_configuration_that_the_server_would_misread_is_refused(
    packed: Path, tmp_path: Path
) -> None:
    changes = {MODEL_CONFIG: b"batchSize: '4'\nbatch_size: 4\n"}
    found = problems(rewrite(packed, tmp_path / "config.mar", changes, proven=True))
    assert [problem[: problem.index(" ", len(MODEL_CONFIG) + 2)] for problem in found] == [
        f"{MODEL_CONFIG}: batchSize:",
        f"{MODEL_CONFIG}: batch_size:",
    ]


def test_keys_of_the_handler_are_told_so_that_they_can_be_printed(
    packed: Path, tmp_path: Path
) -> None:
    config = b'"\\ud800": 1\n"\\e[2J": 1\ntop_k: 5\n'
    contents = read(rewrite(packed, tmp_path / "c.mar", {MODEL_CONFIG: config}, proven=True))
    assert contents.problems == []
    assert contents.notes == [
        f"{MODEL_CONFIG}: read by the handler only: '\\x1b[2J', top_k, '\\ud800'"
    ]


@pytest.mark.parametrize("name", [MANIFEST, MODEL_CONFIG, HANDLER, INVENTORY, PROOF])
def test_member_that_is_too_large_to_be_text_is_refused(
    packed: Path, tmp_path: Path, name: str
) -> None:
    large = {name: members_of(packed)[name] + b"\n" * ((16 if name == INVENTORY else 1) << 20)}
    found = problems(rewrite(packed, tmp_path / "l.mar", large, proven=name != INVENTORY))
    assert f"{name}: is {len(large[name])} bytes long; that is no text" in found
