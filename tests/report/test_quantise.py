"""What int8 costs and saves, as a section."""

from __future__ import annotations

import msgspec

from marwright.export.quantise.types import Attempt, LayerCost, QuantiseReport
from marwright.report.page import page_of
from marwright.report.quantise import quantise_section
from tests.report.html import faults, words
from tests.report.reports import quantised


def html(report: QuantiseReport) -> str:
    page = page_of([quantise_section(report)], title="t", subtitle="s")
    assert [*faults(page)] == []
    return page


def test_what_passes_says_what_it_costs_and_saves() -> None:
    text = words(html(quantised()))
    assert (
        "✓ Passes In int8, accuracy drops by 0.27 points on 270 validation samples; 0.5 are "
        "allowed. That is with 2 of 20 layers left in float32; with none, it drops by 3.02."
    ) in text
    assert "Drop of accuracy 0.27 points, of 0.5 allowed; in float32 it is 0.98889" in text
    assert "Size 11.3 MiB 25 % of the float32 file's 44.6 MiB" in text
    assert "Layers in int8 18 of 20" in text
    assert "Calibrated on 256 training samples" in text
    assert "✗ too much 0 3.02 ✗ too much 1 1.1 ✓ allowed 2 0.27" in text


def test_layers_that_stay_in_float32_are_named_with_what_the_others_cost() -> None:
    text = words(html(quantised()))
    rows = (
        "node_Conv_0 Conv 0.4 float32 node_Conv_7 Conv 0.235 float32 node_Conv_14 Conv 0.138 int8"
    )
    assert rows in text
    assert text.count("float32 node_") == 2
    assert "10 more layers those that cost less" in text
    assert "measured with their neighbours" not in text
    few = words(html(quantised(layers=3)))
    assert "more layers" not in few


def test_every_layer_that_stays_in_float32_is_in_sight() -> None:
    report = quantised(layers=30)
    excluded = [cost.layer for cost in report.sensitivity[:15]]
    in_sight, _, rest = html(msgspec.structs.replace(report, excluded=excluded)).partition("<det")
    assert in_sight.count(">float32</span>") == 15
    assert rest.count("<code>") == 15


def test_layers_that_were_not_measured_alone_are_counted() -> None:
    report = quantised()
    shared = [msgspec.structs.replace(cost, together=4) for cost in report.sensitivity[4:]]
    costs = [*report.sensitivity[:4], *shared]
    text = words(html(msgspec.structs.replace(report, sensitivity=costs)))
    assert "16 layers were measured with their neighbours: of each there is its share (≈)." in text
    assert text.count(" Conv ≈ ") == 16


def test_what_fails_says_what_was_tried() -> None:
    text = words(html(quantised(ok=False)))
    assert (
        "✗ Fails In int8, accuracy drops by 23.1 points on 270 validation samples; 0.5 are "
        "allowed. Leaving layers in float32 does not mend it."
    ) in text
    assert "Layers in int8 20 of 20" in text
    assert "✗ too much 0 23.1 ✗ too much 1 21 ✗ too much 2 9.5 ✗ too much 4 7.25" in text
    assert "node_Conv_0 Conv 0.4 int8" in text
    alone = msgspec.structs.replace(quantised(ok=False), attempts=[Attempt(excluded=0, drop=23.1)])
    text = words(html(alone))
    assert "mend" not in text and "too much" not in text


def test_outputs_that_are_no_numbers_cost_infinitely_much() -> None:
    """JSON has no infinity; `quantise` writes 2 ** 64 for it."""
    infinite = float(2**64)
    report = msgspec.structs.replace(
        quantised(ok=False),
        drop=infinite,
        attempts=[Attempt(excluded=0, drop=infinite)],
        sensitivity=[LayerCost(layer="node_Conv_0", op="Conv", error=infinite)],
        layers=1,
    )
    text = words(html(report))
    assert "In int8, accuracy drops by ∞ points" in text
    assert "node_Conv_0 Conv ∞ int8" in text


def test_names_of_layers_are_escaped() -> None:
    cost = LayerCost(layer="<script>", op="<b>", error=1.0)
    html(msgspec.structs.replace(quantised(), sensitivity=[cost], excluded=[]))
