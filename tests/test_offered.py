"""What `import marwright` offers: typed, imported when it is used, and known to keys."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import marwright
from marwright.archive.sources import SourceReader
from marwright.pipeline import keys
from marwright.pipeline.keys import KeyMaker
from marwright.pipeline.layout import Layout
from marwright.pipeline.steps import archive
from marwright.project import ENGINE, OFFERED
from marwright.recipe.errors import MarwrightError, PackError
from marwright.recipe.load import load_recipes
from tests.archive.tiny import payload
from tests.archive.unproven import HANDLE, make, refusal
from tests.projects import TABLE
from tests.test_layers import ORDER

SAMPLES = "marwright/training/samples.py"
LOADER = """
from marwright import TableSamples

def load() -> TableSamples:
    ...
"""


def declared(tree: ast.Module) -> dict[str, str]:
    """Return what `if TYPE_CHECKING:` imports, as the table of `project` says it."""
    [block] = [node for node in tree.body if isinstance(node, ast.If)
               and ast.unparse(node.test) == "TYPE_CHECKING"]  # fmt: skip
    return {
        one.asname or one.name: f"{node.module}:{one.name}" if one.asname else str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for one in node.names
    }


def test_what_is_typed_is_what_is_there() -> None:
    tree = ast.parse(Path(marwright.__file__).read_text(encoding="utf-8"))
    assert declared(tree) == OFFERED
    assert sorted(OFFERED) == marwright.__all__
    assert {*dir(marwright)} >= {*OFFERED, "__doc__"}
    for name, place in OFFERED.items():
        module, _, other = place.partition(":")
        assert getattr(marwright, name) is getattr(sys.modules[module], other or name)


def test_no_room_is_called_like_what_is_offered() -> None:
    assert not {*ORDER} & {*OFFERED, "train"}


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'marwright' has no attribute 'cheque'"):
        marwright.cheque  # type: ignore[attr-defined] # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'cheque'"):
        exec("from marwright import cheque")


def child(code: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ENGINE)},
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_import_alone_imports_nothing() -> None:
    code = (
        "import json, sys, time; began = time.perf_counter(); import marwright\n"
        "took = time.perf_counter() - began; dir(marwright)\n"
        "print(json.dumps({'took': took, 'modules': [*sys.modules]}))"
    )
    found = [child(code) for _ in range(3)]
    modules = {*found[0]["modules"]}  # type: ignore[misc]
    assert [name for name in modules if name.startswith("marwright")] == ["marwright"]
    assert not modules & {"torch", "numpy", "msgspec", "yaml", "rich"}
    assert min(float(str(one["took"])) for one in found) < 0.03


@pytest.mark.parametrize("name", ["pack", "inspect", "verify", "MarwrightError"])
def test_what_needs_neither_torch_nor_numpy_imports_neither(name: str) -> None:
    code = f"import json, sys; from marwright import {name}; print(json.dumps([*sys.modules]))"
    assert not {*child(code)} & {"torch", "numpy", "rich"}


# --- the functions ----------------------------------------------------------------------------


def test_they_do_what_the_verbs_do_and_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "handler.py").write_text("def handle(data, context):\n    return data\n")
    packed = marwright.pack(
        model_name="own", version="1.0", handler=str(tmp_path / "handler.py"), export_path=tmp_path
    )
    assert isinstance(packed, marwright.Packed)
    card = marwright.inspect(str(packed.path))
    assert isinstance(card, marwright.Card)
    assert card.manifest["model"]["modelName"] == "own"
    damaged = tmp_path / "damaged.mar"
    damaged.write_bytes(packed.path.read_bytes()[:-30])
    report = marwright.verify(str(damaged))
    assert isinstance(report, marwright.VerifyReport)
    assert not report.ok
    with pytest.raises(PackError) as error:
        marwright.pack(model_name="own", version="1.0", handler="gone.py", export_path=tmp_path)
    assert isinstance(error.value, marwright.MarwrightError)
    for function in (marwright.verify, marwright.inspect):
        with pytest.raises(MarwrightError, match="No such file"):
            function(tmp_path / "gone.mar")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.torch
def test_an_archive_that_was_packed_so_is_verified_so(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("def handle(data, context):\n    return data\n")
    packed = marwright.pack(
        model_name="own", version="1.0", handler=str(tmp_path / "handler.py"), export_path=tmp_path
    )
    report = marwright.verify(packed.path)
    assert (report.ok, report.handler, report.proven) == (True, "tried", False)


@pytest.mark.slow
def test_mypy_sees_signatures_and_no_other_names(tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(
        "from marwright import ImageSamples, inspect, pack, verify\n"
        "from marwright import cheque\n"
        "reveal_type(verify('a.mar'))\n"
        "reveal_type(inspect('a.mar'))\n"
        "pack(model='a')\n"
        "reveal_type(ImageSamples)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(file)],
        cwd=tmp_path, env={"MYPYPATH": str(ENGINE), "PATH": ""}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    said = [line.partition(": ")[2] for line in done.stdout.splitlines() if "user.py" in line]
    assert said[0] == 'error: Module "marwright" has no attribute "cheque"  [attr-defined]'
    assert said[1] == 'note: Revealed type is "marwright.archive.types.VerifyReport"'
    assert said[2] == 'note: Revealed type is "marwright.archive.card.Card"'
    assert 'Unexpected keyword argument "model" for "pack"' in "\n".join(said[3:])
    assert "marwright.training.samples.ImageSamples" in said[-1]


# --- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("from marwright import ImageSamples", [SAMPLES]),
        ("from marwright import TableSamples as T, MarwrightError",
         [SAMPLES, "marwright/recipe/errors.py"]),
        ("import marwright\nx = marwright.TextSamples", [SAMPLES]),
        ("import marwright as m\ndef f():\n    return m.TextSamples", [SAMPLES]),
        ("from marwright import *", [SAMPLES, "marwright/archive/pack.py"]),
        ("from marwright import files", ["marwright/files.py"]),
        ("import marwright\nmarwright.train(__file__)", []),
        ("from marwright import train", []),
        ("import marwright", []),
        ("import marwright\nx = marwright.__doc__", []),
    ],
)  # fmt: skip
def test_a_name_of_the_package_leads_to_where_it_is_defined(
    tmp_path: Path, statement: str, found: list[str]
) -> None:
    (tmp_path / "own.py").write_text(f"{statement}\n")
    files = SourceReader(tmp_path, engine=ENGINE).closure(["own.py"]).files
    assert {"own.py", "marwright/__init__.py", *found} <= {*files}
    assert not [path for path in files if path.startswith("marwright/cli/")]
    if not found:
        assert {*files} == {"own.py", "marwright/__init__.py"}


def test_such_a_loader_is_stale_when_its_samples_change_and_not_for_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tmp_path / "engine"
    shutil.copytree(ENGINE / "marwright", engine / "marwright")
    monkeypatch.setattr(keys, "ENGINE", engine)
    (tmp_path / "archive").mkdir()
    (tmp_path / "own.py").write_text(LOADER)
    (tmp_path / "archive/tiny.toml").write_text(TABLE.replace('"diabetes"', '"own.py"'))
    [recipe] = load_recipes(tmp_path / "archive", [])[0].values()

    def parts() -> dict[str, object]:
        return KeyMaker(Layout(root=tmp_path)).parts(archive.STEP, recipe, {})

    before = parts()
    edited = engine / "marwright/cli/main.py"
    edited.write_text(edited.read_text() + "\nX = 1\n")
    assert parts() == before
    edited = engine / SAMPLES
    edited.write_text(edited.read_text() + "\nX = 1\n")
    after = parts()
    assert {name for name in after if after[name] != before[name]} == {f"source {SAMPLES}"}


@pytest.mark.parametrize(
    "statement", ["from marwright import ImageSamples", "import marwright\nmarwright.pack"]
)
def test_a_handler_takes_nothing_of_it_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make({"handler.py": f"{statement}\n{HANDLE}", "model.pt": "not a model"})
    assert "of marwright only marwright.runtime ships in archives" in refusal()


def test_what_is_packed_of_the_package_is_empty(tmp_path: Path) -> None:
    mar = payload(tmp_path).pack(tmp_path / "tiny_image.mar")
    assert marwright.inspect(mar).members["marwright/__init__.py"].size == 0
