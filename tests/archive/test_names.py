"""Member names: what is refused, and that what passes stays in its folder."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marwright.archive.names import collisions, is_plain


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../a", "a/../b", "a/..", ".", "./a", "a/./b", "a//b", "a/", "\\a", "a\\b",
     "C:\\a", "C:a", "a\0b", "a\nb", "\x7f", "é", "a/ü.txt", "ａ", "a.", "a./b", "...", "a ", " /a",
     "a" * 256, "b/" + "a" * 256, "a/" * 512 + "a", "a/" * 128 + "a"],
)  # fmt: skip
def test_names_that_would_not_survive_are_refused(name: str) -> None:
    assert not is_plain(name)


@pytest.mark.parametrize(
    "name",
    ["a", "a/b.txt", "MAR-INF/MANIFEST.json", ".env", "..a", "a b", " a", "a" * 255,
     "a/" * 127 + "a", "/".join(["a" * 200] * 5)],
)  # fmt: skip
def test_ordinary_names_pass(name: str) -> None:
    assert is_plain(name)


@given(st.text(alphabet="ab./\\\0 é", max_size=8))
def test_plain_names_stay_in_their_folder(name: str) -> None:
    if is_plain(name):
        inside = posixpath.normpath(posixpath.join("/folder", name))
        assert inside == f"/folder/{name}"


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["readme", "README"], "README and readme differ by case only"),
        (["a/B.py", "A/b.py"], "A/b.py and a/B.py differ by case only"),
        (["a", "a/b"], "a is a file, and the folder of a/b"),
        (["A", "a/b/c"], "A is a file, and the folder of a/b/c"),
        (["a/b", "a/b/"], "a/b is a file, and the folder of a/b/"),
        (["a", "b", "a"], "a: stands in the archive twice"),
        (["a/", "a/", "a/b"], "a/: stands in the archive twice"),
    ],
)
def test_names_that_take_each_others_place_are_named(names: list[str], problem: str) -> None:
    assert list(collisions(names)) == [problem]
    assert list(collisions(reversed(names))) == [problem]


def test_a_tree_has_no_collisions() -> None:
    assert list(collisions(["a/", "a/b", "a/b2", "a/c/d", "ab", "b"])) == []


def test_every_collision_is_said_once() -> None:
    assert list(collisions(["b", "a", "A", "b", "b/c", "b"])) == [
        "b: stands in the archive twice",
        "b: stands in the archive twice",
        "A and a differ by case only",
        "b is a file, and the folder of b/c",
    ]
