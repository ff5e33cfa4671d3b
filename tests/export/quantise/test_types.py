"""`quantise.json` cannot claim what it does not say, and names layers for a message."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from marwright.archive.types import from_json, to_json
from marwright.export.quantise.types import Attempt, LayerCost, QuantiseReport


def report(**values: Any) -> QuantiseReport:
    """A report of a model with one layer excluded, but for the values given."""
    said: dict[str, Any] = {
        "ok": True, "calibration_samples": 256, "validation_samples": 100, "metric": "accuracy",
        "float32": 0.99, "limit": 0.5, "drop": 0.0, "layers": 4, "excluded": ["a"],
        "sensitivity": [LayerCost(layer=name, op="Conv", error=error)
                        for name, error in (("a", 2.0), ("b", 0.25), ("c", 0.125), ("d", 0.01))],
        "attempts": [Attempt(excluded=0, drop=3.0), Attempt(excluded=1, drop=0.0)],
        "float32_bytes": 4000, "int8_bytes": 1000,
    }  # fmt: skip
    return QuantiseReport(**{**said, **values})


def test_what_is_written_is_read_again() -> None:
    assert from_json(to_json(report()), QuantiseReport) == report()


@pytest.mark.parametrize("values", [{"ok": False}, {"drop": 0.51}, {"drop": float("nan")}])
def test_a_report_that_contradicts_itself_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="says not"):
        report(**values)


def test_unknown_keys_are_refused() -> None:
    content = msgspec.json.decode(to_json(report()))
    with pytest.raises(ValueError, match="unknown field"):
        from_json(to_json(content | {"more": 1}), QuantiseReport)


def test_it_says_what_there_was_before_and_what_costs_the_most_now() -> None:
    assert report().drop_before == 3.0
    assert report().costliest(2) == "b (Conv, 0.25), c (Conv, 0.12)"
