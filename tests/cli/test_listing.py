"""What a table says of a model as it was last built."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from marwright.archive.types import to_json
from marwright.parity.types import Agreement
from marwright.pipeline.facts import _refused, facts_of
from marwright.pipeline.keys import digest
from marwright.pipeline.layout import Layout
from marwright.pipeline.state import Output, Record, write_record
from marwright.pipeline.status import Status
from marwright.pipeline.steps.train import STEP as TRAIN
from tests.archive.tiny import image_meta, parity_report
from tests.report.train_reports import classifier
from tests.training.conftest import image_recipe


def recorded(layout: Layout, step: str, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    """Record a step of the model `tiny` with these digests."""
    made = {
        layout.output("tiny", name): Output(sha256=sha, size=0, mtime_ns=0, ctime_ns=0, inode=0)
        for name, sha in outputs.items()
    }
    parts = {f"input {name}": sha for name, sha in inputs.items()}
    path = layout.record("tiny", step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(Record(step=step, key="", parts=parts, outputs=made, note=""), path)


@pytest.mark.parametrize("changed", ["weights.safetensors", "meta.json", "train", "parity"])
def test_exports_of_another_checkpoint_are_marked(tmp_path: Path, changed: str) -> None:
    """Also where a broken build left no record, so that nobody knows."""
    layout = Layout(root=tmp_path)
    layout.folder("tiny").mkdir(parents=True)
    (layout.folder("tiny") / "parity.json").write_bytes(to_json(parity_report()))
    checkpoint = {"weights.safetensors": "w", "meta.json": "m"}
    recorded(layout, "train", {}, checkpoint | ({changed: "other"} if "." in changed else {}))
    recorded(layout, "parity", checkpoint, {})
    if "." not in changed:
        layout.record("tiny", changed).unlink()
    assert facts_of("tiny", layout).exports.endswith("25 % of limit (another checkpoint)")


@pytest.mark.parametrize(
    ("drop", "shown"),
    [(0.0, "+0.00"), (-0.0, "+0.00"), (1e-5, "+0.00"), (-1e-5, "+0.00"), (0.0025, "-0.25"),
     (-0.0025, "+0.25")],
)  # fmt: skip
def test_what_a_precision_costs_is_never_a_negative_zero(
    tmp_path: Path, drop: float, shown: str
) -> None:
    layout = Layout(root=tmp_path)
    folder = layout.folder("tiny")
    folder.mkdir(parents=True)
    agreed = Agreement(
        backend="torchscript", samples=10, metric="accuracy", reference=0.9, measured=0.9 - drop,
        drop=drop, interval=(drop, drop), flips=0, forgiven=0,
    )  # fmt: skip
    report = msgspec.structs.replace(parity_report(), precision="bf16", agreement=[agreed])
    (folder / "parity.json").write_bytes(to_json(report))
    (folder / "meta.json").write_bytes(to_json(image_meta()))
    recorded(layout, "train", {}, {"weights.safetensors": "w", "meta.json": "m"})
    recorded(layout, "parity", {"weights.safetensors": "w", "meta.json": "m"}, {})
    facts = facts_of("tiny", layout)
    assert facts.exports == f"≤ 1.0e-06, 25 % of limit, bf16 {shown} points"
    assert facts.metric == "accuracy 0.7500 (baseline 0.2500)"
    assert facts.published == "–"


def test_whether_a_refused_training_would_be_the_same_is_not_known_while_it_waits(
    tmp_path: Path,
) -> None:
    """As of a model whose parent is to be trained first."""
    layout, recipe = Layout(root=tmp_path), image_recipe()
    failed = layout.failed(recipe.name, "train")
    failed.mkdir(parents=True)
    (failed / "train.json").write_bytes(to_json(classifier(2)))
    parts = {"data": "d"}
    (failed / "key").write_text(digest(parts), encoding="utf-8")
    stale = Status(step=TRAIN, state="stale", parts=parts)
    assert _refused(stale, recipe, layout).startswith("train was refused: accuracy 0.8831 on the")
    assert _refused(Status(step=TRAIN, state="waits"), recipe, layout) == ""


def test_what_was_never_built_is_a_dash(tmp_path: Path) -> None:
    facts = facts_of("tiny", Layout(root=tmp_path))
    assert (facts.metric, facts.exports, facts.published) == ("–", "–", "–")
