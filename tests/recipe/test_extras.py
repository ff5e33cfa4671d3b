"""What is not installed is told by the extra that brings it, and the table knows each of them."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from marwright.pipeline.machine import machine_error
from marwright.project import ENGINE
from marwright.recipe import extras
from marwright.recipe.errors import DataError, MissingError
from marwright.recipe.extras import DISTRIBUTIONS, EXTRAS, TORCH, check_torch, missing, require
from tests.projects import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = ("msgspec", "yaml", "numpy", "safetensors", "PIL", "psutil", "rich")


def declared(requirements: list[str]) -> set[str]:
    return {Requirement(line).name for line in requirements} - {"marwright"}


def named(modules: tuple[str, ...]) -> set[str]:
    return {DISTRIBUTIONS.get(module, module) for module in modules}


def test_the_table_of_extras_is_that_of_pyproject() -> None:
    optional = PROJECT["optional-dependencies"]
    assert optional.keys() == {*EXTRAS, "all"}
    assert {extra: declared(optional[extra]) for extra in EXTRAS} == {
        extra: named(modules) for extra, modules in EXTRAS.items()
    }
    assert declared(PROJECT["dependencies"]) == named(BASE)


def test_all_takes_every_extra_in() -> None:
    optional, reached, waiting = PROJECT["optional-dependencies"], set[str](), ["all"]
    while waiting:
        reached.add(extra := waiting.pop())
        inner = (Requirement(line) for line in optional[extra])
        waiting += [name for one in inner if one.name == "marwright" for name in one.extras]
    assert reached == {*EXTRAS, "all"}


def test_the_range_of_torch_is_that_of_pyproject() -> None:
    [torch] = [Requirement(line) for line in PROJECT["optional-dependencies"]["torch"][:1]]
    least, before = (".".join(map(str, one)) for one in TORCH)
    assert torch.specifier == SpecifierSet(f">={least},<{before}")


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def unknown(root: Path) -> set[str]:
    known = {*BASE, "marwright", *(module for modules in EXTRAS.values() for module in modules)}
    return {
        f"{file.relative_to(root)} imports {module}"
        for file in root.rglob("*.py")
        for module in imported(file)
        if module not in known and module not in sys.stdlib_module_names
    }


def test_whatever_is_imported_is_of_the_base_or_of_an_extra() -> None:
    # In a checkout only, and it says itself when that is missing.
    assert unknown(ENGINE / "marwright") == {"cli/doctor.py imports packaging"}


def test_an_import_that_nothing_declares_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import json, torch.nn\ndef f():\n    from pandas import x\n")
    assert unknown(tmp_path) == {"a.py imports pandas"}


def failed(module: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("torch", 'this needs torch: pip install "marwright[torch]"'),
        ("sklearn", 'this needs scikit-learn: pip install "marwright[train]"'),
        ("ts", 'this needs torchserve: pip install "marwright[serve]"'),
        ("jinja2", 'this needs jinja2: pip install "marwright[report]"'),
    ],
)
def test_a_missing_module_names_its_extra(module: str, sentence: str) -> None:
    told = machine_error(failed(module))
    assert (str(told), type(told)) == (sentence, MissingError)
    # Also where it was told as something else.
    about_data = DataError("load() failed")
    about_data.__cause__ = failed(module)
    assert str(machine_error(about_data)) == sentence


def test_other_failures_are_told_as_they_are() -> None:
    # Of a torch that is there, and of a module that a person's own code wants.
    assert missing(failed("torch.gone")) is missing(failed("pandas")) is None
    assert missing(ImportError("cannot import name", name="torch")) is None
    # Somebody did without it.
    other = ValueError("3")
    other.__context__ = failed("torch")
    assert missing(other) is None
    loop = ValueError("a")
    loop.__cause__ = loop
    assert missing(loop) is None


def test_what_is_required_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "EXTRAS", {"torch": ("json", "no_such_module")})
    require("json")
    with pytest.raises(MissingError, match=r'^this needs no_such_module: pip install "marwright'):
        require("json", "no_such_module")


@pytest.mark.parametrize("version", ["2.13.0", "2.14.1+cpu", "2.16.0a0", "3.0"])
def test_a_torch_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    with pytest.raises(MissingError) as error:
        check_torch()
    assert str(error.value) == (
        f"torch {version} is installed, and this needs torch>=2.15,<2.16: "
        'pip install "marwright[torch]"'
    )


@pytest.mark.parametrize("version", ["2.15.0", "2.15.3+cu130"])
def test_a_torch_in_range_is_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    check_torch()


def test_no_torch_is_told_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    check_torch()
