"""Recipes that start from others: built after them, and stale with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marwright.pipeline.build import Trained
from tests.projects import edit, make_project, pipeline, steps_run, tiny

pytestmark = pytest.mark.torch


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = make_project(tmp_path / "project", models=("zz_parent",))
    child = tiny(3).replace("[model]\n", '[model]\ninit_from = "recipe:zz_parent"\n')
    (root / "archive" / "child.toml").write_text(child, encoding="utf-8")
    grandchild = child.replace("zz_parent", "child")
    (root / "archive" / "a_grandchild.toml").write_text(grandchild, encoding="utf-8")
    return root


def train(project: Path, *arguments: str) -> dict[str, list[str]]:
    done = pipeline(project, "train", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return steps_run(done.stdout)


def test_a_family_is_built_in_order(project: Path) -> None:
    # Of what is only started from, the training is enough.
    ran = train(project, "--model", "a_grandchild", "--jobs", "2")
    assert ran == {"zz_parent": ["train"], "child": ["train"], "a_grandchild": ["train", "trace"]}
    assert list(ran) == ["zz_parent", "child", "a_grandchild"]
    report = json.loads((project / "build" / "child" / "train.json").read_bytes())
    assert report["start"]["source"] == "recipe zz_parent"
    assert report["start"]["initialised"] == []
    assert train(project, "--model", "a_grandchild") == {}
    # A change of the parent's training reaches all who started from it.
    edit(project, "archive/zz_parent.toml", "epochs = 2", "epochs = 3")
    explained = pipeline(project, "explain", "--model", "child").stdout
    assert "waits for train of zz_parent" in explained
    assert train(project, "--model", "child") == {
        "zz_parent": ["train"],
        "child": ["train", "trace"],
    }
    assert train(project) == {"zz_parent": ["trace"], "a_grandchild": ["train", "trace"]}
    # One that leaves its weights as they are does not.
    edit(project, "archive/zz_parent.toml", "[serve]", "[postprocess]\ndecimals = 3\n\n[serve]")
    assert train(project) == {}


def test_who_starts_from_what_failed_is_not_built(project: Path) -> None:
    edit(project, "archive/zz_parent.toml", 'minimum_metric = "any"', "minimum_metric = 0.99")
    done = pipeline(project, "train")
    assert done.returncode != 0
    assert set(steps_run(done.stdout)) == {"zz_parent"}
    said = done.stdout + done.stderr
    assert "not built: zz_parent, which it starts from, is not trained" in said
    assert "not built: child, which it starts from, is not trained" in said
    # The table has nothing of an earlier build beside what failed.
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert rows["zz_parent"][-3:] == ["–", "–", "–"]


def test_what_fails_after_training_stops_no_child() -> None:
    trained = Trained()
    trained.tell(True)
    # That of the whole build, which failed later.
    trained.tell(False)
    assert trained.wait()
    failed = Trained()
    failed.tell(False)
    assert not failed.wait()


def test_a_damaged_parent_is_not_trained_again_by_verify(project: Path) -> None:
    train(project, "--model", "child,zz_parent")
    weights = project / "build" / "zz_parent" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    done = pipeline(project, "verify", "--model", "child,zz_parent")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "weights.safetensors" in said
    assert "it starts from zz_parent, which is not in order" in said
    assert steps_run(done.stdout) == {}
    # Nor where only the child is named.
    done = pipeline(project, "verify", "--model", "child")
    assert done.returncode != 0
    assert "weights.safetensors: changed since" in done.stdout + done.stderr
    assert steps_run(done.stdout) == {}


def test_a_look_at_a_child_trains_a_stale_parent_first(project: Path) -> None:
    assert steps_run(pipeline(project, "summary", "--model", "child").stdout) == {
        "zz_parent": ["train"]
    }
    assert steps_run(pipeline(project, "summary", "--model", "child").stdout) == {}
    edit(project, "archive/zz_parent.toml", "epochs = 2", "epochs = 3")
    assert steps_run(pipeline(project, "summary", "--model", "child").stdout) == {
        "zz_parent": ["train"]
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("recipe:zz_parent", "recipe:zz_parents", 'did you mean "zz_parent"?'),
        ("recipe:zz_parent", "recipe:child", "goes round in a circle: child → child"),
        (
            "recipe:zz_parent",
            "recipe:a_grandchild",
            "goes round in a circle: child → a_grandchild → child",
        ),
        ("recipe:zz_parent", "weights/none.pt", "[model] init_from: there is no weights/none.pt"),
        ("recipe:zz_parent", "../x.pt", "not below the project"),
        ("recipe:zz_parent", "recipe:examples/mnist", "it is recipe:<name>, or a file"),
        ("recipe:zz_parent", "recipes", "weights are in .safetensors, .pt, .pth files"),
        ("recipe:zz_parent", "README.md", "weights are in .safetensors, .pt, .pth files"),
    ],
)
def test_what_cannot_be_started_from_is_said(
    project: Path, old: str, new: str, message: str
) -> None:
    edit(project, "archive/child.toml", old, new)
    done = pipeline(project, "train", "--model", "child")
    assert done.returncode == 3
    assert message in done.stdout + done.stderr


def test_a_changed_file_of_weights_trains_anew(project: Path) -> None:
    train(project, "--model", "zz_parent")
    (project / "weights").mkdir()
    file = project / "weights" / "own.safetensors"
    content = (project / "build" / "zz_parent" / "weights.safetensors").read_bytes()
    file.write_bytes(content)
    edit(project, "archive/child.toml", "recipe:zz_parent", "weights/own.safetensors")
    assert train(project, "--model", "child") == {"child": ["train", "trace"]}
    assert train(project, "--model", "child") == {}
    file.write_bytes(content + b"\0")
    assert "train" in train_failing(project)


def train_failing(project: Path) -> str:
    done = pipeline(project, "train", "--model", "child")
    assert done.returncode == 6
    assert "weights/own.safetensors: no weights can be read from it" in done.stdout + done.stderr
    return done.stdout
