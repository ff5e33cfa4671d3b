"""The content of a data set's files, as a key sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.pipeline.data_files import DataFiles
from marwright.recipe.errors import DataError


def digest(root: Path, path: str = "data") -> str:
    return DataFiles(root, {}).digest(path)


def test_a_folder_is_its_names_and_contents(tmp_path: Path) -> None:
    file = tmp_path / "data" / "a" / "one.txt"
    file.parent.mkdir(parents=True)
    file.write_text("1")
    seen = {digest(tmp_path)}
    (tmp_path / "data" / ".DS_Store").write_text("hidden")
    assert seen == {digest(tmp_path)}
    file.write_text("2")
    seen.add(digest(tmp_path))
    file.rename(file.with_name("two.txt"))
    seen.add(digest(tmp_path))
    assert len(seen) == 3


def test_what_a_linked_folder_holds_counts(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "set").symlink_to(tmp_path / "elsewhere")
    before = digest(tmp_path)
    (tmp_path / "elsewhere" / "new.txt").write_text("1")
    assert digest(tmp_path) != before


def test_links_that_go_round_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "data" / "inner" / "again").symlink_to(tmp_path / "data")
    with pytest.raises(DataError, match="a link leads to it again"):
        digest(tmp_path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv: no such file or folder"):
        digest(tmp_path, "nothing.csv")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="data/gone: cannot be read"):
        digest(tmp_path)
