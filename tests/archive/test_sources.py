"""Imports are followed by reading: what is found, what is left out, and what a digest knows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marwright.archive.sources import SourceReader
from marwright.project import ENGINE
from marwright.recipe.errors import PackError
from tests.archive.tiny import ROOT


def project(root: Path, files: dict[str, str]) -> SourceReader:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return SourceReader(root)


def files_of(root: Path, entry: str, files: dict[str, str]) -> set[str]:
    return set(project(root, files).closure([entry]).files)


PACKAGE = {"pkg/__init__.py": "", "pkg/one.py": "", "pkg/sub/__init__.py": "", "pkg/sub/two.py": ""}
INIT, SUB = {"pkg/__init__.py"}, {"pkg/__init__.py", "pkg/sub/__init__.py"}
ONE, TWO = INIT | {"pkg/one.py"}, SUB | {"pkg/sub/two.py"}


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import pkg", INIT),
        ("import pkg.one", ONE),
        ("import pkg.one as short", ONE),
        ("import os, pkg.sub.two", TWO),
        ("from pkg import one", ONE),
        ("from pkg import one as short, sub", ONE | SUB),
        ("from pkg.sub import two", TWO),
        ("from pkg.sub.two import something", TWO),
        ("from pkg import something", INIT),
        ("from pkg.sub.two import *", TWO),
        ("def f():\n    import pkg.sub.two", TWO),
        ("class C:\n    def f(self):\n        from pkg.sub import two", TWO),
        ("try:\n    import pkg.one\nexcept ImportError:\n    import pkg.sub.two", ONE | TWO),
        ("try:\n    import pkg.one\nfinally:\n    import pkg.sub.two", ONE | TWO),
        ("try:\n    pass\nexcept ImportError:\n    pass\nelse:\n    import pkg.one", ONE),
        ("try:\n    pass\nexcept ImportError:\n    pass\nfinally:\n    import pkg.one", ONE),
        ("if True:\n    pass\nelse:\n    import pkg.one", ONE),
        ("match 1:\n    case 1:\n        import pkg.one", ONE),
        ("with open('x') as f:\n    import pkg.one", ONE),
        ("'import pkg.one'  # import pkg.sub", set()),
    ],
)  # fmt: skip
def test_absolute_imports_are_followed(tmp_path: Path, statement: str, found: set[str]) -> None:
    assert files_of(tmp_path, "main.py", {"main.py": statement, **PACKAGE}) == {"main.py"} | found


@pytest.mark.parametrize(
    ("path", "statement", "found"),
    [
        ("pkg/main.py", "from . import one", ONE),
        ("pkg/main.py", "from .one import x", ONE),
        ("pkg/main.py", "from .sub import two", TWO),
        ("pkg/main.py", "from .sub.two import x", TWO),
        ("pkg/sub/main.py", "from .. import one", ONE | SUB),
        ("pkg/sub/main.py", "from ..one import x", ONE | SUB),
        ("pkg/sub/__init__.py", "from . import two", TWO),
        ("pkg/sub/__init__.py", "from ..one import x", ONE),
    ],
)  # fmt: skip
def test_relative_imports_are_followed(
    tmp_path: Path, path: str, statement: str, found: set[str]
) -> None:
    assert files_of(tmp_path, path, {**PACKAGE, path: statement}) == {path} | found


@pytest.mark.parametrize("path", ["main.py", "pkg/main.py"])
def test_relative_import_that_leaves_the_project_is_refused(tmp_path: Path, path: str) -> None:
    reader = project(tmp_path, {**PACKAGE, path: "from ...pkg import one"})
    with pytest.raises(PackError, match=rf"{path}: its relative import of pkg leaves the project"):
        reader.closure([path])


def test_the_init_files_above_a_module_run_too_and_so_do_their_imports(tmp_path: Path) -> None:
    files = {"main.py": "import a.b.c", "a/__init__.py": "import d", "a/b/c.py": "", "d.py": ""}
    # a/b has no __init__.py: a namespace package, as Python sees it.
    assert files_of(tmp_path, "main.py", files) == {"main.py", "a/__init__.py", "a/b/c.py", "d.py"}


def test_cycles_end(tmp_path: Path) -> None:
    files = {"a.py": "import b", "b.py": "import c", "c.py": "import a"}
    assert files_of(tmp_path, "a.py", files) == set(files)


@pytest.mark.parametrize("test", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_type_checkers_do_not_count_but_those_that_run_instead_do(
    tmp_path: Path, test: str
) -> None:
    main = (
        f"if {test}:\n    import pkg.one\n    if True:\n        import numpy\n"
        "else:\n    import pkg.sub.two\n"
    )
    reader = project(tmp_path, {"main.py": main, **PACKAGE})
    found = reader.closure(["main.py"])
    assert set(found.files) == {"main.py"} | TWO
    assert found.third_party == ()


def test_type_checking_as_an_elif_branch(tmp_path: Path) -> None:
    main = "if x:\n    import a\nelif TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
    files = {"main.py": main, "a.py": "", "b.py": "", "c.py": ""}
    assert files_of(tmp_path, "main.py", files) == {"main.py", "a.py", "c.py"}


def test_not_type_checking_counts(tmp_path: Path) -> None:
    main = "if not TYPE_CHECKING:\n    import pkg.one\n"
    found = files_of(tmp_path, "main.py", {"main.py": main, **PACKAGE})
    assert found == {"main.py"} | ONE


def test_files_are_sorted_whatever_the_order_of_the_entries(tmp_path: Path) -> None:
    reader = project(tmp_path, {"b.py": "", "a.py": "", "c.py": ""})
    assert list(reader.closure(["c.py", "a.py", "b.py"]).files) == ["a.py", "b.py", "c.py"]


def test_missing_entry_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"handlers/gone\.py: no such file in the project"):
        SourceReader(tmp_path).closure(["handlers/gone.py"])


@pytest.mark.parametrize("text", ["def f(:\n", "x = 1\0\n"])
def test_file_that_is_not_python_is_named(tmp_path: Path, text: str) -> None:
    reader = project(tmp_path, {"main.py": "import broken", "broken.py": text})
    with pytest.raises(PackError, match=r"^broken\.py: not Python: "):
        reader.closure(["main.py"])


def test_reading_runs_nothing(tmp_path: Path) -> None:
    reader = project(tmp_path, {"main.py": "raise SystemExit('was run')"})
    assert set(reader.closure(["main.py"]).files) == {"main.py"}


def digest(root: Path, text: str) -> str:
    return project(root, {"main.py": text}).read("main.py").digest


def test_digest_knows_neither_comments_nor_formatting(tmp_path: Path) -> None:
    plain = digest(tmp_path, "def f(a, b):\n    return [a, b]\n")
    other = "# why\n\ndef f(\n    a, b,\n):\n    return [a,\n        b]  # because\n\n\n"
    assert digest(tmp_path, other) == plain


@pytest.mark.parametrize(
    "text",
    ["def f(a, b):\n    return [b, a]\n", "def f(a, b=1):\n    return [a, b]\n",
     "def g(a, b):\n    return [a, b]\n", "def f(a, b):\n    return (a, b)\n",
     "async def f(a, b):\n    return [a, b]\n", "def f(a, b):\n    return [a, b]\nx = 1\n"],
)  # fmt: skip
def test_digest_knows_the_code(tmp_path: Path, text: str) -> None:
    assert digest(tmp_path, text) != digest(tmp_path, "def f(a, b):\n    return [a, b]\n")


def test_digest_knows_the_type_of_a_number(tmp_path: Path) -> None:
    assert len({digest(tmp_path, f"x = {value}\n") for value in ("1", "1.0", "True", "'1'")}) == 4


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were parsed, in order."""
    from marwright.archive import sources

    done: list[str] = []
    parse = sources._parse

    def noted(file: Path, shown: str) -> Any:
        done.append(shown)
        return parse(file, shown)

    monkeypatch.setattr(sources, "_parse", noted)
    return done


