"""What a table says of a model as it was last built."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from archive.parity.types import Agreement
from archive.types import to_json
from pipeline.layout import Layout
from pipeline.listing import facts_of
from tests.archive.tiny import image_meta, parity_report


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
    facts = facts_of("tiny", layout)
    assert facts.parity == f"≤ 1.0e-06, 25 % of limit, bf16 {shown} points"
    assert facts.metric == "accuracy 0.7500"
    assert facts.published == "–"


def test_what_was_never_built_is_a_dash(tmp_path: Path) -> None:
    facts = facts_of("tiny", Layout(root=tmp_path))
    assert (facts.metric, facts.parity, facts.published) == ("–", "–", "–")
