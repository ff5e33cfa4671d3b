"""A wrong or worthless model does not ship: from recipes on the command line to their archives."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from marwright.files import sha256_file
from tests.projects import archives, built, edit, make_project, pipeline, steps_run
from tests.report.html import words

pytestmark = pytest.mark.torch

ANY = '\nminimum_metric = "any"'
FLOWERS = """\
version = "1.0"
task = "classification"
data = { dataset = "csv", files = ["flowers.csv"], params = { target = "name" } }
preprocess = { kind = "table" }
model = { factory = "mlp" }
fit = { epochs = 12, learning_rate = 1e-2 }
serve = { handler = "classify_table" }
"""


def row_of(table: str, model: str) -> str:
    """Return the last line of a model: of a build, that of the table."""
    return [line for line in table.splitlines() if line.startswith(f"{model} ")][-1]


# --- the baseline -----------------------------------------------------------------------------


def test_what_is_not_above_its_baseline_is_not_published(project: Path) -> None:
    before = archives(project)
    edit(project, "archive/tiny_a.toml", ANY, "\nlearning_rate = 1e-6")
    done = pipeline(project, "archive", "--model", "tiny_a")
    assert done.returncode == 6
    assert "is not above its baseline, -0.0" in done.stderr
    assert '[fit] minimum_metric = "any" to ship it all the same' in done.stderr
    assert "Traceback" not in done.stderr
    # What a person looks at, of this training and not of the one before.
    page = project / "build/tiny_a/failed/train/report.html"
    assert "Always answering the mean of the training split has" in words(page.read_text("utf-8"))
    assert archives(project) == before
    row = row_of(built(project, "list"), "tiny_a")
    assert "(baseline -0.0074) (the checkpoint before)" in row
    assert re.search(
        r"train was refused: r2 -?\d\.\d{4} on the test split is not above its baseline, -0\.0074$",
        row.rstrip(),
    )
    # Of another training nothing is known, and another minimum may allow it.
    edit(project, "archive/tiny_a.toml", "= 1e-6", "= 1e-7")
    assert row_of(built(project, "list"), "tiny_a").rstrip().endswith(" train is stale")
    edit(project, "archive/tiny_a.toml", "= 1e-7", f"= 1e-6{ANY}")
    assert row_of(built(project, "list"), "tiny_a").rstrip().endswith(" train is stale")
    edit(project, "archive/tiny_a.toml", ANY, "")
    # A number below does not switch it off.
    edit(project, "archive/tiny_a.toml", "= 1e-6", "= 1e-6\nminimum_metric = -1000.0")
    assert pipeline(project, "train", "--model", "tiny_a").returncode == 6


def test_another_minimum_judges_anew_and_trains_nothing(project: Path) -> None:
    weights = project / "build/tiny_a/weights.safetensors"
    before = sha256_file(weights)
    edit(project, "archive/tiny_a.toml", ANY, "\nminimum_metric = 0.9")
    done = pipeline(project, "train", "--model", "tiny_a")
    assert done.returncode == 6
    assert "below [fit] minimum_metric = 0.9; its baseline is -0.0" in done.stderr
    assert "epoch" not in (project / "build/tiny_a/log/train.log").read_text(encoding="utf-8")
    said = row_of(built(project, "list"), "tiny_a").rstrip()
    assert said.endswith("on the test split, below [fit] minimum_metric = 0.9")
    assert "the checkpoint before" not in said
    edit(project, "archive/tiny_a.toml", "\nminimum_metric = 0.9", f"{ANY}   # once more")
    said = built(project, "train", "--model", "tiny_a")
    assert said.startswith("up to date")
    edit(project, "archive/tiny_a.toml", 'minimum_metric = "any"', "minimum_metric = -9.0")
    said = built(project, "train", "--model", "tiny_a")
    assert steps_run(said) == {"tiny_a": ["train"]} and "as it was trained, judged anew" in said
    assert sha256_file(weights) == before


# --- what belongs to another checkpoint -------------------------------------------------------


def test_what_is_of_another_checkpoint_is_marked(project: Path) -> None:
    fresh = built(project, "list")
    assert "exports agree" in fresh and "parity" not in fresh.partition("\n")[0]
    assert "another checkpoint" not in fresh
    assert "(baseline -0.0074)" in row_of(fresh, "tiny_a")
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 3")
    for table in (built(project, "train"), built(project, "list")):
        assert row_of(table, "tiny_a").count("(another checkpoint)") == 2
    # What makes the same weights is of the same checkpoint.
    edit(project, "archive/tiny_b.toml", "epochs = 2", "epochs = 2\npatience = 11")
    assert "another checkpoint" not in row_of(built(project, "train"), "tiny_b")
    assert "another checkpoint" not in row_of(built(project, "archive"), "tiny_a")


# --- labels, and heads ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a table of three labels, a model of it, and its plain weights."""
    project = make_project(tmp_path_factory.mktemp("flowers") / "project", models=())
    draw, rows = random.Random(0), ["long,wide,name"]
    for at in range(240):
        name = ("rose", "aster", "tulip")[at % 3]
        middle = {"rose": (0, 0), "aster": (5, 0), "tulip": (0, 5)}[name]
        rows.append(f"{draw.gauss(middle[0], 1):.3f},{draw.gauss(middle[1], 1):.3f},{name}")
    (project / "flowers.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (project / "archive/first.toml").write_text(FLOWERS, encoding="utf-8")
    built(project, "train", "--model", "first")
    weights = load_file(project / "build/first/weights.safetensors")
    torch.save(weights, project / "plain.pt")
    return project


def recipe(project: Path, *, labels: str = "", model: str = "", fit: str = "") -> None:
    """Write a recipe that starts from the plain weights."""
    text = FLOWERS.replace('target = "name" } }', f'target = "name" }}{labels} }}')
    text = text.replace('"mlp" }', f'"mlp", init_from = "plain.pt"{model} }}')
    (project / "archive/second.toml").write_text(text.replace("epochs = 12", f"epochs = 1{fit}"))


def second(project: Path) -> tuple[int, str]:
    done = pipeline(project, "train", "--model", "second")
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_head_of_unknown_labels_is_refused_before_training(flowers: Path) -> None:
    recipe(flowers)
    code, said = second(flowers)
    assert code == 6
    assert "plain.pt: nothing says which labels its head" in said
    assert "and here they are aster, rose, tulip: set [model] init_labels" in said
    recipe(flowers, model=', init_labels = "same"')
    code, said = second(flowers)
    assert code == 3 and 'init_labels = "same" needs [data] labels' in said


@pytest.mark.parametrize("labels", ['["aster", "rose"]', '["aster", "rose", "tulip", "lily"]'])
def test_labels_of_another_count_than_the_heads_are_refused_before_training(
    flowers: Path, labels: str
) -> None:
    recipe(flowers, model=f", init_labels = {labels}")
    code, said = second(flowers)
    assert code == 6 and "epoch" not in said
    count = labels.count(",") + 1
    assert "archive/second.toml: [model] init_labels says that the head of plain.pt" in said
    assert f"answers {count} labels, and it has 3 outputs (" in said


@pytest.mark.parametrize("labels", ["[]", '["aster"]', '["aster", "rose", "aster"]'])
def test_labels_that_no_head_can_have_are_refused_with_the_recipe(
    flowers: Path, labels: str
) -> None:
    recipe(flowers, model=f", init_labels = {labels}")
    code, said = second(flowers)
    assert code == 3 and "archive/second.toml: [model] init_labels: " in said


def test_a_file_fixes_the_order_of_labels_and_is_in_the_key(flowers: Path) -> None:
    names = flowers / "index_to_name.json"
    names.write_text('\ufeff{"0": ["x", "tulip"], "1": ["x", "aster"], "2": ["x", "rose"]}')
    recipe(
        flowers, labels=', labels = "index_to_name.json"',
        model=', init_labels = ["aster", "rose", "tulip"]',
    )  # fmt: skip
    code, said = second(flowers)
    assert code == 0, said
    meta = json.loads((flowers / "build/second/meta.json").read_bytes())
    assert meta["labels"] == ["tulip", "aster", "rose"]
    # Of one epoch: what was learned before was put into this order.
    assert meta["metrics"]["accuracy"] > 0.9 and meta["gain"][0] > 0.3
    assert second(flowers)[1].startswith("up to date")
    names.write_text('["rose", "aster", "tulip"]')
    code, said = second(flowers)
    assert code == 0 and steps_run(said) == {"second": ["train", "trace"]}
    assert "data index_to_name.json: changed" in said
    names.write_text('["rose", "aster", "lily"]')
    code, said = second(flowers)
    assert code == 5 and "index_to_name.json: does not name 'tulip', of which there are" in said
    names.write_text('["rose", "aster", "rose"]')
    code, said = second(flowers)
    assert code == 3 and "index_to_name.json: the label 'rose' is there twice" in said


def test_a_head_that_is_said_to_stand_otherwise_does_not_ship(flowers: Path) -> None:
    """And the error says in which order its labels are."""
    recipe(
        flowers, labels=', labels = ["rose", "tulip", "aster"]', model=', init_labels = "same"',
        fit=", weight_decay = 0.0",
    )  # fmt: skip
    edit(flowers, "archive/second.toml", "learning_rate = 1e-2", "learning_rate = 1e-9")
    code, said = second(flowers)
    assert code == 6
    assert "accuracy 0.0" in said and "is not above its baseline" in said
    assert "is the order of its labels another? If its outputs stand for aster, rose, tulip" in said


def test_a_recipe_of_ours_with_other_columns_gives_no_first_layer(flowers: Path) -> None:
    text = (flowers / "flowers.csv").read_text(encoding="utf-8")
    turned = [",".join([wide, long, name]) for long, wide, name in
              (line.split(",") for line in text.splitlines())]  # fmt: skip
    (flowers / "turned.csv").write_text("\n".join(turned) + "\n", encoding="utf-8")
    child = FLOWERS.replace("flowers.csv", "turned.csv")
    child = child.replace('"mlp" }', '"mlp", init_from = "recipe:first" }')
    (flowers / "archive/turned.toml").write_text(child, encoding="utf-8")
    built(flowers, "train", "--model", "turned")
    start = json.loads((flowers / "build/turned/train.json").read_bytes())["start"]
    assert start["loaded"] == ["3.bias", "3.weight"]
    why = "reads the columns, or their categories, in another order"
    assert start["skipped"] == {"0.bias": why, "0.weight": why}
