"""The store's door: proven, ok, and the very bytes that were verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archive.mar import write_mar
from archive.store import publish
from recipes.errors import StoreError
from tests.archive.tiny import verified

OLD = b"the archive that is being served"


@pytest.fixture
def mar(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(bytes(3 << 20))
    return write_mar(tmp_path / "tiny.mar", {"model.pt": tmp_path / "weights"}).path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    store.mkdir()
    (store / "tiny.mar").write_bytes(OLD)
    return store / "tiny.mar"


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
