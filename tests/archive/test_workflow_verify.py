"""Workflows as `verify`, `inspect` and `run` see them; a stranger's as well as our own."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marwright.archive import probing
from marwright.archive.card import difference, read_card
from marwright.archive.run import run
from marwright.archive.types import (
    INVENTORY,
    MANIFEST,
    PROOF,
    WORKFLOW_INVENTORY,
    WORKFLOW_MANIFEST,
)
from marwright.archive.verify import verify
from marwright.cli.inspect import inspect
from marwright.cli.verify_files import verify_files
from marwright.pipeline.layout import Layout
from marwright.recipe.errors import VerifyError
from tests.archive.stand_in import put, saying
from tests.archive.tiny import edited, members_of, rewrite
from tests.archive.unproven import make, packing
from tests.archive.workflows import FLOW, SPEC, make_project, packing_workflow

NOT_LOOKED_FOR = [
    f"model {name}: {name}.mar is not in here, and was not looked for" for name in ("m1", "m2")
]


@pytest.fixture
def war(here: Path) -> Path:
    make_project()
    return packing_workflow().path.absolute()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[list[str]]]:
    """Put a program in the probe's place that finds nothing; returns what it was asked."""
    loaded: list[list[str]] = []
    ask = probing.Probe.ask

    def asking(self: probing.Probe, do: str, *args: Any, **options: Any) -> probing.Reply:
        if do == "load":
            loaded.append([options["model"]["handler"]])
        return ask(self, do, *args, **options)

    monkeypatch.setattr(probing.Probe, "ask", asking)
    (tmp_path / "program").mkdir()
    monkeypatch.setattr(probing, "PROBE", put(tmp_path / "program", saying()))
    return lambda: loaded


