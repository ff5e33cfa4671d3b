"""What is named is taken under the name that it will have, and nothing else without a word."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.gather import Members, split_commas
from marwright.recipe.errors import PackError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, as a person does who types relative paths."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def make(*names: str) -> None:
    """Make files that hold their own name."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)


def taken(members: Members) -> dict[str, str]:
    return {name: str(file) for name, file in sorted(members.files.items())}


def refusal(act: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(PackError) as error:
        act(*arguments, **named)
    return str(error.value)


# Files


def test_named_file_goes_to_the_root() -> None:
    make("a/b/model.pt")
    members = Members()
    assert members.add_file(Path("a/b/model.pt"), "--serialized-file") == "model.pt"
    assert taken(members) == {"model.pt": "a/b/model.pt"}


def test_same_file_may_come_twice_by_whatever_path() -> None:
    make("a/model.pt")
    Path("link.pt").symlink_to("a/model.pt")
    members = Members()
    for path in ("a/model.pt", "a/../a/model.pt"):
        members.add_file(Path(path), "--extra-files")
    members.add("model.pt", Path("link.pt"))
    assert taken(members) == {"model.pt": "a/model.pt"}


def test_two_files_of_one_name_are_refused_and_both_are_named() -> None:
    make("a/x.txt", "b/x.txt")
    members = Members()
    members.add_file(Path("a/x.txt"), "--extra-files")
    assert refusal(members.add_file, Path("b/x.txt"), "--extra-files") == (
        "x.txt: a/x.txt and b/x.txt would both be called this: rename one"
    )


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("gone.pt", "no such file"),
        ("folder", "is a folder, not a file"),
        ("dangling", "a link to nowhere/x, which is not there"),
        ("folder/.env", "hidden files are not packed; name a copy of it"),
    ],
)
def test_what_is_no_file_to_pack_is_refused(path: str, why: str) -> None:
    make("folder/.env")
    Path("dangling").symlink_to("nowhere/x")
    assert (
        refusal(Members().add_file, Path(path), "--config-file") == f"--config-file {path}: {why}"
    )


def test_named_link_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("x")
    Path("link.txt").symlink_to(tmp_path / "outside.txt")
    members = Members()
    assert members.add_file(Path("link.txt"), "--extra-files") == "link.txt"
    assert members.files["link.txt"].read_text() == "x"


@pytest.mark.parametrize("name", ["MAR-INF/MANIFEST.json", "mar-inf/x", "WAR-INF/x", "MAR-INF"])
def test_place_of_what_describes_the_archive_is_kept_free(name: str) -> None:
    make(f"tree/{name}")
    assert refusal(Members().add_tree, Path("tree"), "--extra-files", below="").startswith(
        f"tree/{name}: would be called {name}, which is for what describes the archive: "
    )
    members = Members()
    members.add_tree(Path("tree"), "--extra-trees", below="tree")
    assert taken(members) == {f"tree/{name}": f"tree/{name}"}


