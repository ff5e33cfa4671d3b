"""Cards: what an archive holds, shown without running it, and what tells two of them apart."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from marwright.archive import card as cards
from marwright.archive.card import Card, Member, difference, read_card
from marwright.archive.container.open import open_archive
from marwright.archive.container.types import Container
from marwright.archive.container.writer import Content
from marwright.archive.types import GOLDEN_INDEX, INVENTORY, MANIFEST, MODEL_CONFIG, PROOF, to_json
from marwright.archive.write import FORMATS, SUFFIXES, ArchiveFormat, write_archive
from marwright.files import sha256_file
from marwright.recipe.errors import VerifyError
from tests.archive.tiny import (
    edited,
    edited_json,
    edited_manifest,
    members_of,
    parity_report,
    payload,
    rewrite,
)


def test_card_shows_what_the_archive_holds(packed: Path, tmp_path: Path) -> None:
    made, members = payload(tmp_path), members_of(packed)
    card = read_card(packed)
    assert (card.path, card.sha256) == (str(packed), sha256_file(packed))
    assert card.size == packed.stat().st_size
    assert card.claims_proof
    assert card.manifest == json.loads(members[MANIFEST])
    assert card.config["batchSize"] == made.recipe.serve.batch_size
    assert card.config["handler"] == {"threads": 1, "top_k": 2}
    assert (card.metrics, card.versions) == (made.meta.metrics, made.meta.versions)
    assert card.parity == parity_report().summary()
    assert card.golden_samples == 4
    assert card.members == {
        name: Member(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in members.items()
    }
    assert list(card.members) == sorted(members)
    assert card.problems == []


def test_golden_samples_are_counted(packed: Path, tmp_path: Path) -> None:
    sample = {"request": "a", "content_type": "b", "answer": None}
    changes = edited_json(packed, GOLDEN_INDEX, samples=[sample] * 3)
    assert read_card(rewrite(packed, tmp_path / "a.mar", changes, proven=True)).golden_samples == 3


def test_card_survives_json(packed: Path) -> None:
    card = read_card(packed)
    assert msgspec.json.decode(to_json(card), type=Card) == card


def test_archive_of_another_tool_has_a_card(packed: Path, tmp_path: Path) -> None:
    changes = {**edited_manifest(packed, configFile=None), INVENTORY: None, PROOF: None,
               GOLDEN_INDEX: None}  # fmt: skip
    card = read_card(rewrite(packed, tmp_path / "bare.mar", changes))
    assert not card.claims_proof
    assert (card.config, card.metrics, card.parity, card.versions) == ({}, {}, None, {})
    assert (card.golden_samples, card.problems) == (0, [])


@pytest.mark.parametrize("format", FORMATS)
def test_every_kind_of_archive_has_a_card(
    packed: Path, tmp_path: Path, format: ArchiveFormat
) -> None:
    members: dict[str, Content] = {**members_of(packed)}
    del members[INVENTORY]
    target = tmp_path / f"tiny{SUFFIXES[format]}"
    artifact = write_archive(target, members, proven=True, format=format)
    card = read_card(target)
    assert (card.size, card.problems) == (artifact.size, [])
    assert {name: member.sha256 for name, member in card.members.items()} == artifact.members


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match=r"gone\.mar: No such file"):
        read_card(tmp_path / "gone.mar")


def test_archive_whose_structure_is_wrong_has_no_card(packed: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mar"
    cut.write_bytes(packed.read_bytes()[:-1])
    with pytest.raises(VerifyError) as refusal:
        read_card(cut)
    assert str(refusal.value) == f"{cut}: cut off in the middle of its end record"


@pytest.mark.parametrize("name", [MANIFEST, MODEL_CONFIG, PROOF, INVENTORY, GOLDEN_INDEX])
def test_damaged_member_is_a_problem_and_the_rest_is_shown(
    packed: Path, tmp_path: Path, name: str
) -> None:
    whole, content = packed.read_bytes(), members_of(packed)[name]
    damaged = tmp_path / "damaged.mar"
    damaged.write_bytes(whole.replace(content, b"?" * len(content)))
    card = read_card(damaged)
    assert any(problem.startswith(f"{name}: its CRC-32 is ") for problem in card.problems)
    assert len(card.members) == len(members_of(packed))


@pytest.mark.parametrize("name", [MANIFEST, MODEL_CONFIG, PROOF, INVENTORY, GOLDEN_INDEX])
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", b" " * (1 << 21)],
    ids=["empty", "no text", "a list", "deep", "large"],
)
def test_member_that_says_nothing_is_a_problem_and_the_rest_is_shown(
    packed: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    mar = rewrite(packed, tmp_path / "bad.mar", {name: content}, proven=name != INVENTORY)
    card = read_card(mar)
    assert any(problem.startswith(f"{name}: ") for problem in card.problems)
    assert len(card.members) == len(members_of(packed))
    assert card.claims_proof == (name != INVENTORY)


def configured(packed: Path, folder: Path, config: str) -> Card:
    changes = {MODEL_CONFIG: config.encode()}
    return read_card(rewrite(packed, folder / "configured.mar", changes, proven=True))


def test_configuration_of_any_keys_and_values_can_be_shown(packed: Path, tmp_path: Path) -> None:
    config = (
        'names: {0: cat, 1.5: dog, 2026-01-02: [2026-01-03, null, true], half: "\\ud800"}\n'
        "batchSize: 4\n"
    )
    card = configured(packed, tmp_path, config)
    names = {"0": "cat", "1.5": "dog", "2026-01-02": ["2026-01-03", None, True], "half": "\\ud800"}
    assert card.config == {"names": names, "batchSize": 4}
    assert json.loads(to_json(card))["config"] == card.config


def test_configuration_that_grows_without_end_is_not_shown(packed: Path, tmp_path: Path) -> None:
    levels = "".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]\n" for n in range(1, 20))
    card = configured(packed, tmp_path, f"b0: &b0 [lol]\n{levels}")
    assert card.config == {}
    (problem,) = card.problems
    assert "such files can grow without end" in problem


# What differs


def assert_differ(one: Path, other: Path, expected: list[str]) -> None:
    """Hold what is said of a difference, there and back."""
    assert difference(one, other) == expected
    back = [line.split()[:2] for line in difference(other, one) if not line.startswith(" ")]
    turned = {"missing": "extra", "extra": "missing"}
    there = [line.split()[:2] for line in expected if not line.startswith(" ")]
    assert back == [[turned.get(what, what), name] for what, name in there]


def test_same_members_differ_in_nothing(packed: Path, tmp_path: Path) -> None:
    members: dict[str, Content] = {**members_of(packed)}
    del members[INVENTORY]
    assert difference(packed, packed) == []
    for format in FORMATS:
        target = tmp_path / f"tiny{SUFFIXES[format]}"
        write_archive(target, members, proven=True, format=format)
        assert difference(packed, target) == []


def test_members_are_told_sorted_with_what_happened_to_them(packed: Path, tmp_path: Path) -> None:
    size = len(members_of(packed)["labels.json"])
    changes = {"labels.json": None, "names.json": b"[]", "model.pt": b"other"}
    other = rewrite(packed, tmp_path / "other.mar", changes)
    assert_differ(
        packed,
        other,
        [
            f"missing  labels.json ({size} bytes): only in {packed}",
            "changed  model.pt (2048 → 5 bytes)",
            f"extra    names.json (2 bytes): only in {other}",
        ],
    )


def test_keys_of_json_and_yaml_are_told_with_their_values(packed: Path, tmp_path: Path) -> None:
    changes = {
        **edited(packed, MODEL_CONFIG, "top_k: 2", "top_k: 3"),
        **edited_json(packed, "preprocess.json", height=9),
        **edited_manifest(packed, modelVersion="1.3", configFile=None, modelFile="model.pt"),
    }
    other = rewrite(packed, tmp_path / "other.mar", changes)
    lines = difference(packed, other)
    assert [line for line in lines if line.startswith("  ")] == [
        "           model.configFile: 'model-config.yaml' → gone",
        "           model.modelFile: new, 'model.pt'",
        "           model.modelVersion: '1.2' → '1.3'",
        "           handler.top_k: 2 → 3",
        "           height: 8 → 9",
    ]
    assert [line.split()[1] for line in lines if not line.startswith("  ")] == [
        MANIFEST, MODEL_CONFIG, "preprocess.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c: 1 → 2"]),
        ({"a": {}}, {"a": {"b": 1}}, ["a: {} → gone", "a.b: new, 1"]),
        ({}, {"a": None}, ["a: new, None"]),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a: [1, 2] → [2, 1]"]),
        ({"a\x1b[2J": 1}, {"a\x1b[2J": "\x1b"}, ["'a\\x1b[2J': 1 → '\\x1b'"]),
        ({"\ud800": 1}, {"\ud800": "\ud800"}, ["'\\ud800': 1 → '\\ud800'"]),
        ([1], {"a": 1}, []),
    ],
)
def test_keys_of_any_json_can_be_told(
    packed: Path, tmp_path: Path, one: Any, other: Any, told: list[str]
) -> None:
    first, second = (
        rewrite(packed, tmp_path / f"{number}.mar", {"more.json": json.dumps(value).encode()})
        for number, value in enumerate((one, other))
    )
    (changed, *keys) = difference(first, second)
    assert changed.startswith("changed  more.json (")
    assert [line.strip() for line in keys] == told
    # Every line can be printed.
    assert all(line.isprintable() for line in keys)


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff", b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", b" " * (1 << 21)],
    ids=["no JSON", "no text", "deep", "large"],
)
@pytest.mark.parametrize("name", ["more.json", "more.yaml"])
def test_member_whose_keys_cannot_be_read_is_changed_and_no_more(
    packed: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    one = rewrite(packed, tmp_path / "one.mar", {name: b'{"a": 1}'})
    other = rewrite(packed, tmp_path / "other.mar", {name: content})
    assert_differ(one, other, [f"changed  {name} (8 → {len(content)} bytes)"])


def test_damaged_archive_is_not_compared(packed: Path, tmp_path: Path) -> None:
    recorded = struct.pack("<I", zlib.crc32(members_of(packed)[MODEL_CONFIG]))
    # With the latter, its members are the same.
    for old, new in ((b"batchSize", b"badSize__"), (recorded, bytes(4))):
        damaged = tmp_path / "damaged.mar"
        damaged.write_bytes(packed.read_bytes().replace(old, new))
        for pair in ((packed, damaged), (damaged, packed), (damaged, damaged)):
            with pytest.raises(VerifyError) as refusal:
                difference(*pair)
            assert str(refusal.value).startswith(f"{damaged}: {MODEL_CONFIG}: its CRC-32 is ")


def test_archives_are_opened_once_each(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = dict.fromkeys(("preprocess.json", "labels.json", MODEL_CONFIG), b'{"a": 1}')
    other, opened = rewrite(packed, tmp_path / "other.mar", changes), list[Path]()

    def noting(path: Path) -> Container:
        opened.append(path)
        return open_archive(path)

    monkeypatch.setattr(cards, "open_archive", noting)
    assert len([line for line in difference(packed, other) if "changed" in line]) == 3
    assert opened == [packed, other]


def test_archive_that_cannot_be_read_is_not_compared(packed: Path, tmp_path: Path) -> None:
    for pair in ((packed, tmp_path / "gone.mar"), (tmp_path / "gone.mar", packed)):
        with pytest.raises(VerifyError, match=r"gone\.mar: No such file"):
            difference(*pair)
