"""Requirements files are read for the names in them; files of this machine are refused."""

from __future__ import annotations

from functools import partial

import pytest

from marwright.archive.requirements import Requirements, read_requirements, requirement_notes


def read(data: str | bytes, members: dict[str, bytes] | None = None) -> Requirements:
    text = data if isinstance(data, bytes) else data.encode()
    return read_requirements(text, "r.txt", partial(dict.get, members or {}))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", set()),
        ("# nothing\n\n   \n", set()),
        ("torch\nnumpy==2.1\n", {"torch", "numpy"}),
        ("Pillow>=11  # decodes", {"pillow"}),
        ("scikit_learn\nruamel.yaml\n", {"scikit-learn", "ruamel-yaml"}),
        ("a[b,c]>=1 ; python_version < '3'", {"a"}),
        ("a @ https://example.org/a-1.whl", {"a"}),
        ("git+https://example.org/a.git#egg=Some_Name", {"some-name"}),
        ("a @ git+https://user@example.org/b.git@v1 ; python_version > '3'", {"a"}),
        ("a[x]@https://example.org/a-1.whl", {"a"}),
        ("git+ssh://git@example.org/a.git#subdirectory=b&egg=a", {"a"}),
        ("-e git+https://example.org/x.git#egg=b", {"b"}),
        ("--editable=git+https://example.org/x.git#egg=b", {"b"}),
        ("-f https://example.org/wheels/\na", {"a"}),
        ("--find-links 'https://example.org/wheels'\na", {"a"}),
        ("-c https://example.org/pins.txt\na", {"a"}),
        ("--index-url simple\n--no-binary :all:\na\n", {"a"}),
        ("a==1 \\\n    --hash=sha256:00\nb\n", {"a", "b"}),
        ("\ufeffa\n", {"a"}),
        ("a\r\nb\r\n", {"a", "b"}),
    ],
)
def test_names_are_read(text: str, names: set[str]) -> None:
    found = read(text)
    assert (found.names, found.problems) == (names, [])


@pytest.mark.parametrize(
    "line",
    [
        "-r more.txt", "-rmore.txt", "--requirement more.txt", "--requirement=more.txt",
        "-c pins.txt", "--constraint pins.txt", "-e .", "-e src/pkg", "--editable src/pkg", ".",
        "./pkg", "../pkg", "/opt/pkg", "file:pkg", "file:///opt/pkg.whl", "wheels/a-1.whl",
        "a-1-py3-none-any.whl", "a-1.tar.gz", "a.zip", "numpy @ file:///croot/x.whl",
        "numpy[x]@file:///x.whl", "numpy @ FILE:///x.whl", "numpy @ ./x.whl", "numpy @ x.whl",
        "git+file:///opt/a.git#egg=a", "a @ git+file:///opt/a.git", "-e git+file:///opt/a.git",
        "-e file:///opt/a", "-f ./wheels", "-fwheels", "-f file:///opt/wheels",
        "--find-links=wheels", "--find-links /home/me/wheels", "--no-index -f wheels",
    ],
)  # fmt: skip
def test_line_that_names_a_file_is_refused(line: str) -> None:
    assert read(f"torch\n\n{line}  # ours\n").problems == [
        f"r.txt:3: {line!r} names a file that the server does not have"
    ]


@pytest.mark.parametrize(
    ("line", "member", "names"),
    [
        ("./wheels/own_pkg-1-py3-none-any.whl", "wheels/own_pkg-1-py3-none-any.whl", {"own-pkg"}),
        ("own-1.tar.gz", "own-1.tar.gz", {"own"}),
        ("own @ ./x.whl", "x.whl", {"own"}),
        ("-r more.txt", "more.txt", {"a", "b"}),
        ("--requirement=sub/more.txt", "sub/more.txt", {"a", "b"}),
        ("-c pins.txt", "pins.txt", set()),
        ("-e ./own", "own", set()),
    ],
)
def test_file_that_is_packed_is_no_problem(line: str, member: str, names: set[str]) -> None:
    found = read(f"{line}\n", {member: b"a\nb==1\n"})
    assert (found.names, found.problems) == (names, [])


def test_files_that_include_each_other_end() -> None:
    found = read("-r a.txt\n", {"a.txt": b"-r b.txt\nx\n", "b.txt": b"-r a.txt\n-r gone.txt\n"})
    assert found.names == {"x"}
    assert found.problems == ["b.txt:2: '-r gone.txt' names a file that the server does not have"]


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("torch\nPyYAML>=6\n", []),
        ("torch[opt]\nnobody-has_this\n", ["torch", "nobody-has_this"]),
        ("git+https://example.org/x.git\n", ["git+https://example.org/x.git"]),
        ("-r https://example.org/r.txt\n", ["-r https://example.org/r.txt"]),
        ("--index-url https://example.org/simple\n-c https://example.org/c.txt\ntorch\n", []),
    ],
)  # fmt: skip
def test_what_it_may_bring_is_known_of_what_is_installed_here(
    text: str, unknown: list[str]
) -> None:
    assert read(text).unknown == unknown


def test_file_that_is_no_text_is_refused() -> None:
    assert read("ä".encode("latin-1")).problems == ["r.txt: not UTF-8: save it as UTF-8"]


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("--index-url https://user:secret@packages.example/simple", "another index"),
        ("-i https://packages.example", "another index"),
        ("--extra-index-url=https://packages.example", "another index"),
        ("--find-links https://packages.example", "another index"),
        ("-f https://packages.example", "another index"),
        ("--trusted-host packages.example", "another index"),
        ("git+https://code.example/a.git", "a repository"),
        ("a @ git+ssh://code.example/a.git", "a repository"),
        ("-e git+https://code.example/a.git#egg=a", "a repository"),
        ("https://files.example/a.whl", "a URL"),
        ("a @ https://files.example/a.whl", "a URL"),
        ("-r https://files.example/more.txt", "a URL"),
    ],
)
def test_line_that_takes_from_elsewhere_is_noted(line: str, note: str) -> None:
    [found] = requirement_notes(f"numpy\n{line}\n".encode(), "r.txt", {}.get)
    assert found.startswith("r.txt:2: ")
    assert note in found
    assert "example" not in found


@pytest.mark.parametrize("line", ["numpy>=2", "a[b]==1.0; python_version > '3'", "# git+https://a"])
def test_common_line_has_no_note(line: str) -> None:
    assert requirement_notes(line.encode(), "r.txt", {}.get) == []


def test_files_that_are_included_belong_to_it() -> None:
    files = {
        "r.txt": b"-r sub/more.txt\n-r gone.txt\n",
        "sub/more.txt": b"--requirement=last.txt\n-r ../r.txt\n--index-url https://a.example\n",
        "sub/last.txt": b"git+https://code.example/a.git\n",
        "other.txt": b"https://files.example/a.whl\n",
    }
    assert requirement_notes(files["r.txt"], "r.txt", files.get) == [
        "sub/more.txt:3: takes packages from another index than the server's own",
        "sub/last.txt:1: is taken from a repository, whose content may change",
    ]
