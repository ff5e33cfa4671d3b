"""Imports that lead to modules rather than files: of others, needed or not, and missing ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.archive.rules.imports import CERTAIN, HANDLED, MAYBE
from marwright.archive.sources import Closure, SourceReader
from marwright.pipeline.keys import installed_versions
from marwright.project import ENGINE
from marwright.recipe.errors import PackError
from marwright.recipe.extras import DISTRIBUTIONS
from tests.archive.test_sources import ONE, PACKAGE, files_of, project
from tests.archive.tiny import ROOT


def test_third_party_modules_are_named_by_their_top_name_once(tmp_path: Path) -> None:
    main = (
        "import os.path, json\nimport torch.nn as nn\nfrom torch import Tensor\n"
        "from sklearn.datasets import load_digits\nimport pkg.missing\nfrom pkg import one\n"
    )
    found = project(tmp_path, {"main.py": main, **PACKAGE}).closure(["main.py"])
    assert found.third_party == ("sklearn", "torch")


def test_folder_of_data_does_not_hide_a_distribution_of_its_name(tmp_path: Path) -> None:
    reader = project(tmp_path, {"main.py": "import build", "build/model/meta.json": "{}"})
    assert reader.closure(["main.py"]).third_party == ("build",)


def test_file_of_the_project_wins_over_a_distribution_of_its_name(tmp_path: Path) -> None:
    found = project(tmp_path, {"main.py": "import torch", "torch.py": ""}).closure(["main.py"])
    assert set(found.files) == {"main.py", "torch.py"}
    assert found.third_party == ()


def wanted_in(found: Closure) -> dict[str, int]:
    return {one.module: one.certainty for one in found.wanted}


def test_a_file_that_may_not_run_makes_nothing_of_its_imports_certain(tmp_path: Path) -> None:
    main = "try:\n    import a\nexcept ImportError:\n    pass\nimport b\ndef f():\n    import c\n"
    files = {"main.py": main, "a.py": "import numpy", "b.py": "import torch", "c.py": "import d",
             "d.py": "import yaml"}  # fmt: skip
    found = wanted_in(project(tmp_path, files).closure(["main.py"]))
    assert found == {"numpy": HANDLED, "torch": CERTAIN, "yaml": MAYBE}


def test_a_file_counts_as_the_surest_of_the_ways_that_lead_to_it(tmp_path: Path) -> None:
    main = "try:\n    import a\nexcept ImportError:\n    pass\nimport b"
    files = {"main.py": main, "a.py": "import numpy", "b.py": "import a"}
    assert wanted_in(project(tmp_path, files).closure(["main.py"])) == {"numpy": CERTAIN}


def test_file_of_the_project_is_followed_also_where_its_failure_is_caught(tmp_path: Path) -> None:
    caught = "try:\n    import pkg.one\nexcept ImportError:\n    pass\n"
    assert files_of(tmp_path, "main.py", {"main.py": caught, **PACKAGE}) == {"main.py"} | ONE


@pytest.mark.parametrize("path", ["main.py", "pkg/main.py"])
def test_relative_import_out_of_the_project_is_skipped_where_its_failure_is_caught(
    tmp_path: Path, path: str
) -> None:
    caught = "try:\n    from ..one import x\nexcept ImportError:\n    from pkg.one import x\n"
    assert files_of(tmp_path, path, {**PACKAGE, path: caught}) == {path} | ONE


NAMESPACE = {**PACKAGE, "space/mod.py": ""}


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("import pkg.gone", {"pkg.gone"}),
        ("import pkg.sub.gone", {"pkg.sub.gone"}),
        ("from pkg.gone import x", {"pkg.gone"}),
        ("from pkg import one, gone", set()),
        # A name of the package itself, as far as reading can tell.
        ("from pkg import gone", set()),
        ("import space.mod", set()),
        ("from space import mod", set()),
        ("import os.gone", set()),
        ("import numpy.gone", set()),
        ("try:\n    import pkg.gone\nexcept ImportError:\n    pass", set()),
        ("def f():\n    import pkg.gone", {"pkg.gone"}),
    ],
)  # fmt: skip
def test_module_of_the_project_that_is_not_there_is_told(
    tmp_path: Path, statement: str, missing: set[str]
) -> None:
    found = project(tmp_path, {**NAMESPACE, "main.py": statement}).closure(["main.py"])
    assert {one.module for one in found.wanted if one.is_ours and one.certainty} == missing


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("from . import gone", set()),
        ("from .gone import x", {"pkg.gone"}),
        ("from .sub.gone import x", {"pkg.sub.gone"}),
        ("from .sub import two", set()),
    ],
)
def test_relative_module_that_is_not_there_is_told(
    tmp_path: Path, statement: str, missing: set[str]
) -> None:
    found = project(tmp_path, {**PACKAGE, "pkg/main.py": statement}).closure(["pkg/main.py"])
    assert {one.module for one in found.wanted if one.is_ours and one.certainty} == missing


def test_given_file_counts_as_the_projects_and_comes_before_it(tmp_path: Path) -> None:
    project(tmp_path, {"root/main.py": "import a", "root/a.py": "import torch",
                       "x/other.py": "import b", "x/b.py": "import numpy"})  # fmt: skip
    given = {"a.py": tmp_path / "x/other.py", "b.py": tmp_path / "x/b.py"}
    found = SourceReader(tmp_path / "root", given=given).closure(["main.py"])
    assert set(found.files) == {"main.py", "a.py", "b.py"}
    assert found.third_party == ("numpy",)


def test_file_from_elsewhere_is_followed_as_if_it_stood_at_the_root(tmp_path: Path) -> None:
    reader = project(tmp_path / "root", {**PACKAGE, "pkg/one.py": "import torch"})
    file = tmp_path / "elsewhere" / "handler.py"
    file.parent.mkdir()
    file.write_text("import pkg.one\nimport sibling\n")
    (file.parent / "sibling.py").write_text("")
    found = reader.closure_at_root(file)
    assert set(found.files) == ONE
    assert found.third_party == ("sibling", "torch")
    assert wanted_in(found) == {"sibling": CERTAIN, "torch": CERTAIN}


def test_file_at_the_root_may_try_the_package_that_it_is_in(tmp_path: Path) -> None:
    caught = "try:\n    from .net import Net\nexcept ImportError:\n    from net import Net\n"
    reader = project(tmp_path, {"handler.py": caught, "net.py": "import torch"})
    found = reader.closure_at_root(tmp_path / "handler.py")
    assert set(found.files) == {"net.py"}
    assert wanted_in(found) == {".net": HANDLED, "torch": MAYBE}


@pytest.mark.parametrize(
    ("statement", "named"),
    [("from . import one", "."), ("from .one import x", ".one"), ("from ..a.b import x", "..a.b")],
)
def test_file_at_the_root_has_no_package_to_import_from(
    tmp_path: Path, statement: str, named: str
) -> None:
    reader = project(tmp_path, {**PACKAGE, "pkg/main.py": f"import os\n{statement}\n"})
    with pytest.raises(PackError) as refusal:
        reader.closure_at_root(tmp_path / "pkg" / "main.py")
    assert str(refusal.value) == (
        f"{tmp_path / 'pkg' / 'main.py'}: imports from the package that it is in ({named}), and at "
        "the archive's root there is none: name it as a module, as in package.handler:handle"
    )


def test_every_third_party_import_of_the_project_is_an_installed_distribution() -> None:
    ours = [p.relative_to(ENGINE).as_posix() for p in (ENGINE / "marwright").rglob("*.py")]
    others = [p.relative_to(ROOT).as_posix() for p in (ROOT / "ci").rglob("*.py")]
    modules = SourceReader(ROOT, engine=ENGINE).closure([*ours, *others]).third_party
    assert {"torch", "PIL", "ts", "yaml", "sklearn"} <= set(modules)
    versions = installed_versions()
    named = {m: DISTRIBUTIONS.get(m, m).replace("_", "-").lower() for m in modules}
    assert {module for module, name in named.items() if name not in versions} == set()
