"""Packing a workflow: what is written, what is refused, and what is said of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from marwright.archive.container.open import open_archive
from marwright.archive.contents import read_contents
from marwright.archive.store import read_model
from marwright.archive.types import WORKFLOW_INVENTORY, WORKFLOW_MANIFEST, Inventory, from_json
from marwright.recipe.errors import VerifyError
from tests.archive.tiny import ROOT, members_of
from tests.archive.unproven import make, packing
from tests.archive.workflows import (
    FLOW,
    OWN,
    SPEC,
    make_project,
    packing_workflow,
    workflow_refusal,
)


@pytest.fixture(autouse=True)
def _project(here: Path) -> None:
    make_project()


# What is written


def test_archive_holds_what_was_named_and_describes_it() -> None:
    packed = packing_workflow(export_path="out")
    assert packed.path == Path("out/flow.war")
    assert packed.size == packed.path.stat().st_size
    found = members_of(packed.path)
    assert set(packed.members) == set(found) == {"flow.py", "flow.yaml"} | OWN
    assert (found["flow.py"], found["flow.yaml"]) == (FLOW.encode(), SPEC.encode())
    assert json.loads(found[WORKFLOW_MANIFEST]) == {
        "archiverVersion": "marwright-0.1",
        "createdOn": "01/01/1980 00:00:00",
        "workflow": {"workflowName": "flow", "specFile": "flow.yaml", "handler": "flow.py"},
    }
    inventory = from_json(found[WORKFLOW_INVENTORY], Inventory)
    assert set(inventory.members) == set(found) - {WORKFLOW_INVENTORY}
    assert not inventory.proven
    assert (packed.imported, packed.left_out, packed.notes) == ((), (), ())
    with open_archive(packed.path) as archive:
        assert archive.problems == []
        contents = read_contents(archive, archive.digests())
    assert contents.problems == []
    assert contents.workflow is not None
    assert contents.workflow.spec.functions == ["pre"]


def test_same_files_give_the_same_bytes() -> None:
    one = packing_workflow(export_path="one").path.read_bytes()
    Path("flow.yaml").touch()
    assert packing_workflow(export_path="two").path.read_bytes() == one


def test_models_alone_need_no_handler() -> None:
    make({"flow.yaml": SPEC.replace("  pre: [m1]\n", "")})
    found = members_of(packing_workflow(handler=None).path)
    assert set(found) == {"flow.yaml"} | OWN
    # TorchServe takes an empty name, but none that is missing.
    assert json.loads(found[WORKFLOW_MANIFEST])["workflow"]["handler"] == ""


def test_what_the_handler_imports_is_packed_as_the_tree_that_it_is() -> None:
    make({"flow.py": f"import steps.clean\nimport units\n{FLOW}", "units.py": ""})
    make({"steps/__init__.py": "", "steps/clean.py": "from . import words\n", "steps/words.py": ""})
    make({"steps/other.py": ""})
    packed = packing_workflow()
    assert packed.imported == ("steps/__init__.py", "steps/clean.py", "steps/words.py", "units.py")
    assert set(packed.members) == {"flow.py", "flow.yaml", *packed.imported} | OWN


def test_imports_are_found_in_the_source_root() -> None:
    make({"flow.py": f"import units\n{FLOW}", "lib/units.py": ""})
    assert packing_workflow(source_root="lib").imported == ("units.py",)


def test_extra_files_and_trees_keep_their_rules() -> None:
    make({"data/words.txt": "a", "data/.env": "secret", "tables/sub/a.csv": "1", "one.txt": ""})
    packed = packing_workflow(extra_files="data,one.txt", extra_trees=["tables"])
    extra = {"words.txt", "one.txt", "tables/sub/a.csv"}
    assert set(packed.members) == {"flow.py", "flow.yaml"} | extra | OWN
    assert packed.left_out == ("data/.env",)


def test_folder_that_is_named_by_a_link_has_the_links_name() -> None:
    make({"src/tables-1.2/a.csv": "1"})
    Path("tables").symlink_to("src/tables-1.2")
    assert "tables/a.csv" in packing_workflow(extra_trees="tables").members


def test_nothing_of_the_handler_is_run() -> None:
    make({"flow.py": f"open('ran', 'w')\n{FLOW}"})
    packing_workflow()
    assert not Path("ran").exists()


def test_torch_is_not_imported() -> None:
    code = "import sys, marwright.archive.workflow, marwright.cli.main; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_archive_that_is_there_stays_unless_it_is_forced_away() -> None:
    path = packing_workflow().path
    old = path.read_bytes()
    make({"flow.py": f"{FLOW}# changed\n"})
    assert workflow_refusal() == "flow.war: is there already; --force replaces it"
    assert path.read_bytes() == old
    make({"flow.yaml": "models: {}\n"})
    assert "dag: missing" in workflow_refusal(force=True)
    assert path.read_bytes() == old
    make({"flow.yaml": SPEC})
    assert packing_workflow(force=True).path.read_bytes() != old


# What is refused

STORE = "models.m1.url: model_store"


@pytest.mark.parametrize(
    ("files", "options", "problem"),
    [
        ({}, {"workflow_name": "my flow"},
         "--workflow-name 'my flow': letters, digits, '.', '_' and '-' only"),
        ({}, {"workflow_name": ""}, "--workflow-name '': letters, "),
        ({}, {"spec_file": "nope.yaml"}, "--spec-file nope.yaml: no such file"),
        ({}, {"spec_file": "model_store"}, "--spec-file model_store: is a folder, not a file"),
        ({}, {"handler": "nope.py"}, "--handler nope.py: no such file"),
        ({}, {"handler": None},
         "dag: pre is none of the models, and there is no handler to have it as a function: add "
         "one, with `def pre(data, context):`"),
        ({"flow.yaml": SPEC.replace("url", "ulr", 1)}, {},
         "--spec-file flow.yaml: models.m1: a model needs the name of its archive in the model "
         "store: write `url: m1.mar`\n"
         '--spec-file flow.yaml: models.m1.ulr: TorchServe ignores it; did you mean "url"?'),
        ({"flow.yaml": SPEC + "  m2: [pre]\n"}, {},
         "--spec-file flow.yaml: dag.pre: pre → m1 → m2 → pre goes round in a circle: remove one "
         "of these"),
        ({"flow.py": "def prex(data, context): ...\n"}, {},
         "flow.py: has no function pre: write `def pre(data, context):`, or add a model of that "
         'name to the spec; did you mean "prex"?'),
        ({"flow.py": "def pre(data): ...\n"}, {},
         "flow.py: pre is called with two arguments: write `def pre(data, context):`"),
        ({"flow.py": "def pre(:\n"}, {}, "flow.py: not Python: "),
        ({"json.py": FLOW}, {"handler": "json.py"},
         "json.py: has the name of a module of Python, which the server may have imported: "
         "rename it"),
        ({"flow.txt": FLOW}, {"handler": "flow.txt"},
         "flow.txt: TorchServe imports it by its name: call it as in handler.py"),
        ({"flow.py": f"import nobody_has_this\n{FLOW}"}, {},
         "flow.py:1: imports nobody_has_this, which is neither in . nor installed here: if it is "
         "yours, name the folder that it is in with --source-root; if the server has it, "
         "--provided nobody_has_this"),
        ({"b/flow.yaml": ""}, {"extra_files": "b/flow.yaml"},
         "flow.yaml: flow.yaml and b/flow.yaml would both be called this: rename one"),
        ({"b/WAR-INF/MANIFEST.json": "{}"}, {"extra_files": "b"},
         "b/WAR-INF/MANIFEST.json: would be called WAR-INF/MANIFEST.json, which is for what "
         "describes the archive: rename it, or name the files beside it one by one"),
        ({"b/MAR-INF/x": "{}"}, {"extra_files": "b"}, "b/MAR-INF/x: would be called MAR-INF/x, "),
        ({}, {"extra_files": "*.csv"}, "--extra-files *.csv: nothing matches"),
        ({"flow.yaml": SPEC.replace("m1.mar", "m3.mar")}, {},
         f'{STORE}/m3.mar: no such file; did you mean "m2.mar"?'),
        ({}, {"model_store": "nope"},
         "models.m1.url: nope/m1.mar: no such file; nope is no folder: name the model store with "
         "--model-store\n"
         "models.m2.url: nope/m2.mar: no such file; nope is no folder: name the model store with "
         "--model-store"),
        ({"model_store/m1.mar": "no zip"}, {}, f"{STORE}/m1.mar: "),
    ],
)  # fmt: skip
def test_refused_with_what_where_and_what_to_do(
    files: dict[str, str], options: dict[str, str], problem: str
) -> None:
    make(files)
    said = workflow_refusal(**options)
    assert said.startswith(problem) if problem[-1] in " :" else said == problem


def test_module_that_the_server_has_is_named_with_provided() -> None:
    make({"flow.py": f"import nobody_has_this\n{FLOW}"})
    assert packing_workflow(provided="nobody_has_this").imported == ()


def test_workflow_in_the_model_store_is_no_model() -> None:
    make({"one.yaml": "models: {}\ndag: {pre: []}\n"})
    war = packing_workflow(spec_file="one.yaml", workflow_name="one").path
    Path("model_store/m1.mar").write_bytes(war.read_bytes())
    with pytest.raises(VerifyError, match=r"^a workflow, and no model archive$"):
        read_model(Path("model_store/m1.mar"))
    assert workflow_refusal() == (
        "models.m1.url: model_store/m1.mar: a workflow, and no model archive"
    )


# What is worth knowing


def test_model_that_the_server_fetches_is_not_looked_for() -> None:
    make({"flow.yaml": SPEC.replace("m1.mar", "https://models.example/m1.mar")})
    Path("model_store/m1.mar").unlink()
    assert packing_workflow().notes == (
        "models.m1.url: https://models.example/m1.mar is fetched by the server, if its "
        "allowed_urls let it",
    )


def test_functions_alone_need_no_model_store() -> None:
    make({"flow.yaml": "models: {}\ndag: {pre: []}\n"})
    assert packing_workflow(model_store="nope").notes == ()


def test_settings_that_a_models_own_archive_says_otherwise_are_noted() -> None:
    config = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 8\nmaxBatchDelay: 50\n"
    make({"model-config.yaml": config})
    packing(model_name="m1", config_file="model-config.yaml", export_path="model_store", force=True)
    assert packing_workflow().notes == (
        "models.m1: batch-size is 1 in this workflow, not 8, the batchSize in m1.mar",
        "models.m1: has 2 workers, the minWorkers in m1.mar, not 1",
    )
    same = "m1: {url: m1.mar, batch-size: 8, max-workers: 2}"
    make({"flow.yaml": SPEC.replace("m1: {url: m1.mar}", same)})
    assert packing_workflow(force=True).notes == ()