# `--extra-files`


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.txt", {"a.txt"}),
        ("tree", {"x.txt", "sub/y.txt", "sub/deep/z.txt"}),
        ("tree/", {"x.txt", "sub/y.txt", "sub/deep/z.txt"}),
        ("./tree/sub", {"y.txt", "deep/z.txt"}),
        ("[!x]*.txt", {"a.txt", "b.txt", "odd[1].txt"}),
        ("?.txt", {"a.txt", "b.txt"}),
        ("[ac].txt", {"a.txt"}),
        ("tree/*", {"x.txt", "y.txt", "deep/z.txt"}),
        ("t*/sub/*.txt", {"y.txt"}),
        ("odd[1].txt", {"odd[1].txt"}),
        (".", {"a.txt", "b.txt", "odd[1].txt", "tree/x.txt", "tree/sub/y.txt",
               "tree/sub/deep/z.txt"}),
        ("../here/tree/sub/deep", {"z.txt"}),
    ],
)  # fmt: skip
def test_extra_files_are_files_wildcards_and_folders(text: str, names: set[str]) -> None:
    make("a.txt", "b.txt", "odd[1].txt", "tree/x.txt", "tree/sub/y.txt", "tree/sub/deep/z.txt")
    members = Members()
    members.add_extra(text)
    assert set(members.files) == names
    assert members.left_out == []
    assert all(Path(name).name == file.name for name, file in members.files.items())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("*.json", "*.json: nothing matches"),
        ("gone.json", "gone.json: no such file"),
        ("gone[", "gone[: nothing matches"),
        (".hidden", ".hidden: hidden folders are not packed; name a copy of it"),
        ("dangling.*", "dangling.txt: a link to gone, which is not there"),
    ],
)
def test_extra_files_that_are_not_there_are_named(text: str, why: str) -> None:
    make("a.txt", ".hidden/x.txt")
    Path("dangling.txt").symlink_to("gone")
    assert refusal(Members().add_extra, text) == f"--extra-files {why}"


def test_wildcard_packs_nothing_that_a_folder_would_leave_out() -> None:
    make("lib/a.py", "lib/a.pyc", "lib/__pycache__/a.cpython-311.pyc", "lib/.env")
    members = Members()
    members.add_extra("lib/*")
    assert taken(members) == {"a.py": "lib/a.py"}
    # The shell's `*` does not see hidden files either.
    assert members.left_out == ["lib/__pycache__/", "lib/a.pyc"]


# Trees


def test_tree_keeps_its_name_and_its_folders() -> None:
    make("lib/a.py", "lib/sub/b.json", "x/lib/c.py")
    members = Members()
    members.add_tree(Path("lib"), "--extra-trees", below="lib")
    assert taken(members) == {"lib/a.py": "lib/a.py", "lib/sub/b.json": "lib/sub/b.json"}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("gone", "no such folder"),
        ("file", "is no folder"),
        ("lib/.git", "hidden folders are not packed; name a copy of it"),
    ],
)
def test_what_is_no_tree_is_refused(path: str, why: str) -> None:
    make("file", "lib/.git/config")
    message = refusal(Members().add_tree, Path(path), "--extra-trees", below="x")
    assert message == f"--extra-trees {path}: {why}"


def test_what_a_folder_holds_for_other_tools_is_left_out_and_named() -> None:
    make(
        "lib/a.py", "lib/.env", "lib/.git/config", "lib/.DS_Store", "lib/a.pyc", "lib/a.pyo",
        "lib/__pycache__/a.cpython-311.pyc", "lib/__MACOSX/x", "lib/sub/.env", "lib/sub/b.py",
    )  # fmt: skip
    Path("lib/.link").symlink_to("nowhere")
    members = Members()
    members.add_tree(Path("lib"), "--extra-files", below="")
    assert set(members.files) == {"a.py", "sub/b.py"}
    assert members.left_out == [
        "lib/.DS_Store", "lib/.env", "lib/.git/", "lib/.link", "lib/__MACOSX/",
        "lib/__pycache__/", "lib/a.pyc", "lib/a.pyo", "lib/sub/.env",
    ]  # fmt: skip


@pytest.mark.parametrize("target", ["out/m.mar", "out/folder"])
def test_what_is_about_to_be_replaced_is_not_packed_into_itself(target: str) -> None:
    make("out/m.mar", "out/folder/x", "out/other.mar")
    members = Members(Path(target))
    members.add_tree(Path(), "--extra-files", below="")
    assert set(members.files) == {"out/m.mar", "out/folder/x", "out/other.mar"} - {
        target, f"{target}/x",
    }  # fmt: skip
    assert members.left_out == [f"{target}/" if target == "out/folder" else target]


