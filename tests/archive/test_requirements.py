"""Requirements files are read for the names in them; files of this machine are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from archive.requirements import read_requirements, requirement_notes
from recipes.errors import PackError


def write(folder: Path, data: str | bytes) -> Path:
    file = folder / "requirements.txt"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return file


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
def test_names_are_read(tmp_path: Path, text: str, names: set[str]) -> None:
    assert read_requirements(write(tmp_path, text)) == names


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
def test_line_that_names_a_file_is_refused(tmp_path: Path, line: str) -> None:
    file = write(tmp_path, f"torch\n\n{line}  # ours\n")
    with pytest.raises(PackError) as error:
        read_requirements(file)
    assert str(error.value) == f"{file}:3: {line!r} names a file that the server does not have"


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "ä".encode("latin-1"))
    with pytest.raises(PackError) as error:
        read_requirements(file)
    assert str(error.value) == f"{file}: not UTF-8: save it as UTF-8"


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
        ("-r more.txt", "a file"),
        ("-e .", "a file"),
        ("./a.whl", "a file"),
        ("a @ ./a.whl", "a file"),
    ],
)
def test_line_that_takes_from_elsewhere_is_noted(line: str, note: str) -> None:
    [found] = requirement_notes(f"numpy\n{line}\n".encode())
    assert found.startswith("2: ")
    assert note in found
    assert "example" not in found


@pytest.mark.parametrize("line", ["numpy>=2", "a[b]==1.0; python_version > '3'", "# git+https://a"])
def test_common_line_has_no_note(line: str) -> None:
    assert requirement_notes(line.encode()) == []
