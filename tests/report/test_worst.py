"""The worst inputs, as pictures and as bars."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from marwright.parity.types import ParityReport, Worst
from marwright.report.worst import bars, picture, worst_section
from tests.report import reports
from tests.report.html import words

HEALTHY, TABLE = reports.healthy(9, 3), reports.healthy(9, 3, "regression")


def worst(
    reference: list[float | None], output: list[float | None], elements: list[int] | None = None
) -> Worst:
    return Worst(
        kind="held-out", backend="int8", batch=1, name="sample 5", ratio=-1, max_error=0.5,
        elements=elements or [*range(len(reference))], reference=reference, output=output,
    )  # fmt: skip


def body(report: ParityReport) -> str:
    section = worst_section(report)
    assert section is not None
    return section.body


def test_bars_start_at_zero_and_fill_the_room() -> None:
    shown = bars(worst([-1.0, 3.0], [-1.0, 2.0]), [])
    assert [(bar.label, bar.reference, bar.output) for bar in shown] == [
        ("1", 3.0, 2.0), ("0", -1.0, -1.0)
    ]  # fmt: skip
    assert [bar.bars for bar in shown] == [
        ((25.0, 75.0), (25.0, 50.0)), ((0.0, 25.0), (0.0, 25.0))
    ]  # fmt: skip


def test_outputs_are_named_by_their_labels() -> None:
    shown = bars(worst([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [4, 0, 2]), ["a", "b", "c"])
    assert [bar.label for bar in shown] == ["c", "a", "4"]


@pytest.mark.parametrize("value", [0.0, 1.797_693e308, -1.797_693e308])
def test_bars_of_any_value_fit_into_their_room(value: float) -> None:
    for bar in bars(worst([value, 0.0], [-value, 0.0]), []):
        for start, length in bar.bars:
            assert 0 <= start <= start + length <= 100.1


@pytest.mark.parametrize(
    ("size", "shown", "pixels"),
    [
        ((8, 8), (176, 176), True),
        ((28, 28), (168, 168), True),
        ((64, 32), (128, 64), True),
        ((224, 224), (176, 176), False),
        ((300, 1), (176, 1), False),
    ],
)
def test_small_pictures_are_enlarged_by_whole_pixels(
    size: tuple[int, int], shown: tuple[int, int], pixels: bool
) -> None:
    found = picture(reports.picture(*size))
    assert found is not None
    assert (found.width, found.height) == shown
    assert found.pixels is pixels


@pytest.mark.parametrize(
    "png",
    [
        "",
        "not base64 at all",
        "ä",
        base64.b64encode(b"GIF89a" + bytes(40)).decode(),
        base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode(),
        reports.picture(8, 8)[:20],
        reports.picture(8, 8) + '"><script>',
    ],
)
def test_what_is_no_picture_is_not_shown_as_one(png: str) -> None:
    assert picture(png) is None
    one = msgspec.structs.replace(HEALTHY.worst[0], png=png)
    shown = body(msgspec.structs.replace(HEALTHY, worst=[one]))
    assert "<img" not in shown
    assert ("is not a PNG" in shown) == bool(png)


def test_a_label_that_flipped_is_told_with_the_margin() -> None:
    quantised = msgspec.structs.replace(HEALTHY.worst[0], backend="int8", ratio=-1.0, margin=1.25)
    shown = words(body(msgspec.structs.replace(HEALTHY, worst=[quantised])))
    assert "; of int8, those with another label where the checkpoint is surest." in shown
    assert "largest error 1.5e-5 , another label over a margin of 1.2" in shown
    shown = words(body(HEALTHY))
    assert "largest error for their limit." in shown
    assert "another label" not in shown


def test_a_card_says_what_was_asked_and_answered() -> None:
    shown = body(HEALTHY)
    assert shown.count("<article") == shown.count('<img class="pixels"') == 3
    text = words(shown)
    assert "sample 211 held-out; optimised ONNX at batch 7: ratio 0.47 , largest error" in text
    assert "class reference difference" in text
    assert all(label in text for label in HEALTHY.labels)


def test_a_row_is_shown_in_its_own_units() -> None:
    text = words(body(TABLE))
    assert "output reference difference 0" in text
    assert text.count("age ") == text.count("4 more values") == 3


def test_what_has_no_limit_has_no_ratio() -> None:
    text = words(body(msgspec.structs.replace(HEALTHY, worst=[worst([1.0], [1.5])])))
    assert "int8 ONNX at batch 1: largest error 0.5 class" in text


STRANGE = "NaN or ∞ at other places than the checkpoint's"


def strange(**values: Any) -> str:
    one = msgspec.structs.replace(worst([3.0, 1.0, -1.0], [3.0, None, -0.5]), **values)
    return body(msgspec.structs.replace(HEALTHY, worst=[one]))


def test_what_is_no_number_is_said_to_be_none() -> None:
    html = strange(strange=True, ratio=0.25)
    text = words(html)
    assert "The inputs with NaN or ∞ where the checkpoint has a number or the other way" in text
    assert f"at batch 1: {STRANGE} , elsewhere ratio 0.25 , largest error 0.5 class" in text
    assert "zero 3 0 one 1 NaN or ∞ two −1 0.5" in text
    assert '<span class="bad">NaN or ∞ at other' in html
    assert 'class="number bad">NaN or ∞<' in html
    # A bar for each number.
    assert html.count("margin-left") == 5
    # What only float32 cannot hold is no fault.
    assert STRANGE not in strange() and " bad" not in strange()
    assert "NaN" not in body(HEALTHY)


def test_what_has_no_number_at_all_has_no_error_either() -> None:
    text = words(strange(strange=True, ratio=-1.0, max_error=-1.0, output=[None] * 3))
    assert f"at batch 1: {STRANGE} class reference" in text


def test_bars_are_of_numbers_alone() -> None:
    shown = bars(worst([None, -1.0, None, 1.0], [None, None, 0.5, 1.0]), [])
    assert [(bar.label, bar.difference, bar.strange) for bar in shown] == [
        ("3", "0", False), ("1", "NaN or ∞", True), ("0", "–", False), ("2", "NaN or ∞", True)
    ]  # fmt: skip
    assert [bar.bars for bar in shown] == [
        ((50.0, 50.0), (50.0, 50.0)), ((0.0, 50.0), None), (None, None), (None, (50.0, 25.0))
    ]  # fmt: skip


def test_a_report_without_worst_inputs_has_no_such_section() -> None:
    assert worst_section(msgspec.structs.replace(HEALTHY, worst=[])) is None