def test_link_inside_of_the_folder_is_followed() -> None:
    make("lib/a.txt", "lib/sub/b.txt")
    Path("lib/also.txt").symlink_to("sub/b.txt")
    Path("lib/more").symlink_to("sub")
    members = Members()
    members.add_tree(Path("lib"), "--extra-files", below="")
    assert set(members.files) == {"a.txt", "also.txt", "more/b.txt", "sub/b.txt"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("src/mylib-1.2", "mylib-1.2"),
        ("links/mylib", "mylib"),
        ("links/mylib/", "mylib"),
        ("links/more/../mylib", "mylib"),
        ("src/mylib-1.2/.", "mylib-1.2"),
        ("src/mylib-1.2/sub/..", "mylib-1.2"),
    ],
)
def test_extra_tree_keeps_the_name_that_was_typed(text: str, name: str) -> None:
    make("src/mylib-1.2/a.txt", "src/mylib-1.2/sub/b.txt", "links/more/c.txt")
    Path("links/mylib").symlink_to("../src/mylib-1.2")
    members = Members()
    members.add_named_tree(text)
    assert set(members.files) == {f"{name}/a.txt", f"{name}/sub/b.txt"}


def test_extra_tree_that_is_the_working_folder_has_its_name() -> None:
    make("a.txt")
    members = Members()
    members.add_named_tree(".")
    assert taken(members) == {"here/a.txt": "a.txt"}


def test_extra_tree_that_is_no_tree_is_refused() -> None:
    assert refusal(Members().add_named_tree, "gone") == "--extra-trees gone: no such folder"


@pytest.mark.parametrize(
    ("link", "to", "why"),
    [
        ("bad", "gone", "a link to gone, which is not there"),
        ("bad", "bad", "a link to bad, which is not there"),
        ("bad", "../outside.txt", "a link out of the folder, to {top}/outside.txt: name the file "
                                  "itself"),
        ("bad", "../other", "a link out of the folder, to {top}/other: name the file itself"),
        ("sub/bad", "../../outside.txt", "a link out of the folder, to {top}/outside.txt: name "
                                         "the file itself"),
        ("bad", ".env", "a link to {top}/lib/.env, and hidden files are not packed"),
        ("bad", ".", "leads back to {top}/lib, which it is in"),
        ("sub/bad", "..", "leads back to {top}/lib, which it is in"),
        ("sub/bad", "../sub", "leads back to {top}/lib/sub, which it is in"),
    ],
)  # fmt: skip
def test_link_that_leads_nowhere_good_is_refused(here: Path, link: str, to: str, why: str) -> None:
    make("lib/a.txt", "lib/.env", "lib/sub/b.txt", "outside.txt", "other/c.txt")
    (Path("lib") / link).symlink_to(to)
    message = refusal(Members().add_tree, Path("lib"), "--extra-files", below="")
    assert message == f"--extra-files lib/{link}: {why.format(top=here)}"


def test_two_folders_that_link_to_each_other_are_refused(here: Path) -> None:
    make("lib/a/x", "lib/b/y")
    for at, to in (("a/1", "b"), ("a/2", "b"), ("b/1", "a"), ("b/2", "a")):
        (Path("lib") / at).symlink_to(here / "lib" / to)
    message = refusal(Members().add_tree, Path("lib"), "--extra-files", below="")
    assert message == f"--extra-files lib/a/1/1: leads back to {here}/lib/a, which it is in"


def test_pipe_is_refused() -> None:
    make("lib/a.txt")
    os.mkfifo("lib/pipe")
    message = refusal(Members().add_tree, Path("lib"), "--extra-files", below="")
    assert message == "--extra-files lib/pipe: is a FIFO, not a file"


# Lists


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ([], []),
        ([""], []),
        (["a,b", "c"], ["a", "b", "c"]),
        ([" a , b ,,"], ["a", "b"]),
        ("a, b", ["a", "b"]),
        (Path("a/b"), ["a/b"]),
        ([Path("a"), "b"], ["a", "b"]),
    ],
)
def test_lists_are_split_at_commas(values: Any, parts: list[str]) -> None:
    assert split_commas(values) == parts
