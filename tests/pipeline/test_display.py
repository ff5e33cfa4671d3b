"""A step on no terminal: a line now and then, and how long it takes at most once that is known."""

from __future__ import annotations

import pytest

from marwright.pipeline import display as module
from marwright.pipeline.display import Display, ShownStep


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass only when a test says so; the step of a real run takes too long."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def lines(
    clock: list[float], capsys: pytest.CaptureFixture[str], parts: list[tuple[float, int]]
) -> list[str]:
    """Return the lines of a step of ten parts: (seconds that pass, how many parts are done)."""
    shown = ShownStep(Display(), "tiny", "train", ())
    capsys.readouterr()
    for seconds, done in parts:
        clock[0] += seconds
        shown.progress(done, 10, "loss 1")
    return [line.partition("loss 1")[2] for line in capsys.readouterr().out.splitlines()]


def test_the_first_part_says_nothing_of_the_others(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    # It took 130 s with what is compiled in it; nine more would have been 1170 s.
    assert lines(clock, capsys, [(130, 1)]) == [""]


def test_later_parts_tell_how_long_it_takes(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    said = lines(clock, capsys, [(130, 1), (6, 2), (6, 3), (6, 10)])
    assert said == ["", " · at most 48 s left", " · at most 42 s left", " · at most 0 s left"]


def test_first_part_counts_also_where_its_line_was_not_shown(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(clock, capsys, [(1, 1), (1, 2), (4, 3)]) == [" · at most 18 s left"]


def test_run_that_goes_on_knows_nothing_of_the_parts_before(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(clock, capsys, [(20, 6), (20, 7)]) == ["", " · at most 60 s left"]


def test_another_count_begins_anew(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(clock, capsys, [(20, 0), (20, 5), (20, 0), (20, 1), (20, 2)]) == [
        "", "", "", "", " · at most 160 s left"
    ]  # fmt: skip
