"""The pages that a person looks at: of what failed, and the index of all models."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import msgspec
import pytest

from marwright.archive.types import to_json
from marwright.parity.types import ParityReport, Problem
from marwright.pipeline.layout import Layout
from marwright.pipeline.report import draw_failed, draw_index
from marwright.pipeline.state import Output, Record, write_record
from marwright.pipeline.step import Job
from marwright.pipeline.steps import report as step
from marwright.recipe.types import Recipe
from marwright.training.types import write_report
from tests.archive.tiny import answers_report, image_meta, image_recipe, parity_report
from tests.report.html import links, words
from tests.report.reports import quantised
from tests.report.train_reports import classifier, regression

INT8 = image_recipe(export={"precision": "int8"})
WRONG: ParityReport = msgspec.structs.replace(
    parity_report(), ok=False, problems=[Problem(check="power", backend="checkpoint", text="flat")]
)
REPORTS = {
    "quantise": quantised(ok=False),
    "parity": WRONG,
    "answers": answers_report("sample 3 is answered with 500"),
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A project with a model that was built, as far as its page goes."""
    layout = Layout(root=tmp_path)
    folder = layout.folder("tiny_image")
    folder.mkdir(parents=True)
    (folder / "meta.json").write_bytes(to_json(image_meta()))
    (folder / "parity.json").write_bytes(to_json(parity_report()))
    (folder / "report.html").write_text("<!doctype html>")
    of_checkpoint(layout, "w")
    return layout


def of_checkpoint(layout: Layout, weights: str) -> None:
    """Record that the model was trained with these weights, and all else made of `w`."""
    for name, sha in (("train", weights), ("parity", "w"), ("report", "w")):
        outputs = {
            layout.output("tiny_image", file): Output(
                sha256=sha, size=0, mtime_ns=0, ctime_ns=0, inode=0
            )
            for file in ("weights.safetensors", "meta.json")
        }
        record = Record(step=name, key="", parts={"input meta.json": sha}, outputs=outputs, note="")
        layout.record("tiny_image", name).parent.mkdir(exist_ok=True)
        write_record(record, layout.record("tiny_image", name))


def fail(layout: Layout, name: str) -> Path:
    """Leave what a step leaves when it fails; returns its page."""
    failed = layout.failed("tiny_image", name)
    failed.mkdir(parents=True)
    (failed / f"{name}.json").write_bytes(to_json(REPORTS[name]))
    draw_failed(INT8, failed)
    return failed / "report.html"


def index(
    layout: Layout,
    recipe: Recipe = INT8,
    *,
    failed: str = "",
    stale: str = "",
    unreadable: dict[str, str] | None = None,
) -> tuple[str, list[str]]:
    """Return what the index says of the model, and where it leads."""
    name = recipe.name
    draw_index(
        {name: recipe}, layout, failed_steps={name: failed} if failed else {},
        stale={name: stale}, unreadable=unreadable or {},
    )  # fmt: skip
    html = (layout.root / "build/index.html").read_text(encoding="utf-8")
    return words(html).partition("accuracy 0.7500 (baseline 0.2500) ")[2], links(html)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("quantise", "Quantisation to int8 ✗ Fails In int8, accuracy drops by 23.1 points"),
        ("parity", "✗ The exports do not agree 1 problem; 0 failing cases of 1."),
        ("answers", "What is wrong sample 3 is answered with 500"),
    ],
)
def test_what_failed_has_a_page_that_says_why(layout: Layout, name: str, says: str) -> None:
    assert says in words(fail(layout, name).read_text(encoding="utf-8"))


def test_what_failed_without_a_report_has_no_page(layout: Layout) -> None:
    failed = layout.failed("tiny_image", "train")
    failed.mkdir(parents=True)
    draw_failed(INT8, failed)
    assert [*failed.iterdir()] == []


def test_index_leads_to_what_was_built(layout: Layout) -> None:
    assert index(layout) == ("agree 0.25 current", ["tiny_image/report.html"])