def test_unchanged_files_come_from_the_cache(tmp_path: Path, parsed: list[str]) -> None:
    cache: dict[str, Any] = {}
    project(tmp_path, {"main.py": "import a", "a.py": "import torch"})
    first = SourceReader(tmp_path, cache)
    found = first.closure(["main.py"])
    assert parsed == ["main.py", "a.py"]
    assert first.changed
    second = SourceReader(tmp_path, cache)
    assert second.closure(["main.py"]) == found
    assert parsed == ["main.py", "a.py"]
    assert not second.changed


def test_edit_that_keeps_size_and_mtime_is_seen(tmp_path: Path, parsed: list[str]) -> None:
    cache: dict[str, Any] = {}
    project(tmp_path, {"main.py": "x = 1\n"})
    old = SourceReader(tmp_path, cache).read("main.py")
    file = tmp_path / "main.py"
    stat = file.stat()
    # Another inode, as editors and checkouts make it: the clock of the kernel is too coarse to
    # tell two writes of one test apart.
    (tmp_path / "new.py").write_text("x = 2\n")
    os.utime(tmp_path / "new.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (tmp_path / "new.py").replace(file)
    new = SourceReader(tmp_path, cache).read("main.py")
    assert new.digest != old.digest
    assert parsed == ["main.py", "main.py"]


def test_cache_of_another_parser_does_not_count(
    tmp_path: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache: dict[str, Any] = {}
    project(tmp_path, {"main.py": "x = 1\n"})
    SourceReader(tmp_path, cache).read("main.py")
    monkeypatch.setattr(sys, "hexversion", sys.hexversion + 1)
    SourceReader(tmp_path, cache).read("main.py")
    assert parsed == ["main.py", "main.py"]


def test_damaged_cache_costs_time_only(tmp_path: Path, parsed: list[str]) -> None:
    project(tmp_path, {"main.py": "x = 1\n"})
    reader = SourceReader(tmp_path, {"main.py": {"digest": "0" * 64}})
    assert reader.read("main.py") == SourceReader(tmp_path).read("main.py")
    assert parsed == ["main.py", "main.py"]


def test_what_python_imports_is_found() -> None:
    """The real thing as the judge: the project's own files that a process has imported."""
    code = (
        "import sys; from pathlib import Path\n"
        "import marwright.archive.proven, marwright.archive.verify\n"
        "root = Path(sys.argv[1])\n"
        "for m in list(sys.modules.values()):\n"
        "    f = getattr(m, '__file__', None)\n"
        "    if f and Path(f).is_relative_to(root) and '.venv' not in f:\n"
        "        print(Path(f).relative_to(root).as_posix())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ENGINE)], capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.split())
    entries = ["marwright/archive/proven.py", "marwright/archive/verify.py"]
    assert imported >= {*entries}
    assert imported <= {*SourceReader(ROOT, engine=ENGINE).closure(entries).files}