def written(target: Path, members: dict[str, bytes | str]) -> Path:
    """Write an archive with Python's own zipfile, as torch-workflow-archiver does."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def strangers(**changes: Any) -> dict[str, bytes | str]:
    """Return the members of a workflow of torch-workflow-archiver, with keys changed or None."""
    workflow = {"workflowName": "flow", "specFile": "flow.yaml", "handler": "flow.py"}
    manifest = {"createdOn": "01/01/2026 00:00:00", "archiverVersion": "0.2.15"}
    both = ({**manifest, "workflow": workflow}, workflow)
    for key, value in changes.items():
        for section in both:
            if key in section:
                section[key] = value
                if value is None:
                    del section[key]
    return {"flow.py": FLOW, "flow.yaml": SPEC, WORKFLOW_MANIFEST: json.dumps(both[0])}


# What is sound


def test_functions_are_loaded_and_models_are_not_looked_for(
    war: Path, asked: Callable[[], list[list[str]]]
) -> None:
    report = verify(war)
    assert report.problems == []
    assert report.unchecked == NOT_LOOKED_FOR
    assert (report.members, report.golden_samples, report.proven) == (4, 0, False)
    assert asked() == [["flow.py:pre"]]


def test_workflow_of_the_archiver_is_checked_but_for_its_digests(
    here: Path, asked: Callable[[], list[list[str]]]
) -> None:
    report = verify(written(here / "theirs.war", strangers()))
    assert report.problems == []
    assert report.unchecked == ["digests: it carries no record of them", *NOT_LOOKED_FOR]
    assert asked() == [["flow.py:pre"]]


def test_models_alone_have_nothing_to_load(war: Path, asked: Callable[[], list[list[str]]]) -> None:
    make({"flow.yaml": SPEC.replace("  pre: [m1]\n", "")})
    path = packing_workflow(handler=None, workflow_name="alone").path
    assert verify(path).problems == []
    assert asked() == []


def test_pickles_that_run_code_are_noted(war: Path, asked: Callable[[], list[list[str]]]) -> None:
    make({"evil.pkl": "cos\nsystem\n(S'true'\ntR."})
    path = packing_workflow(extra_files="evil.pkl", force=True).path
    report = verify(path)
    assert report.problems == []
    [note] = report.notes
    assert note.startswith("evil.pkl: ")
    assert note.endswith(" (if the handler loads it so)")


def test_what_is_worth_knowing_is_noted(war: Path, asked: Callable[[], list[list[str]]]) -> None:
    remote = SPEC.replace("m1.mar", "https://models.example/m1.mar")
    make({"flow.yaml": remote})
    report = verify(packing_workflow(force=True).path)
    assert report.notes == [
        "models.m1.url: https://models.example/m1.mar is fetched by the server, if its "
        "allowed_urls let it"
    ]


# What is wrong


def test_changed_dropped_and_added_members_are_named(war: Path, tmp_path: Path) -> None:
    for changes, start in (
        ({"flow.py": FLOW.encode() + b"#\n"}, "flow.py: changed; its SHA-256 is "),
        ({"flow.py": None}, f"flow.py: missing; {WORKFLOW_INVENTORY} records it"),
        ({"more.py": b""}, f"more.py: extra; {WORKFLOW_INVENTORY} does not record it"),
        (edited(war, WORKFLOW_INVENTORY, '"format": 2', '"format": 9'),
         f"{WORKFLOW_INVENTORY}: format 9; only 2 is known here"),
        (edited(war, WORKFLOW_INVENTORY, '"proven": false', '"proven": true'),
         f"{WORKFLOW_INVENTORY}: says that it is proven; only models are"),
    ):  # fmt: skip
        report = verify(rewrite(war, tmp_path / "changed.war", changes))
        assert report.problems[0].startswith(start), changes
        assert not report.proven


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"createdOn": None}, "Object missing required field `createdOn`"),
        ({"archiverVersion": None}, "Object missing required field `archiverVersion`"),
        ({"handler": None}, "Object missing required field `handler` - at `$.workflow`"),
        ({"workflow": None}, "Object missing required field `workflow`"),
        ({"workflow": []}, "Expected `object`, got `array` - at `$.workflow`"),
        ({"workflowName": "my flow"}, "workflowName is 'my flow', which no URL can carry"),
        ({"specFile": "spec.yaml"}, "specFile is 'spec.yaml', which is not in the archive"),
        ({"specFile": ""}, "specFile is '', which is not in the archive"),
        ({"handler": "other.py"}, "handler is 'other.py', which is not in the archive"),
    ],
)
def test_manifest_that_torchserve_would_refuse(
    here: Path, changes: dict[str, Any], problem: str
) -> None:
    report = verify(written(here / "theirs.war", strangers(**changes)))
    assert report.problems[0] == f"{WORKFLOW_MANIFEST}: {problem}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"flow.yaml": SPEC + "  m2: [m1]\n"},
         "flow.yaml: dag.m1: m1 → m2 → m1 goes round in a circle: remove one of these"),
        ({"flow.yaml": "\ufffe"}, "flow.yaml: "),
        ({"flow.yaml": b"\xff"}, "flow.yaml: line 1: not UTF-8: save the file as UTF-8"),
        ({"flow.yaml": "#" * (1 << 20) + "#"}, "flow.yaml: is 1048577 bytes long; that is no text"),
        ({"flow.py": "pre = 1 +\n"}, "flow.py: not Python: "),
        ({"flow.py": "x = 1" + " + 1" * 100_000}, "flow.py: not Python: "),
        ({"flow.py": ""}, "flow.py: has no function pre: "),
        ({WORKFLOW_MANIFEST: "{"}, f"{WORKFLOW_MANIFEST}: "),
        ({MANIFEST: "{}"},
         f"{MANIFEST} and {WORKFLOW_MANIFEST}: a model archive or a workflow, never both: pack one "
         "of each"),
    ],
)  # fmt: skip
def test_members_that_are_not_what_they_should_be(
    here: Path, changes: dict[str, bytes | str], problem: str
) -> None:
    path = written(here / "theirs.war", {**strangers(), **changes})
    [found] = verify(path).problems
    assert found.startswith(problem) if problem[-1] == " " else found == problem


def test_neither_manifest_is_no_archive(here: Path) -> None:
    report = verify(written(here / "some.war", {"flow.py": FLOW}))
    assert report.problems == [f"{MANIFEST}: missing; this is not a model archive"]


def test_names_by_which_torchserve_looks_for_the_other_kind(war: Path, here: Path) -> None:
    mar = war.with_suffix(".mar")
    mar.write_bytes(war.read_bytes())
    assert verify(mar).problems == [
        "a workflow, which TorchServe unzips from .war files only: call it .war"
    ]
    model = here / "model.war"
    model.write_bytes(packing().path.read_bytes())
    assert verify(model).problems == [
        "a model archive, which TorchServe unzips from .mar files only: call it .mar"
    ]
    folder = here / "folder"
    for name, content in members_of(war).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert verify(folder).problems == [
        "a workflow in a folder, which TorchServe does not take: pack it"
    ]


# What is said


def test_verify_files_says_what_was_not_checked(
    war: Path, asked: Callable[[], list[list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify_files([war], as_json=False) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{war}: loads, unproven · 4 members · 0 golden samples · ")
    for line in NOT_LOOKED_FOR:
        assert f"  not checked: {line}\n" in out


def test_card_holds_the_spec_as_torchserve_takes_it(war: Path) -> None:
    card = read_card(war)
    assert card.problems == []
    assert not card.claims_proof
    assert card.manifest["workflow"] == {
        "workflowName": "flow", "specFile": "flow.yaml", "handler": "flow.py",
    }  # fmt: skip
    settings = {
        "max-workers": 1, "batch-size": 1, "max-batch-delay": 50, "retry-attempts": 1,
        "timeout-ms": 10_000,
    }  # fmt: skip
    assert card.config == {
        "models": {
            name: {"url": f"{name}.mar", "settings": settings, "min_workers": None}
            for name in ("m1", "m2")
        },
        "dag": {"pre": ["m1"], "m1": ["m2"]},
    }
    assert set(card.members) == set(members_of(war))


def test_inspect_shows_models_and_graph(
    war: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert inspect(war, Layout(root=tmp_path), as_json=False) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    settings = "max-workers 1, batch-size 1, max-batch-delay 50, retry-attempts 1, timeout-ms 10000"
    for line in (
        "workflow flow", "spec flow.yaml", "handler flow.py", f"model m1 m1.mar: {settings}",
        "node pre → m1", "node m1 → m2", "node m2 → the answer",
    ):  # fmt: skip
        assert line in lines
    assert inspect(war, Layout(root=tmp_path), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["config"]["dag"] == {"pre": ["m1"], "m1": ["m2"]}


def test_inspect_of_a_broken_workflow_tells_its_problems(
    war: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = rewrite(war, tmp_path / "broken.war", {"flow.yaml": b"models: 1\n"})
    assert inspect(broken, Layout(root=tmp_path), as_json=False) == VerifyError.exit_code
    out = capsys.readouterr().out
    assert "problem: flow.yaml: models: 1 is no mapping" in out
    assert "problem: flow.yaml: dag: missing" in out


def test_difference_of_two_workflows_names_the_keys(war: Path, tmp_path: Path) -> None:
    longer = edited(war, "flow.yaml", "  m1: {url: m1.mar}", "  m1: {url: m1.mar, batch-size: 4}")
    lines = difference(war, rewrite(war, tmp_path / "other.war", longer))
    assert "           models.m1.batch-size: new, 4" in lines


def test_run_says_that_the_models_are_elsewhere(war: Path) -> None:
    with pytest.raises(VerifyError, match="a workflow, whose models are elsewhere: run those"):
        run(war, [(b"1", "text/plain")])


def test_proof_of_a_model_says_nothing_of_a_workflow(here: Path) -> None:
    members: dict[str, bytes | str] = {
        **strangers(), INVENTORY: '{"format": 2, "proven": true, "members": {}}', PROOF: "{}",
    }  # fmt: skip
    report = verify(written(here / "theirs.war", members))
    assert not report.proven
    assert report.problems == [
        f"{PROOF}: Object missing required field `recipe`",
    ]


# With TorchServe's own loader


@pytest.mark.torch
def test_a_sound_workflow_passes_in_a_clean_process(war: Path) -> None:
    make({"flow.py": f"import json\nimport units\n{FLOW}", "units.py": "ONE = 1\n"})
    make({"flow.yaml": SPEC.replace("[m2]", "[m2]\n  m2: [post]")})
    with Path("flow.py").open("a") as file:
        file.write("def post(data, context):\n    return None if data is None else [b'1']\n")
    seconds: dict[str, float] = {}
    report = verify(packing_workflow(force=True).path, timed=seconds.__setitem__)
    assert report.problems == []
    assert report.unchecked == NOT_LOOKED_FOR
    assert seconds["load"] > 0


@pytest.mark.torch
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import not_there\n" + FLOW, "ModuleNotFoundError: No module named 'not_there'"),
        ("def pre(data, context):\n    return [data[0]]\n",
         "TypeError: 'NoneType' object is not subscriptable"),
        ("pre = 3\n", "TypeError: 'int' object is not callable"),
        ("import handlers.mine\n" + FLOW, "ModuleNotFoundError: No module named 'handlers'"),
    ],
)  # fmt: skip
def test_functions_that_cannot_be_loaded_are_named(here: Path, source: str, problem: str) -> None:
    report = verify(written(here / "theirs.war", {**strangers(), "flow.py": source}))
    assert report.problems == [
        f"flow.py:pre: TorchServe cannot load it: {problem} (pre is called once with None for data "
        "when it is loaded)"
    ]


@pytest.mark.torch
def test_handler_in_a_folder_is_found_as_torchserve_finds_it(here: Path) -> None:
    theirs = {**strangers(handler="steps/flow.py"), "steps/flow.py": f"import beside\n{FLOW}"}
    report = verify(written(here / "theirs.war", {**theirs, "steps/beside.py": ""}))
    assert report.problems == []
