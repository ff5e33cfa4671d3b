"""What is printed survives any terminal, pipe and disk behind standard output."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.project import environment as project_environment
from marwright.cli.streams import readable
from tests.projects import ROOT, SRC, archives, command, edit

pytestmark = pytest.mark.torch

ENCODINGS = ("latin-1", "ascii", "cp1252", "koi8-r", "utf-8")


def run(project: Path, shell: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in a project; `MARWRIGHT` stands for `python -m marwright`."""
    line = shell.replace("MARWRIGHT", " ".join(command()))
    return subprocess.run(
        ["bash", "-c", line],
        cwd=project,
        env=project_environment(project, **environment),
        capture_output=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table_is_readable_in_any_encoding(built_project: Path, encoding: str) -> None:
    done = run(built_project, "MARWRIGHT list", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    table = done.stdout.decode(encoding)
    assert "% of limit" in table
    assert ("≤ " in table) or ("<= " in table)
    assert "\\u" not in table
    assert "…" in table or "... " in table


@pytest.mark.parametrize(
    "environment",
    [
        {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1:strict"},
    ],
)
def test_a_build_is_published_whatever_the_locale(
    project: Path, environment: dict[str, str]
) -> None:
    before = archives(project)
    edit(project, "archive/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    # What the model's author prints goes to a log, which has an encoding too.
    edit(
        project,
        f"{SRC}/archive/proven.py",
        "def pack_proven(",
        'print("≤ 1 \\udcff")\n\n\ndef pack_proven(',
    )
    done = run(project, "MARWRIGHT archive verify --model tiny_a", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert archives(project)["tiny_a.mar"] != before["tiny_a.mar"]


def test_an_error_is_readable_too(built_project: Path) -> None:
    done = run(
        built_project, "MARWRIGHT verify 'no≤such.mar' $'\\xff.mar'", PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 4
    assert b"no<=such.mar" in done.stdout
    assert b"\\xff.mar" in done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("MARWRIGHT list | head -1; exit ${PIPESTATUS[0]}", 0, b""),
        ("MARWRIGHT list | true; exit ${PIPESTATUS[0]}", 0, b""),
        ("MARWRIGHT verify --store . | true; exit ${PIPESTATUS[0]}", 4, b""),
        ("MARWRIGHT list >&-", 0, b""),
        ("MARWRIGHT list <&- >&- 2>&-", 0, b""),
        ("MARWRIGHT list --model nothing 2>&-", 3, b""),
        (
            "MARWRIGHT list > /dev/full",
            12,
            b"marwright: standard output: No space left on device: not all is in it\n",
        ),
        ("MARWRIGHT --help | true; exit ${PIPESTATUS[0]}", 0, b""),
    ],
)  # fmt: skip
def test_an_output_that_nobody_takes_changes_no_end(
    built_project: Path, line: str, code: int, said: bytes
) -> None:
    done = run(built_project, line)
    assert (done.returncode, done.stderr) == (code, said)


def test_a_build_goes_on_when_nobody_reads_any_more(project: Path) -> None:
    before = archives(project)
    edit(project, "archive/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    done = run(project, "MARWRIGHT archive --model tiny_a | head -1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert archives(project)["tiny_a.mar"] != before["tiny_a.mar"]


def test_every_sign_that_we_print_has_one_in_ascii() -> None:
    """Found in the texts of all rooms that print; pages in HTML are always UTF-8."""
    signs: dict[str, str] = {}
    for room in ("pipeline", "archive", "recipe", "train"):
        for path in (ROOT / "src/marwright" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    signs |= {char: str(path) for char in node.value if not char.isascii()}
    assert signs
    for char, path in signs.items():
        text, _ = readable(UnicodeEncodeError("ascii", char, 0, 1, ""))
        assert not text.startswith("\\"), f"{path}: {char!r} has no sign in ASCII"


def test_streams_are_lines_on_a_terminal_and_whole_elsewhere() -> None:
    script = (
        "import sys; from marwright.cli import streams; streams.settle(); "
        "print('a', flush=True); print('ü', file=sys.stderr); sys.exit(streams.end(3))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, b"a\n", b"\\xfc\n")
