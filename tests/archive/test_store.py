"""The store: closed to what is not proven, and looked through for what slipped in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.container.writer import Content
from marwright.archive.manifest import ManifestModel
from marwright.archive.store import Refused, list_store, publish, read_model, removal
from marwright.archive.types import INVENTORY, MANIFEST, MODEL_CONFIG
from marwright.archive.write import FORMATS, SUFFIXES, ArchiveFormat, write_archive, write_members
from marwright.files import replacing
from marwright.recipe.errors import StoreError, VerifyError
from tests.archive.tiny import edited_manifest, members_of, rewrite, verified
from tests.servers import write_mar

OLD = b"the archive that is being served"


@pytest.fixture
def mar(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(bytes(3 << 20))
    return write_members(tmp_path / "tiny.mar", {"model.pt": tmp_path / "weights"})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    store.mkdir()
    (store / "tiny.mar").write_bytes(OLD)
    return store / "tiny.mar"


# What is let in


def refused(mar: Path, target: Path, **report: Any) -> str:
    with pytest.raises(StoreError) as refusal:
        publish(mar, verified(mar, **report), target)
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]
    return str(refusal.value)


def test_proven_archive_takes_the_old_ones_place(mar: Path, target: Path) -> None:
    assert publish(mar, verified(mar), target) == target
    assert target.read_bytes() == mar.read_bytes()
    assert list(target.parent.iterdir()) == [target]


def test_store_is_made_when_it_is_not_there(mar: Path, tmp_path: Path) -> None:
    publish(mar, verified(mar), tmp_path / "new" / "store" / "tiny.mar")
    assert (tmp_path / "new" / "store" / "tiny.mar").read_bytes() == mar.read_bytes()


def test_archive_with_problems_is_refused_with_the_first(mar: Path, target: Path) -> None:
    said = refused(mar, target, problems=["model.pt: changed", "more"], proven=False)
    assert said == "tiny.mar: not published: model.pt: changed"
    # Even if the report calls it proven.
    assert "model.pt: changed" in refused(mar, target, problems=["model.pt: changed"])


def test_unproven_archive_is_refused(mar: Path, target: Path) -> None:
    said = refused(mar, target, proven=False)
    assert said == "tiny.mar: not published: it carries no proof; build it from a recipe"
    untried = {"handler": "not tried", "proven": False, "unchecked": ["handler: not tried: why"]}
    said = refused(mar, target, **untried)
    assert said == "tiny.mar: not published: handler: not tried: why"


def test_archive_that_changed_since_it_was_verified_is_refused(mar: Path, target: Path) -> None:
    report = verified(mar)
    with mar.open("r+b") as file:
        file.seek(2 << 20)
        file.write(b"\x01")
    with pytest.raises(StoreError, match="it changed since it was verified"):
        publish(mar, report, target)
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


def test_refusal_leaves_an_empty_store_empty(mar: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreError):
        publish(mar, verified(mar, sha256="0" * 64), tmp_path / "store" / "tiny.mar")
    assert list((tmp_path / "store").iterdir()) == []


# What is there already


@pytest.fixture
def store(packed: Path, tmp_path: Path) -> Path:
    """A store with one archive; to be added to."""
    (tmp_path / "shelf").mkdir()
    shutil.copy(packed, tmp_path / "shelf" / "tiny_image.mar")
    return tmp_path / "shelf"


def served(store: Path) -> list[str]:
    return [one.path.name for one in list_store(store).models]


def said(store: Path) -> dict[str, str]:
    """What is said of all in a store that is not served, by name."""
    listing = list_store(store)
    return {one.path.name: one.why for one in (*listing.refused, *listing.strangers)}


def test_archives_are_listed_by_model_and_nothing_is_wrong_with_them(
    store: Path,
) -> None:
    write_mar(store / "a.mar", name="other")
    assert served(store) == ["a.mar", "tiny_image.mar"]
    assert said(store) == {}


def test_empty_store_has_no_problems(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        assert (served(folder), said(folder)) == ([], {})


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("notes.txt", "is no archive"),
        ("tiny_image.mar.bak", "is no archive"),
        ("tiny_image.mar~", "is no archive"),
        ("tiny_image.mar.part", "is no archive"),
        ("tiny_image.MAR", "is no archive"),
        ("tiny_image.tar.gz", "is no archive"),
        ("tiny_image.war", "is no archive"),
        (".mar", "is no archive"),
        (".hidden.mar", "is no archive"),
        ("._tiny_image.mar", "is no archive"),
        (".tiny_image.mar.0123456789abcdef.tmp", "what a killed writer left"),
        ("x.model", "is no archive, and `torchserve --models all` may load it as one"),
    ],
)
def test_files_that_are_no_archives_are_named_and_not_served(
    packed: Path, store: Path, name: str, what: str
) -> None:
    shutil.copy(packed, store / name)
    assert served(store) == ["tiny_image.mar"]
    assert said(store) == {name: what}


def test_what_a_living_writer_has_not_finished_is_nobodys_concern(store: Path) -> None:
    with replacing(store / "other.mar") as file:
        file.write(b"half")
        file.flush()
        assert len([*store.iterdir()]) == 2
        assert (served(store), said(store)) == (["tiny_image.mar"], {})


def test_folders_links_and_pipes_are_named_and_not_followed(store: Path) -> None:
    (store / "folder.mar").mkdir()
    (store / "link.mar").symlink_to(store / "tiny_image.mar")
    (store / "nowhere.mar").symlink_to("gone")
    os.mkfifo(store / "pipe.mar")
    assert served(store) == ["tiny_image.mar"]
    assert said(store) == dict.fromkeys(
        ("folder.mar", "link.mar", "nowhere.mar", "pipe.mar"),
        "a store holds files only",
    )


@pytest.mark.parametrize("other", ["a_first.mar", "twin.mar", "tiny_image.copy.mar"])
def test_the_archive_that_is_called_after_its_model_is_the_one(
    packed: Path, store: Path, other: str
) -> None:
    shutil.copy(packed, store / other)
    assert served(store) == ["tiny_image.mar"]
    assert said(store) == {
        other: "tiny_image 1.2 is tiny_image.mar already: two of one name and version stop the "
        "whole server"
    }


def test_of_two_archives_neither_of_which_is_called_after_the_model_none_is_served(
    store: Path,
) -> None:
    for name in ("b.mar", "c.mar"):
        write_mar(store / name, name="other")
    assert served(store) == ["tiny_image.mar"]
    assert [name for name, why in said(store).items() if "other 1.0 is" in why] == [
        "b.mar",
        "c.mar",
    ]


def test_the_published_version_comes_first_whatever_another_file_is_called(
    store: Path,
) -> None:
    # TorchServe answers with the first one where no version is asked for.
    write_mar(store / "a_new_one.mar", name="tiny_image", version="9.0")
    assert served(store) == ["tiny_image.mar", "a_new_one.mar"]


def test_an_archive_that_torchserve_cannot_be_told_of_is_named(store: Path) -> None:
    write_mar(store / "a,b.mar", name="other")
    assert served(store) == ["tiny_image.mar"]
    assert "comma" in said(store)["a,b.mar"]


def test_archive_that_cannot_be_read_is_not_served_and_left_to_verify(store: Path) -> None:
    (store / "broken.mar").write_bytes(b"no zip")
    half = (store / "tiny_image.mar").read_bytes()
    (store / "half.mar").write_bytes(half[: len(half) // 2])
    (store / "empty.mar").touch()
    listing = list_store(store)
    assert served(store) == ["tiny_image.mar"]
    assert [one.path.name for one in listing.refused if one.unread] == [
        "broken.mar",
        "empty.mar",
        "half.mar",
    ]
    assert len(listing.archives) == 4


NASTY = ["a b.mar", "it's.mar", 'a"$HOME`id`.mar', "new\nline.mar", "\x1b[2J.mar", "-rf", "é.mar",
         "\udcff'\\.mar", "*", "a;b&c.mar", "\t'.mar"]  # fmt: skip


@pytest.mark.parametrize("name", NASTY, ids=ascii)
def test_the_command_that_removes_something_removes_it_and_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept").touch()
    for path in (tmp_path / name, Path(name)):
        for make in (Path.touch, Path.mkdir):
            make(path)
            command = removal(path)
            assert command.isprintable()
            subprocess.run(["bash", "-c", command], check=True)
            assert [*tmp_path.iterdir()] == [tmp_path / "kept"]


@pytest.mark.parametrize("name", NASTY, ids=ascii)
def test_what_is_said_of_a_file_is_a_line(name: str) -> None:
    assert str(Refused(path=Path(name), why="is no archive")).isprintable()


# What an archive's manifest says


@pytest.mark.parametrize("format", FORMATS)
def test_model_is_read_from_every_kind_of_archive(
    packed: Path, tmp_path: Path, format: ArchiveFormat
) -> None:
    target = tmp_path / f"tiny{SUFFIXES[format]}"
    members: dict[str, Content] = {**members_of(packed)}
    del members[INVENTORY]
    write_archive(target, members, proven=True, format=format)
    assert read_model(target) == ManifestModel(
        model_name="tiny_image",
        model_version="1.2",
        handler="marwright.runtime.classify_image:handle",
        serialized_file="model.pt",
        config_file="model-config.yaml",
    )


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not a zip file: it is too short to be one"),
        (b"no zip" * 10, "not a zip file, or cut off: there is no end record"),
        (b"\x1f\x8b no gzip", r"not a \.tar\.gz, or damaged"),
    ],
)
def test_what_is_no_archive_has_no_model(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "bad.mar").write_bytes(content)
    with pytest.raises(VerifyError, match=cause):
        read_model(tmp_path / "bad.mar")


def test_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match=r"gone\.mar: No such file"):
        read_model(tmp_path / "gone.mar")


@pytest.mark.parametrize(
    ("members", "cause"),
    [
        ({"model.pt": b""}, "missing; this is not a model archive"),
        ({MANIFEST: b"{}"}, "missing required field `model`"),
        ({MANIFEST: b" " * ((1 << 20) + 1)}, "is 1048577 bytes long; that is no text"),
    ],
)
def test_archive_whose_manifest_cannot_be_read_has_no_model(
    tmp_path: Path, members: dict[str, Content], cause: str
) -> None:
    with pytest.raises(VerifyError) as refusal:
        read_model(write_members(tmp_path / "bad.mar", members))
    assert str(refusal.value).startswith(f"{MANIFEST}: ")
    assert cause in str(refusal.value)


def test_all_that_would_stop_the_server_is_told(packed: Path, tmp_path: Path) -> None:
    changes = {**edited_manifest(packed, serializedFile="gone.pt"), MODEL_CONFIG: b"- a\n"}
    with pytest.raises(VerifyError) as refusal:
        read_model(rewrite(packed, tmp_path / "tiny.mar", changes))
    assert [line.split(":")[0] for line in str(refusal.value).splitlines()] == [
        MANIFEST, MODEL_CONFIG,
    ]  # fmt: skip


def test_digests_are_left_to_verify(packed: Path, tmp_path: Path) -> None:
    changed = rewrite(packed, tmp_path / "tiny.mar", {"model.pt": b"other"})
    assert read_model(changed).model_name == "tiny_image"
