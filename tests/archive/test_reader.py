"""Archives that are not what they should be: each is refused, with the member and the cause."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from archive.mar import write_mar
from archive.reader import read_contents, unpack
from archive.types import MANIFEST, PROOF
from tests.archive.tiny import edited_json, edited_manifest, members_of, rewrite


def problems(mar: Path) -> list[str]:
    return read_contents(mar).problems


def data_offset(mar: Path, name: str) -> int:
    """Return where a member's bytes begin in the file."""
    with zipfile.ZipFile(mar) as archive:
        start = archive.getinfo(name).header_offset
    header = mar.read_bytes()[start : start + 30]
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return int(start + 30 + name_length + extra_length)


def hostile(target: Path, *entries: zipfile.ZipInfo | str, content: bytes = b"{}") -> Path:
    """Write a zip by hand, with entries that our own writer would refuse."""
    with zipfile.ZipFile(target, "w") as archive:
        for entry in entries:
            archive.writestr(entry, content)
    return target


def test_healthy_archive_has_no_problems(packed: Path) -> None:
    contents = read_contents(packed)
    assert contents.problems == []
    members = members_of(packed)
    assert contents.digests == {n: hashlib.sha256(c).hexdigest() for n, c in members.items()}
    assert contents.manifest["model"]["modelName"] == "tiny_image"
    assert contents.proof is not None
    assert contents.proof.recipe["name"] == "tiny_image"


def test_flipped_byte_is_found_in_every_member(packed: Path, tmp_path: Path) -> None:
    whole = packed.read_bytes()
    members = members_of(packed)
    flipped = tmp_path / "flipped.mar"
    for name, content in members.items():
        if content:
            where = data_offset(packed, name) + len(content) // 2
            flipped.write_bytes(whole[:where] + bytes([whole[where] ^ 1]) + whole[where + 1 :])
            found = problems(flipped)
            assert len(found) == 1, (name, found)
            assert found[0].startswith(f"{name}: Bad CRC-32"), (name, found)
    assert [name for name, content in members.items() if not content] == ["handlers/__init__.py"]


def test_changed_member_with_a_fitting_checksum_is_found(packed: Path, tmp_path: Path) -> None:
    for name, content in members_of(packed).items():
        if name == PROOF:
            continue
        changed = content.replace(b"python", b"PYTHON") if name == MANIFEST else content + b"\n"
        mar = rewrite(packed, tmp_path / "changed.mar", {name: changed})
        digests = [hashlib.sha256(c).hexdigest()[:12] for c in (changed, content)]
        said = f"{name}: changed; its SHA-256 is {digests[0]}…, recorded is {digests[1]}…"
        assert problems(mar) == [said]


def test_dropped_member_is_found(packed: Path, tmp_path: Path) -> None:
    for name in members_of(packed):
        found = problems(rewrite(packed, tmp_path / "dropped.mar", {name: None}))
        if name == PROOF:
            assert found == []
        else:
            assert any(problem.startswith(f"{name}: missing") for problem in found), (name, found)


def test_archive_without_its_proof_is_not_proven(packed: Path, tmp_path: Path) -> None:
    assert read_contents(rewrite(packed, tmp_path / "bare.mar", {PROOF: None})).proof is None


def test_added_member_is_found(packed: Path, tmp_path: Path) -> None:
    mar = rewrite(packed, tmp_path / "added.mar", {"handlers/extra.py": b"import os\n"})
    assert problems(mar) == [f"handlers/extra.py: extra; {PROOF} does not record it"]


def test_renamed_member_is_found_under_both_names(packed: Path, tmp_path: Path) -> None:
    labels = members_of(packed)["labels.json"]
    changes = {"labels.json": None, "names.json": labels}
    assert problems(rewrite(packed, tmp_path / "renamed.mar", changes)) == [
        f"labels.json: missing; {PROOF} records it",
        f"names.json: extra; {PROOF} does not record it",
    ]


def test_swapped_members_are_both_found(packed: Path, tmp_path: Path) -> None:
    members = members_of(packed)
    one, two = "handlers/request.py", "handlers/spec.py"
    mar = rewrite(packed, tmp_path / "swapped.mar", {one: members[two], two: members[one]})
    assert [problem.partition(":")[0] for problem in problems(mar)] == [one, two]


def test_proof_that_records_another_digest_is_found(packed: Path, tmp_path: Path) -> None:
    proof = json.loads(members_of(packed)[PROOF])
    proof["members"]["model.pt"] = "0" * 64
    mar = rewrite(packed, tmp_path / "proof.mar", edited_json(packed, PROOF, **proof))
    (problem,) = problems(mar)
    assert problem.startswith("model.pt: changed; ")
    assert problem.endswith("recorded is 000000000000…")


