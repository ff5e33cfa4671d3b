"""`pack` refuses imports that are certain to fail, and notes those that may."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.cli.main import main
from tests.archive.unproven import HANDLE, make

WORDS = ["pack", "--model-name", "tiny", "--version", "1.0", "--handler", "handler.py", "--force"]
GONE = "nobody_has_this"
LIB = 'sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def packed(
    source: str, capsys: pytest.CaptureFixture[str], files: dict[str, str], words: list[str]
) -> tuple[int, str]:
    """Pack a handler; returns the exit code, and what was said of its imports."""
    make({"handler.py": f"{source}\n{HANDLE}", **files})
    Path("tiny.mar").unlink(missing_ok=True)
    code = main([*WORDS, *words])
    out, err = capsys.readouterr()
    assert Path("tiny.mar").exists() == (code == 0)
    said = [line.strip() for line in out.splitlines()[1:-1] if "imported: " not in line]
    return code, err.removeprefix("marwright: ").strip() if code else "\n".join(said)


CERTAIN = {
    "at the top": f"import {GONE}",
    "from": f"from {GONE}.sub import x",
    "star": f"from {GONE} import *",
    "in a class body": f"class A:\n    import {GONE}",
    "in a decorator": f"import importlib\n@importlib.import_module('{GONE}').x\ndef f(): ...",
    "in a default": f"def f(x=__import__('{GONE}')): ...",
    "by its name": f"import importlib\nm = importlib.import_module('{GONE}')",
    "in a try for other errors": f"try:\n    import {GONE}\nexcept ValueError:\n    pass",
    "told and raised again": f"try:\n    import {GONE}\nexcept ImportError:\n    raise OSError",
    "told and ended": f"import sys\n"
    f"try:\n    import {GONE}\nexcept ImportError:\n    sys.exit('no')",
    "the second way": f"try:\n    import {GONE}\nexcept ImportError:\n    import {GONE}_2",
    "the third way": f"try:\n    import {GONE}\nexcept ImportError:\n    try:\n"
    f"        import {GONE}_2\n    except ImportError:\n        import {GONE}_3",
    "after what is there": f"try:\n    import json\nexcept ImportError:\n    pass\nelse:\n"
    f"    import {GONE}",
    "in finally": f"try:\n    import json\nfinally:\n    import {GONE}",
    "behind if True": f"if True:\n    import {GONE}",
    "not for type checkers": f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\n"
    f"else:\n    import {GONE}",
    "if not for type checkers": f"import typing as t\nif not t.TYPE_CHECKING:\n    import {GONE}",
    "unless it is main": f"if __name__ != '__main__':\n    import {GONE}",
    "suppressed for others": f"from contextlib import suppress\nwith suppress(KeyError):\n"
    f"    import {GONE}",
    "with warnings off": f"import warnings\nwith warnings.catch_warnings():\n    import {GONE}",
    "in a namespace": f"import google.{GONE}",
    "from a namespace": f"from google import {GONE}",
}  # fmt: skip


@pytest.mark.parametrize("case", CERTAIN)
def test_import_that_is_certain_to_fail_is_refused(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = packed(CERTAIN[case], capsys, {}, [])
    assert code == 9
    assert said.startswith("handler.py:")
    assert GONE in said


NOTED = {
    "in a function": f"def f():\n    import {GONE}",
    "in a method": f"class A:\n    def f(self):\n        import {GONE}",
    "in an async function": f"async def f():\n    import {GONE}",
    "in a lambda": f"f = lambda: __import__('{GONE}')",
    "in main()": f"def main():\n    import {GONE}\nif __name__ == '__main__':\n    main()",
    "lazily": f"def __getattr__(name):\n    import {GONE}\n    return {GONE}",
    "under a flag": f"USE = False\nif USE:\n    import {GONE}",
    "under a variable": f"import os\nif os.environ.get('X'):\n    import {GONE}",
    "under else of a flag": f"import os\nif os.environ:\n    pass\nelse:\n    import {GONE}",
    "under a flag of find_spec": "from importlib.util import find_spec\n"
    f"HAS = find_spec('{GONE}') is not None\nif HAS:\n    import {GONE}",
    "in a loop": f"for _ in []:\n    import {GONE}",
    "in while": f"while False:\n    import {GONE}",
    "in match": f"match 1:\n    case 2:\n        import {GONE}",
    "in short circuit": f"x = False and __import__('{GONE}')",
    "in an expression under a condition": f"x = __import__('{GONE}') if 0 else 1",
    "in a block of somebody's": f"from contextlib import nullcontext\nwith nullcontext():\n"
    f"    import {GONE}",
    "caught as somebody's error": "from os import error as E\ntry:\n"
    f"    import {GONE}\nexcept (E, MyError):\n    pass",
    "after what may raise": f"try:\n    int('x')\n    import {GONE}\nexcept ValueError:\n    pass",
    "in a handler of another error": f"try:\n    pass\nexcept ValueError:\n    import {GONE}",
    "in a package, in part": f"import json.{GONE}\nimport yaml.{GONE}",
    "after a change of sys.path": f"import sys\nsys.path.append('x')\nimport {GONE}",
    "after a change under another name": f"import sys as s\ns.path[0:0] = ['x']\nimport {GONE}",
    "after from sys import path": f"from sys import path\npath.append('x')\nimport {GONE}",
    "after addsitedir": f"import site\nsite.addsitedir('x')\nimport {GONE}",
    "after a finder": f"import sys\nsys.meta_path.append(None)\nimport {GONE}",
    "after a module was put there": f"import sys\nsys.modules['{GONE}'] = sys\nimport {GONE}",
    "after a module is listed": f"import sys\nsys.modules.update({GONE}=sys)\nimport {GONE}",
    "after a file is loaded": "from importlib.machinery import SourceFileLoader\n"
    f"SourceFileLoader('{GONE}', 'x/y.py').load_module()\nimport {GONE}",
    "after a change by name": f"import sys\ngetattr(sys, 'path').append('x')\nimport {GONE}",
    "after pip is asked": f"import pip\npip.main(['install', 'x'])\nimport {GONE}",
    "after pip": "import subprocess, sys\n"
    f"subprocess.check_call([sys.executable, '-m', 'pip', 'install', 'x'])\nimport {GONE}",
    "after a system call of pip": f"import os\nos.system('pip install x')\nimport {GONE}",
    "relative, in a function": f"def f():\n    from .{GONE} import x",
}  # fmt: skip


@pytest.mark.parametrize("case", NOTED)
def test_import_that_may_fail_is_packed_with_a_note(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = packed(NOTED[case], capsys, {}, [])
    assert (code, said.count(GONE)) == (0, 1), said
    line = 1 + next(n for n, text in enumerate(NOTED[case].splitlines())
                    if "import" in text and GONE in text and "find_spec" not in text
                    and "json" not in text)  # fmt: skip
    assert said.startswith(f"handler.py:{line}: may fail: ")


SILENT = {
    "caught": f"try:\n    import {GONE}\nexcept ImportError:\n    {GONE} = None",
    "caught with all": f"try:\n    import {GONE}\nexcept:\n    pass",
    "caught among others": f"try:\n    import {GONE}\nexcept (KeyError, ImportError):\n    pass",
    "caught by its module": f"import builtins\ntry:\n    import {GONE}\n"
    "except builtins.ModuleNotFoundError:\n    pass",
    "caught in a group": f"try:\n    import {GONE}\nexcept* ImportError:\n    pass",
    "another way": f"try:\n    import {GONE}\nexcept ImportError:\n    import json as x",
    "another way that is not needed": "try:\n    import json\nexcept ImportError:\n"
    f"    import {GONE}",
    "one of three ways": f"try:\n    import {GONE}\nexcept ImportError:\n    try:\n"
    f"        import {GONE}_2\n    except ImportError:\n        import json",
    "after what is not there": f"try:\n    import {GONE}\nexcept ImportError:\n    pass\nelse:\n"
    f"    import {GONE}_2",
    "suppressed": f"import contextlib\nwith contextlib.suppress(ImportError):\n    import {GONE}",
    "for type checkers": f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {GONE}",
    "never": f"if False:\n    import {GONE}\nif 0:\n    import {GONE}",
    "as main": f"if __name__ == '__main__':\n    import {GONE}",
    "for another system": f"import sys\nif sys.platform == 'win32':\n    import {GONE}",
    "for another Python": f"import sys\nif sys.version_info < (3, 8):\n    import {GONE}",
    "found first": "import importlib.util\n"
    f"if importlib.util.find_spec('{GONE}'):\n    import {GONE}",
    "only in a text": f"'''import {GONE}'''\n# import {GONE}",
    "modules here": "import yaml, PIL.Image, sklearn.svm, dateutil.tz, attr, google.protobuf\n"
    "from google.protobuf import message\nimport os.path, xml.etree.ElementTree as E",
    "the server's own": "import ts, torch.nn\nfrom ts.torch_handler.base_handler import *",
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
def test_import_that_the_handler_sees_to_is_not_spoken_of(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert packed(SILENT[case], capsys, {}, []) == (0, "")


REQUIRED = [
    # A distribution that is not here may bring anything.
    ("opencv-python-headless\n", "import cv2", "import cv2"),
    ("beautifulsoup4\n", "import bs4", "import bs4"),
    ("torch\nopencv-python-headless>=4 # reads\n", "from cv2 import imread", "cv2"),
    ("torch[nobody]\n", f"import {GONE}", GONE),
    ("x @ git+https://example.org/x.git\n", f"import {GONE}", GONE),
    ("git+https://example.org/x.git\n", f"import {GONE}", GONE),
]


@pytest.mark.parametrize(("requirements", "source", "module"), REQUIRED)
def test_what_requirements_may_bring_is_noted(
    requirements: str, source: str, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = packed(source, capsys, {"r.txt": requirements}, ["-r", "r.txt"])
    assert code == 0
    assert said.startswith("handler.py:1: may fail: imports ")
    assert "in r.txt may bring it" in said


@pytest.mark.parametrize("requirements", ["torch\n", "pillow\nPyYAML\n", "# nothing\n"])
def test_what_is_here_brings_what_is_here(
    requirements: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = packed(f"import {GONE}", capsys, {"r.txt": requirements}, ["-r", "r.txt"])
    assert code == 9
    assert "nor in r.txt" in said


@pytest.mark.parametrize(
    ("requirements", "noted"),
    [
        ("ts\n", "r.txt:1: ts is a module of torchserve; "),
        ("torch\nTS>=0.1\n", "r.txt:2: TS is a module of torchserve; "),
        ("sklearn\n", "r.txt:1: sklearn is a module of scikit-learn; "),
        ("cv2\n", "r.txt:1: cv2 is a module of opencv-python; "),
        ("PIL\nyaml\n", "r.txt:1: PIL is a module of pillow; "),
        ("torch\nscikit-learn\nattrs\nnumpy\ntorchserve\n", ""),
        ("ts @ https://example.org/ts.whl\n", "r.txt:1: is taken from a URL, "),
    ],
)
def test_module_that_is_named_as_a_distribution_is_noted(
    requirements: str, noted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = packed("", capsys, {"r.txt": requirements}, ["-r", "r.txt"])
    assert code == 0
    assert said.startswith(noted) if noted else said == ""


def test_file_that_requirements_name_may_be_packed(capsys: pytest.CaptureFixture[str]) -> None:
    files = {"r.txt": "./own-1.0-py3-none-any.whl\n-r more.txt\nother-2.tar.gz\n",
             "more.txt": f"{GONE.replace('_', '-')}\n", "own-1.0-py3-none-any.whl": "",
             "other-2.tar.gz": ""}  # fmt: skip
    extra = ["-r", "r.txt", "--extra-files", "own-1.0-py3-none-any.whl,more.txt,other-2.tar.gz"]
    assert packed(f"import own, other, {GONE}", capsys, files, extra) == (0, "")
    code, said = packed("import own", capsys, files, ["-r", "r.txt"])
    assert code == 9
    assert said.startswith("r.txt:1: './own-1.0-py3-none-any.whl' names a file that the server ")


@pytest.mark.parametrize(
    "line", ["./own", "-e ./own", "own @ file:own", "own @ file:./own", "--find-links own\nown"]
)
def test_folder_that_requirements_name_may_be_packed(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"r.txt": line, "own/own-1.0-py3-none-any.whl": ""}
    words = ["-r", "r.txt", "--extra-trees", "own"]
    code, said = packed("import own", capsys, files, words)
    assert (code, "names a file that the server" in said) == (0, False), said
    code, said = packed("import own", capsys, files, ["-r", "r.txt"])
    assert code == 9
    assert f"r.txt:1: {line.splitlines()[0]!r} names a file that the server does not have" in said


def test_wheel_of_any_size_may_be_packed(capsys: pytest.CaptureFixture[str]) -> None:
    files = {"r.txt": "./own-1.0-py3-none-any.whl\n",
             "own-1.0-py3-none-any.whl": "w" * (2 << 20)}  # fmt: skip
    words = ["-r", "r.txt", "--extra-files", "own-1.0-py3-none-any.whl"]
    assert packed("import own", capsys, files, words) == (0, "")


def test_note_names_few_of_many_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    files = {"r.txt": "a-b\nc-d\ne-f\ng-h\ni-j\n"}
    code, said = packed(f"import {GONE}", capsys, files, ["-r", "r.txt"])
    assert code == 0
    assert "; a-b, c-d, e-f and 2 more in r.txt may bring it" in said


FOLDERS = [
    # (files, words, what is said)
    ({"lib/mine.py": ""}, ["--extra-trees", "lib"], ""),
    ({"lib/mine/__init__.py": ""}, ["--extra-trees", "lib"], ""),
    ({"lib/mine.so": ""}, ["--extra-trees", "lib"], ""),
    ({"lib/mine.py": ""}, ["--extra-files", "lib"], ""),
    ({"lib/mine.py": ""}, [], "handler.py:4: may fail: imports mine, which is neither packed nor "),
    ({"lib.zip": ""}, ["--extra-files", "lib.zip"], "handler.py:4: may fail: imports mine, "),
    ({"a/lib/mine.pyi": ""}, ["--extra-trees", "a"], "handler.py:4: may fail: imports mine, "),
]  # fmt: skip


@pytest.mark.parametrize(("files", "words", "said"), FOLDERS)
def test_folder_that_the_handler_puts_on_the_path(
    files: dict[str, str], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = packed(f"import os\nimport sys\n{LIB}import mine", capsys, files, words)
    assert code == 0
    assert found.startswith(said) if said else found == ""


def test_folder_that_nobody_puts_on_the_path(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = packed("import mine", capsys, {"lib/mine.py": ""}, ["--extra-trees", "lib"])
    assert code == 9
    assert said.startswith("handler.py:1: imports mine, which is neither in . nor installed here")


def test_files_that_may_never_run_are_packed_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {"training.py": f"import {GONE}", "old.py": "print 'two'"}
    source = (
        "import sys\nif sys.version_info[0] < 3:\n    import old\ndef train():\n    import training"
    )
    code, said = packed(source, capsys, files, [])
    assert code == 0
    assert [line.split(",")[0] for line in said.splitlines()] == [
        "old.py: not Python: line 1: Missing parentheses in call to 'print'. Did you mean "
        "print(...)?; it may never be imported",
        f"training.py:1: may fail: imports {GONE}",
    ]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import importlib\ndef f(x):\n    return importlib.import_module(x)", 3),
        ("x = 'json'\ny = __import__(x)", 2),
        ("import importlib\nx = 'a'\ny = importlib.import_module(f'xml.{x}') if x else 0", 3),
        ("from importlib import import_module as i\ndef f(x): return i('.' + x, __name__)", 2),
    ],
)  # fmt: skip
def test_name_that_is_made_at_run_time_is_noted(
    source: str, line: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = packed(source, capsys, {}, [])
    assert code == 0
    assert said.startswith(f"handler.py:{line}: imports a module whose name is made at run time")


def test_module_that_is_imported_by_its_name_is_packed(capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "import importlib\na = importlib.import_module('one')\n"
        "b = importlib.import_module('.two', 'pkg')\ndef f(): return __import__('three')"
    )
    files = {"one.py": "", "pkg/__init__.py": "", "pkg/two.py": "", "three.py": ""}
    assert packed(source, capsys, files, []) == (0, "")
    main([*WORDS])
    out = capsys.readouterr().out
    assert all(f"  imported: {name}\n" in out for name in files)


def test_module_that_hides_an_installed_one_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    assert packed("import PIL", capsys, {"PIL.py": ""}, []) == (
        0, "PIL.py: hides the PIL that is installed here, from all that imports it"
    )  # fmt: skip


def test_compiled_module_beside_the_handler_is_told_how_to_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "fast.cpython-311-x86_64-linux-gnu.so"
    code, said = packed("import fast", capsys, {name: ""}, [])
    assert (code, said) == (
        9, f"handler.py:1: imports fast, which is compiled: --extra-files {name}"
    )  # fmt: skip
    assert packed("import fast", capsys, {name: ""}, ["--extra-files", name]) == (0, "")
