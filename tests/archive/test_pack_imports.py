"""What a packed handler imports is packed with it, or named as missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.archive.unproven import HANDLE, MODEL, make, packing, refusal

pytestmark = pytest.mark.usefixtures("here")

# Imports


IMPORTS = [
    # Beside the handler, without a word about where.
    ({"handler.py": "import util", "util.py": ""}, {}, {"util.py"}),
    ({"handler.py": "from pkg.one import x", "pkg/__init__.py": "", "pkg/one.py": ""}, {},
     {"pkg/__init__.py", "pkg/one.py"}),
    ({"handler.py": "import ns.one", "ns/one.py": ""}, {}, {"ns/one.py"}),
    # From another folder.
    ({"handler.py": "import util", "src/util.py": "import more", "src/more.py": ""},
     {"source_root": "src"}, {"util.py", "more.py"}),
    # The file goes to the root, what it imports keeps its place.
    ({"pkg/own.py": "from pkg.util import x", "pkg/__init__.py": "", "pkg/util.py": ""},
     {"handler": "pkg/own.py", "source_root": "."}, {"pkg/__init__.py", "pkg/util.py"}),
    # A model's source has imports too.
    ({"net/model.py": f"import layers\n{MODEL}", "net/layers.py": ""},
     {"model_file": "net/model.py"}, {"layers.py"}),
    ({"net/model.py": f"import layers\n{MODEL}", "net/layers.py": ""},
     {"model_file": "net/model.py", "handler": "base_handler"}, {"layers.py"}),
    # Written to run in a package and outside of one.
    ({"handler.py": "try:\n    from .net import x\nexcept ImportError:\n    from net import x",
      "net.py": ""}, {}, {"net.py"}),
    # What was named is not asked for again, and is followed in its turn.
    ({"handler.py": "import util", "x/util.py": "import more", "more.py": ""},
     {"extra_files": "x/util.py"}, {"more.py"}),
    ({"handler.py": "from pkg import one", "x/pkg/__init__.py": "", "x/pkg/one.py": "import two",
      "x/two.py": ""}, {"extra_files": "x"}, set()),
    ({"handler.py": "import pkg.one", "x/pkg/one.py": ""}, {"extra_trees": "x/pkg"}, set()),
    ({"handler.py": "import util", "util.py": ""}, {"extra_files": "util.py"}, set()),
    # Compiled modules and folders have no source to follow.
    ({"handler.py": "import fast", "x/fast.so": ""}, {"extra_files": "x/fast.so"}, set()),
    ({"handler.py": "import pkg._c", "pkg/__init__.py": "", "pkg/_c.so": ""},
     {"extra_trees": "pkg"}, set()),
    ({"handler.py": "import fast.x", "x/fast/x.so": ""}, {"extra_trees": "x/fast"}, set()),
    # Modules that are not the project's.
    ({"handler.py": "import os, msgspec, yaml"}, {}, set()),
    ({"handler.py": "try:\n    import not_there_at_all\nexcept ImportError:\n    pass"}, {}, set()),
    ({"handler.py": "import not_there_at_all"}, {"provided": ["not-there-at-all"]}, set()),
    ({"handler.py": "import one_gone, two_gone"}, {"provided": "one_gone,two_gone"}, set()),
    ({"handler.py": "import not_there_at_all", "r.txt": "Not.There_at-all[x]>=1 ; a\n"},
     {"requirements_file": "r.txt"}, set()),
]  # fmt: skip


@pytest.mark.parametrize(("files", "options", "imported"), IMPORTS)
def test_imports_are_followed_and_packed_as_a_tree(
    files: dict[str, str], options: dict[str, Any], imported: set[str]
) -> None:
    make({name: text + "\n" + HANDLE if name.endswith(("handler.py", "own.py")) else text
          for name, text in files.items()})  # fmt: skip
    packed = packing(**options)
    assert set(packed.imported) == imported
    assert imported < set(packed.members)


WHERE = (
    "if it is yours, name the folder that it is in with --source-root; if the server has it, "
    "--provided "
)


@pytest.mark.parametrize(
    ("files", "options", "why"),
    [
        ({"handler.py": "import gone"}, {},
         "handler.py:1: imports gone, which is neither in . nor installed here nor in a "
         f"--requirements-file: {WHERE}gone"),
        ({"handler.py": "import util", "src/util.py": "import gone.sub"}, {"source_root": "src"},
         "src/util.py:1: imports gone.sub, which is neither in src nor installed here nor in a "
         f"--requirements-file: {WHERE}gone"),
        ({"handler.py": "import gone", "r.txt": "torch\n"}, {"requirements_file": "r.txt"},
         "handler.py:1: imports gone, which is neither in . nor installed here nor in r.txt: "
         f"{WHERE}gone"),
        ({"handler.py": "import b_gone, a_gone, c_gone"}, {"provided": "b_gone"},
         "handler.py:1: imports a_gone, which is neither in . nor installed here nor in a "
         f"--requirements-file: {WHERE}a_gone\n"
         "handler.py:1: imports c_gone, which is neither in . nor installed here nor in a "
         f"--requirements-file: {WHERE}c_gone"),
        ({"handler.py": "import x.util", "x/util.py": "import gone", "x/__init__.py": ""},
         {"source_root": "."},
         "x/util.py:1: imports gone, which is neither in . nor installed here nor in a "
         f"--requirements-file: {WHERE}gone"),
        ({"handler.py": "import a, b", "b.py": "import gone",
          "a.py": "try:\n    import gone\nexcept ImportError:\n    pass"}, {},
         "b.py:1: imports gone, which is neither in . nor installed here nor in a "
         f"--requirements-file: {WHERE}gone"),
        ({"handler.py": "import util", "x/util.py": "import more", "x/more.py": ""},
         {"extra_files": "x/util.py"},
         "x/util.py:1: imports more, which is neither in . nor installed here nor in a "
         f"--requirements-file: {WHERE}more"),
        ({"net/model.py": f"import gone\n{MODEL}"}, {"model_file": "net/model.py"},
         "net/model.py:1: imports gone, which is neither in net nor installed here nor in a "
         f"--requirements-file: {WHERE}gone"),
        ({"handler.py": "import pkg.gone", "pkg/__init__.py": ""}, {},
         "handler.py:1: needs pkg.gone, and there is no such module in .; name what is compiled or "
         "made by a build with --extra-trees"),
        ({"handler.py": "import pkg._c", "pkg/__init__.py": "", "pkg/_c.so": ""}, {},
         "handler.py:1: needs pkg._c, and there is no such module in .; name what is compiled or "
         "made by a build with --extra-trees"),
        ({"pkg/own.py": "from .gone import x", "pkg/__init__.py": ""}, {"handler": "pkg.own"},
         "pkg/own.py:1: needs pkg.gone, and there is no such module in .; name what is compiled or "
         "made by a build with --extra-trees"),
        ({"handler.py": "import util", "util.py": "def f(:"}, {}, "util.py: not Python: "),
        ({"handler.py": "import util", "x/util.py": "def f(:"}, {"extra_files": "x/util.py"},
         "x/util.py: not Python: "),
        ({"handler.py": "import util", "x/util.py": "from . import y"},
         {"extra_files": "x/util.py"},
         "x/util.py: its relative import of . leaves the project"),
    ],
)  # fmt: skip
def test_import_that_would_fail_is_named(
    files: dict[str, str], options: dict[str, Any], why: str
) -> None:
    make({name: text + "\n" + HANDLE if name.endswith(("handler.py", "own.py")) else text
          for name, text in files.items()})  # fmt: skip
    assert refusal(**options).startswith(why)
    assert not Path("tiny.mar").exists()


def test_our_runtime_is_packed_with_a_handler_and_nothing_else_of_ours() -> None:
    make({"handler.py": f"from marwright.runtime.request import BadRequest\n{HANDLE}"})
    assert {name for name in packing().members if name.startswith("marwright/")} == {
        "marwright/__init__.py", "marwright/runtime/__init__.py", "marwright/runtime/request.py",
    }  # fmt: skip
    make({"own.py": f"def f():\n    import marwright.recipe.load\n{HANDLE}"})
    said = "own.py:2: imports marwright.recipe.load, and of marwright only marwright.runtime ships"
    assert refusal(handler="own.py", force=True).startswith(said)


def test_a_project_s_own_package_of_our_name_is_its_own() -> None:
    make({"handler.py": f"import marwright.mine\n{HANDLE}", "marwright/__init__.py": "A = 1",
          "marwright/mine.py": ""})  # fmt: skip
    found = {name for name in packing().members if name.startswith("marwright/")}
    assert found == {"marwright/__init__.py", "marwright/mine.py"}


def test_module_that_only_this_shell_finds_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make({"src/handler.py": f"import beside\nimport shown\nimport marwright.nowhere\n{HANDLE}"})
    make({"beside.py": "", "../shown/shown.py": ""})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shown"))
    monkeypatch.syspath_prepend(tmp_path / "shown")
    monkeypatch.syspath_prepend(tmp_path / "here")
    lines = refusal(handler="src/handler.py").splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "src/handler.py:1: imports beside",
        "src/handler.py:2: imports shown",
        "src/handler.py:3: needs marwright.nowhere",
    ]