@pytest.mark.parametrize(
    ("proof", "cause"),
    [
        (b"null", "Expected `object`, got `null`"),
        (b"{", "truncated"),
        (b"\xff", "malformed"),
        (b"[1]", "Expected `object`, got `array`"),
        (b'{"format": 1}', "missing required field"),
    ],
)
def test_proof_that_cannot_be_read_is_refused(
    packed: Path, tmp_path: Path, proof: bytes, cause: str
) -> None:
    (problem,) = problems(rewrite(packed, tmp_path / "proof.mar", {PROOF: proof}))
    assert problem.startswith(f"{PROOF}: ")
    assert cause in problem


def test_proof_of_another_format_is_refused(packed: Path, tmp_path: Path) -> None:
    mar = rewrite(packed, tmp_path / "proof.mar", edited_json(packed, PROOF, format=2))
    assert problems(mar) == [f"{PROOF}: format 2; only 1 is known here"]


def test_proof_that_records_a_failed_gate_is_refused(packed: Path, tmp_path: Path) -> None:
    mar = rewrite(packed, tmp_path / "proof.mar", edited_json(packed, PROOF, parity={"ok": False}))
    assert problems(mar) == [f"{PROOF}: the parity gate that it records did not pass"]


@pytest.mark.parametrize(
    ("key", "value", "proven"), [("modelName", "other", "tiny_image"), ("modelVersion", "9", "1.2")]
)
def test_proof_of_another_model_is_refused(
    packed: Path, tmp_path: Path, key: str, value: str, proven: str
) -> None:
    changes = edited_manifest(packed, **{key: value})
    mar = rewrite(packed, tmp_path / "other.mar", changes, proven=True)
    assert problems(mar) == [f"{MANIFEST}: {key} is {value!r}, {PROOF} says {proven!r}"]


@pytest.mark.parametrize(
    ("manifest", "cause"),
    [
        (b"", "truncated"),
        (b"null", "Expected `object`, got `null`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `model`"),
        (b'{"model": null}', "Expected `object`, got `null` - at `$.model`"),
        (b'{"model": {"modelName": "a", "modelVersion": "1"}}', "missing required field `handler`"),
        (b'{"model": {"modelName": 1, "modelVersion": "1", "handler": "h"}}', "got `int`"),
        (b"\xff\xfe", "malformed"),
    ],
)
def test_manifest_that_would_stop_the_server_is_refused(
    tmp_path: Path, manifest: bytes, cause: str
) -> None:
    mar = write_mar(tmp_path / "bad.mar", {MANIFEST: manifest}).path
    (problem,) = problems(mar)
    assert problem.startswith(f"{MANIFEST}: ")
    assert cause in problem


def test_archive_without_a_manifest_is_refused(tmp_path: Path) -> None:
    mar = write_mar(tmp_path / "bad.mar", {"model.pt": b"weights"}).path
    assert problems(mar) == [f"{MANIFEST}: missing; this is not a model archive"]


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


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_member_that_stands_twice_is_refused(packed: Path, tmp_path: Path) -> None:
    mar = tmp_path / "twice.mar"
    mar.write_bytes(packed.read_bytes())
    with zipfile.ZipFile(mar, "a") as archive:
        archive.writestr("handlers/service.py", "import os\n")
    assert problems(mar) == ["handlers/service.py: stands in the archive twice"]


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("model.pt")
    link.external_attr = 0o120777 << 16
    mar = hostile(tmp_path / "link.mar", MANIFEST, link, content=b"/etc/passwd")
    assert problems(mar)[0] == "model.pt: is a symbolic link"


@pytest.mark.parametrize(
    "name", ["../evil.py", "/evil.py", "a/../../evil.py", "a\\..\\evil.py", "./a", "a//b", "é.py"]
)
def test_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    mar = hostile(tmp_path / "slip.mar", MANIFEST, name)
    assert problems(mar) == [f"{name!r}: not a plain relative name"]


def test_name_with_a_nul_is_not_taken_for_what_stands_before_it(tmp_path: Path) -> None:
    mar = hostile(tmp_path / "nul.mar", MANIFEST, "model.ptXevil")
    mar.write_bytes(mar.read_bytes().replace(b"model.ptXevil", b"model.pt\0evil"))
    assert problems(mar) == ["'model.pt\\x00evil': not a plain relative name"]