@pytest.mark.parametrize(
    ("name", "exports"),
    # What stands behind quantising is of an earlier build; what answers fail over has passed.
    [("quantise", "not compared –"), ("parity", "✗ do not agree 0.25"), ("answers", "agree 0.25")],
)
def test_index_leads_to_what_fails(layout: Layout, name: str, exports: str) -> None:
    fail(layout, name)
    said = f"{exports} ✗ fails in {name}"
    assert index(layout) == (said, [f"tiny_image/failed/{name}/report.html"])


def test_index_leads_to_the_first_failure(layout: Layout) -> None:
    for name in ("answers", "quantise", "parity"):
        fail(layout, name)
    assert index(layout) == (
        "not compared – ✗ fails in quantise",
        ["tiny_image/failed/quantise/report.html"],
    )
    # A recipe without int8 has no such step.
    assert index(layout, image_recipe())[1] == ["tiny_image/failed/parity/report.html"]


def test_failure_without_a_page_does_not_lead_to_what_was_built_before(layout: Layout) -> None:
    (layout.failed("tiny_image", "parity") / "repro").mkdir(parents=True)
    assert index(layout) == ("not compared – ✗ fails in parity", [])


def test_index_says_what_failed_before_the_gate(layout: Layout) -> None:
    """A step that leaves no folder has failed all the same, and what was built is an older one."""
    assert index(layout, failed="train", stale="train is stale") == (
        "(the checkpoint before) not compared – ✗ fails in train", []
    )  # fmt: skip


def test_index_says_what_is_not_current(layout: Layout) -> None:
    said, _ = index(layout, stale="train is stale")
    assert said == "agree 0.25 train is stale"


def test_index_marks_what_is_of_another_checkpoint(layout: Layout) -> None:
    of_checkpoint(layout, "trained anew")
    assert index(layout, stale="trace is stale")[0] == (
        "agreed (another checkpoint) 0.25 trace is stale"
    )
    html = (layout.root / "build/index.html").read_text(encoding="utf-8")
    assert "tiny_image (the page of another checkpoint) 1.2" in words(html)


def test_a_training_that_is_not_good_enough_has_its_own_page(layout: Layout) -> None:
    """And not that of the checkpoint before it."""
    failed = layout.failed("tiny_image", "train")
    failed.mkdir(parents=True)
    report = classifier(3)
    write_report(report, failed / "train.json")
    write_report(regression(), failed.parent.parent / "train.json")
    draw_failed(INT8, failed)
    text = words((failed / "report.html").read_text(encoding="utf-8"))
    assert "hedgehog" in text and "progression" not in text


def test_index_has_recipes_that_cannot_be_read(layout: Layout) -> None:
    said, _ = index(layout, unreadable={"broken": "archive/broken.toml: not TOML: <here>"})
    assert said == "agree 0.25 current broken ✗ archive/broken.toml: not TOML: <here>"
    html = (layout.root / "build/index.html").read_text(encoding="utf-8")
    assert "2 models, 1 failing" in words(html)
    assert "<here>" not in html


@pytest.mark.parametrize("names", [("parity", "answers"), ("quantise", "parity", "answers")])
def test_step_draws_what_quantising_cost_where_there_is_such_a_report(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    passed = {"quantise": quantised(), "parity": parity_report(), "answers": answers_report()}
    for name in names:
        (tmp_path / f"{name}.json").write_bytes(to_json(passed[name]))
    # As the pipeline gives them: of the declared inputs those that there are.
    files = {name: tmp_path / name for name in step.STEP.inputs if (tmp_path / name).exists()}
    job = Job(recipe=INT8, root=tmp_path, inputs=files, out=tmp_path, failed=tmp_path / "failed",
              resume=tmp_path / "resume", key="", progress=lambda *_: None)  # fmt: skip
    assert step.run(job).endswith(" KiB")
    text = words((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Answers ✓ Passes" in text
    assert ("Quantisation to int8 ✓ Passes" in text) == ("quantise" in names)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("screen", ["DISPLAY", "WAYLAND_DISPLAY", ""])
def test_browser_opens_only_for_a_person_at_a_screen(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, screen: str, *, terminal: bool
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    if screen:
        monkeypatch.setenv(screen, ":0")
    index(layout)
    assert len(opened) == (terminal and bool(screen))
