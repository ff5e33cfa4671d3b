"""`python -m marwright pack-workflow`: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.cli.main import main
from marwright.recipe.errors import PackError
from tests.archive.tiny import members_of
from tests.archive.unproven import HANDLE, make
from tests.archive.workflows import FLOW, OWN, SPEC, make_project

WORDS = ["pack-workflow", "--workflow-name", "flow", "--spec-file", "flow.yaml"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make({"handler.py": HANDLE, "model.pt": "not a model"})
    make_project()


def test_it_says_what_was_packed_what_was_not_and_what_to_do_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make({"flow.py": f"import util\n{FLOW}", "util.py": "", "lib/a.txt": "", "lib/.env": ""})
    make({"flow.yaml": SPEC.replace("m1.mar", "https://models.example/m1.mar")})
    more = ["--handler", "flow.py", "--extra-files", "lib", "--export-path", "workflow store"]
    assert main([*WORDS, *more]) == 0
    assert capsys.readouterr().out == (
        "workflow store/flow.war: 6 members, 1 KiB, unproven\n"
        "  imported: util.py\n"
        "  left out: lib/.env\n"
        "  models.m1.url: https://models.example/m1.mar is fetched by the server, if its "
        "allowed_urls let it\n"
        "`marwright verify 'workflow store/flow.war'` loads it as TorchServe would\n"
    )
    assert set(members_of(Path("workflow store/flow.war"))) == {
        "a.txt", "flow.py", "flow.yaml", "util.py",
    } | OWN  # fmt: skip


def test_every_option_reaches_the_packer(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model_store").rename("elsewhere")
    make({"flow.py": f"import util\nimport nobody_has_this\n{FLOW}", "lib/util.py": ""})
    make({"a.txt": "", "b.txt": "", "trees/t/c.txt": "", "flow.war": "PK\x03\x04"})
    more = ["--handler", "flow.py", "--model-store", "elsewhere", "--source-root", "lib"]
    more += ["--extra-files", "a.txt,b.txt", "--extra-trees", "trees/t"]
    assert main([*WORDS, *more, "-f"]) == PackError.exit_code
    assert "--provided nobody_has_this" in capsys.readouterr().err
    assert main([*WORDS, *more, "-f", "--provided", "nobody_has_this"]) == 0
    assert set(members_of(Path("flow.war"))) == {
        "a.txt", "b.txt", "flow.py", "flow.yaml", "t/c.txt", "util.py",
    } | OWN  # fmt: skip


def test_what_is_wrong_is_told_in_lines_and_ends_with_its_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make({"flow.yaml": SPEC.replace("m1.mar", "m3.mar").replace("m2.mar", "m4.mar")})
    assert main([*WORDS, "--handler", "flow.py"]) == PackError.exit_code
    assert capsys.readouterr().err == (
        'marwright: models.m1.url: model_store/m3.mar: no such file; did you mean "m2.mar"?\n'
        'models.m2.url: model_store/m4.mar: no such file; did you mean "m2.mar"?\n'
    )
    assert not Path("flow.war").exists()