@pytest.mark.parametrize(
    ("one", "two", "problem"),
    [
        ("Labels.json", "labels.json", "Labels.json and labels.json differ by case only"),
        ("handlers", "handlers/a.py", "handlers is a file, and the folder of handlers/a.py"),
        ("handlers", "handlers/", "handlers is a file, and the folder of handlers/"),
    ],
)
def test_members_that_take_each_others_place_are_refused(
    tmp_path: Path, one: str, two: str, problem: str
) -> None:
    assert problem in problems(hostile(tmp_path / "both.mar", MANIFEST, one, two))


def test_folders_are_no_members(packed: Path, tmp_path: Path) -> None:
    """torch-model-archiver writes entries for folders; there is nothing in them to check."""
    mar = tmp_path / "folders.mar"
    mar.write_bytes(packed.read_bytes())
    with zipfile.ZipFile(mar, "a") as archive:
        archive.mkdir("handlers")
    assert problems(mar) == []


def deflated(target: Path, content: bytes) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pt", content)
        archive.writestr(MANIFEST, '{"model": {"modelName":"a","modelVersion":"1","handler":"h"}}')
    return target


def test_deflated_archive_can_be_read(tmp_path: Path) -> None:
    contents = read_contents(deflated(tmp_path / "deflated.mar", bytes(100_000)))
    assert contents.problems == []
    assert contents.digests["model.pt"] == hashlib.sha256(bytes(100_000)).hexdigest()


def test_broken_deflate_stream_is_named(tmp_path: Path) -> None:
    mar = deflated(tmp_path / "deflated.mar", os.urandom(1000))
    where = data_offset(mar, "model.pt")
    data = bytearray(mar.read_bytes())
    data[where : where + 20] = b"\xff" * 20
    mar.write_bytes(data)
    (problem,) = problems(mar)
    assert problem.startswith("model.pt: ")


def test_method_that_the_server_cannot_unpack_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lzma.mar", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(MANIFEST, "{}")
    (problem,) = problems(tmp_path / "lzma.mar")
    assert problem == f"{MANIFEST}: compressed in a way that TorchServe cannot read"


def test_encrypted_member_is_refused(packed: Path, tmp_path: Path) -> None:
    mar = hostile(tmp_path / "secret.mar", MANIFEST)
    data = bytearray(mar.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    mar.write_bytes(data)
    (problem,) = problems(mar)
    assert problem.startswith(f"{MANIFEST}: ")
    assert "encrypted" in problem


@pytest.mark.parametrize("kept", [0, 1, 10, 0.1, 0.5, 0.9, -1, -30])
def test_truncated_archive_is_refused(packed: Path, tmp_path: Path, kept: float) -> None:
    whole = packed.read_bytes()
    length = int(len(whole) * kept) if 0 < kept < 1 else int(kept) % len(whole)
    (tmp_path / "short.mar").write_bytes(whole[:length])
    (problem,) = problems(tmp_path / "short.mar")
    assert problem.startswith("short.mar: cannot be read as a zip file: ")


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mar").write_bytes(b"PK\x03\x04 but nothing more" * 100)
    assert problems(tmp_path / "a.mar") == [
        "a.mar: cannot be read as a zip file: File is not a zip file"
    ]
    (tmp_path / "folder.mar").mkdir()
    assert problems(tmp_path / "folder.mar")[0].startswith("folder.mar: cannot be read")
    assert problems(tmp_path / "gone.mar")[0].startswith("gone.mar: cannot be read")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    cut=st.floats(0, 1),
    removed=st.integers(0, 40),
    inserted=st.binary(max_size=8),
    in_directory=st.booleans(),
)
@example(cut=0.0, removed=0, inserted=b"before", in_directory=False)
def test_damage_is_found_or_changes_no_member(
    packed: Path,
    tmp_path_factory: pytest.TempPathFactory,
    cut: float,
    removed: int,
    inserted: bytes,
    in_directory: bool,
) -> None:
    """Whatever happens to the bytes: no exception, and what passes holds the same members."""
    whole = packed.read_bytes()
    start = whole.index(b"PK\x01\x02") if in_directory else 0
    where = start + int(cut * (len(whole) - start))
    mar = tmp_path_factory.getbasetemp() / "damaged.mar"
    mar.write_bytes(whole[:where] + inserted + whole[where + removed :])
    contents = read_contents(mar)
    if not contents.problems:
        assert contents.digests == read_contents(packed).digests


def test_unpack_gives_the_members(packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    unpacked = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in files}
    assert unpacked == members_of(packed)
