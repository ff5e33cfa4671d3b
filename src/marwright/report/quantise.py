"""What int8 costs and what it saves, as a section."""

from __future__ import annotations

from marwright.export.quantise.types import QuantiseReport
from marwright.report.numbers import number, plural
from marwright.report.page import Section, render, verdict_box
from marwright.report.templates.quantise import QUANTISE

# Layers that are in sight, at least: those that stay in float32 all are.
_LAYERS = 10
# What `quantise` writes where outputs are not finite, as JSON has no infinity.
_INFINITE = float(2**64)


def quantise_section(report: QuantiseReport) -> Section:
    """Say what int8 costs of the metric, how large both files are, and which layers stay float32.

    All of it was measured on the validation split; the parity gate measures the test split.
    """
    rows = [
        (cost, _shown(cost.error), cost.layer in report.excluded) for cost in report.sensitivity
    ]
    body = render(
        QUANTISE,
        verdict=verdict_box(ok=report.ok, text=_sentence(report)),
        report=report,
        drop=_shown(report.drop),
        attempts=[(a, _shown(a.drop), a.drop <= report.limit) for a in report.attempts],
        rows=rows,
        in_sight=max(_LAYERS, *(at + 1 for at, (_, _, kept) in enumerate(rows) if kept), 0),
        others=sum(cost.together > 1 for cost in report.sensitivity),
    )
    return Section(title="Quantisation to int8", anchor="quantise", body=body)


def _sentence(report: QuantiseReport) -> str:
    samples = plural(report.validation_samples, "validation sample")
    text = (
        f"In int8, {report.metric} drops by {_shown(report.drop)} points on {samples}; "
        f"{number(report.limit)} are allowed."
    )
    if report.excluded:
        kept = f"{len(report.excluded):,} of {plural(report.layers, 'layer')}"
        drop = _shown(report.drop_before)
        return f"{text} That is with {kept} left in float32; with none, it drops by {drop}."
    tried = len(report.attempts) > 1
    return text + " Leaving layers in float32 does not mend it." * (tried and not report.ok)


def _shown(value: float) -> str:
    return "∞" if value >= _INFINITE else number(value)
