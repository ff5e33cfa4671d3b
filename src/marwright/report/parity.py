"""A parity report as sections of a page, the verdict first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from marwright.parity.types import BackendName, Case, Kind, ParityReport, Plot
from marwright.recipe.types import DEFAULT_FLOOR, DEFAULT_K, DEFAULT_K_BF16
from marwright.report import plots
from marwright.report.numbers import listed, measured, number, plural
from marwright.report.page import Section, render, verdict_box
from marwright.report.templates import parity as templates
from marwright.report.words import BACKENDS, CHECKS, KINDS
from marwright.report.worst import worst_section

# Cases of a backend that are in sight: the worst few, and all that fail up to this many.
_FEW, _FAILING = 5, 20


def parity_sections(report: ParityReport) -> list[Section]:
    """Return what there is to show of a report; parts that it leaves out are left out."""
    sections = [verdict(report), figures(report), agreement(report), cases(report),
                ratios(report), outputs(report), layers(report), worst_section(report)]  # fmt: skip
    return [section for section in sections if section is not None]


def verdict(report: ParityReport) -> Section:
    """Say whether the report passes, and all that is wrong."""
    default_k = DEFAULT_K_BF16 if report.precision == "bf16" else DEFAULT_K
    tolerance = report.tolerance
    body = render(
        templates.VERDICT,
        report=report,
        # Of the exports, and not of the model: how good that is, the metrics say.
        verdict=verdict_box(
            ok=report.ok,
            text=_sentence(report),
            words=("The exports agree", "The exports do not agree"),
        ),
        backends=BACKENDS,
        checks=CHECKS,
        has_layers=bool(report.layers),
        looser=tolerance.k > default_k or tolerance.floor > DEFAULT_FLOOR,
        default_k=default_k,
        default_floor=DEFAULT_FLOOR,
    )
    return Section(title="Parity", anchor="parity", body=body)


def _sentence(report: ParityReport) -> str:
    failing = sum(not case.ok for case in report.cases)
    problems = plural(len(report.problems), "problem")
    if not report.cases:
        return f"{problems}; nothing was compared."
    if not report.ok:
        return f"{problems}; {plural(failing, 'failing case')} of {len(report.cases):,}."
    summary = report.summary()
    same = listed(BACKENDS[name] for name in _backends(report) if _has_limit(name))
    limited = sum(_has_limit(case.backend) for case in report.cases)
    text = (
        f"The same answers as the checkpoint's from {same}: {plural(limited, 'case')} on "
        f"{plural(summary.samples, 'input')}, the largest error {measured(summary.worst_ratio)} "
        "of its limit."
    )
    if summary.drop is not None:
        metric = report.agreement[0].metric
        text += f" What {report.precision} costs: {number(summary.drop)} points of {metric}."
    return text


def figures(report: ParityReport) -> Section:
    """Return what a person looks at second: limits, errors, and what stands behind them."""
    limited = [case for case in report.cases if _has_limit(case.backend)]
    body = render(
        templates.FIGURES,
        report=report,
        summary=report.summary(),
        flips=sum(max(case.flips, 0) for case in limited),
        forgiven=sum(max(case.forgiven, 0) for case in limited),
        all_limited=len(limited) == len(report.cases),
    )
    return Section(title="Parity in figures", anchor="parity-figures", body=body)


def agreement(report: ParityReport) -> Section | None:
    """Return how the backends do the task, beside the checkpoint."""
    if not report.agreement:
        return None
    body = render(templates.AGREEMENT, report=report, backends=BACKENDS)
    return Section(title="Task agreement", anchor="parity-agreement", body=body)


def cases(report: ParityReport) -> Section | None:
    """Return the worst ratio by kind of input and backend, then each backend's cases."""
    if not report.cases:
        return None
    backends = _backends(report)
    by_backend = {
        name: [case for case in report.cases if case.backend == name] for name in backends
    }
    body = render(
        templates.CASES,
        kinds=[(kind, KINDS[kind], report.samples.get(kind, -1),
                [_worst(by_backend[name], kind) for name in backends]) for kind in _kinds(report)],
        groups=[(BACKENDS[name], _headline(some), _in_sight(some), some)
                for name, some in by_backend.items()],
        backends=[BACKENDS[name] for name in backends],
        has_labels=report.task == "classification",
    )  # fmt: skip
    return Section(title="Cases compared", anchor="parity-cases", body=body)


def _backends(report: ParityReport) -> list[BackendName]:
    return list(dict.fromkeys(case.backend for case in report.cases))


def _kinds(report: ParityReport) -> list[Kind]:
    tried = {case.kind for case in report.cases} | report.samples.keys()
    return [kind for kind in KINDS if kind in tried]


def _worst(some: list[Case], kind: Kind) -> tuple[str, bool]:
    """Return the worst ratio of a kind in words, and whether all of its cases pass."""
    of_kind = [case for case in some if case.kind == kind]
    ok = all(case.ok for case in of_kind)
    return measured(max((case.ratio for case in of_kind), default=-1.0)), ok


def _headline(some: list[Case]) -> str:
    failing = sum(not case.ok for case in some)
    worst = measured(max(case.ratio for case in some))
    state = f"{failing:,} failing" if failing else "all pass"
    return f"{plural(len(some), 'case')}, {state}; worst ratio {worst}"


def _in_sight(some: list[Case]) -> list[Case]:
    failing = sum(not case.ok for case in some)
    worst_first = sorted(some, key=lambda case: (case.ok, -max(case.ratio, case.batch_ratio)))
    return worst_first[: max(_FEW, min(failing, _FAILING))]


def ratios(report: ParityReport) -> Section | None:
    """Return a histogram of error ratios for each backend."""
    drawn = []
    for plot in report.plots:
        if not sum(plot.counts):
            continue
        name, text = BACKENDS[plot.backend], _ratios_in_words(plot)
        label = f"Histogram of error ratios of {name}: {text}"
        unit = "limit" if _has_limit(plot.backend) else "spread"
        svg = plots.histogram(plot, unit, _name("ratios", plot.backend), label)
        drawn.append((svg, name, text))
    if not drawn:
        return None
    body = render(templates.RATIOS, drawn=drawn)
    return Section(title="Errors of the exports", anchor="parity-ratios", body=body)


def _has_limit(backend: BackendName) -> bool:
    # What int8 does to the task is judged, not how far its outputs are off.
    return backend != "int8"


def _ratios_in_words(plot: Plot) -> str:
    elements = plural(sum(plot.counts), "output")
    if not _has_limit(plot.backend):
        return f"{elements}; int8 has no limit, so errors are parts of what outputs vary by"
    beyond = sum(here for left, here in zip(plot.edges, plot.counts, strict=False) if left >= 0)
    return f"{elements}, {f'{beyond:,}' if beyond else 'none'} beyond the limit"


def outputs(report: ParityReport) -> Section | None:
    """Return each backend's outputs against those of the reference."""
    drawn = []
    for plot in report.plots:
        if not plot.reference:
            continue
        name = BACKENDS[plot.backend]
        text = plural(len(plot.reference), "output")
        label = f"Outputs of {name} against the reference: {text}"
        # In bf16 the limit is that of the traced module, and the ONNX file is not held to it.
        limited = _has_limit(plot.backend) and (
            report.precision != "bf16" or plot.backend == "torchscript"
        )
        limit = report.limit if limited else None
        svg = plots.scatter(plot, limit, _name("outputs", plot.backend), label)
        drawn.append((svg, name, text))
    if not drawn:
        return None
    body = render(templates.OUTPUTS, drawn=drawn)
    return Section(title="Outputs of the exports", anchor="parity-outputs", body=body)


def _name(plot: Literal["ratios", "outputs"], backend: BackendName) -> str:
    return f"parity-{plot}-{backend.replace(' ', '-')}"


def layers(report: ParityReport) -> Section | None:
    """Return the error after each node of the graph, with the first diverging one marked."""
    if not report.layers:
        return None
    diverging = next(_diverging(report), None)
    largest = max(report.layers, key=lambda layer: layer.error)
    label = (
        f"Relative error after each of {plural(len(report.layers), 'node')}: largest after "
        f"{largest.node}, {measured(largest.error)}"
    )
    body = render(
        templates.LAYERS,
        svg=plots.layers(report.layers, diverging, "parity-layers", label),
        layers=report.layers,
        diverging=diverging,
        largest=largest,
    )
    return Section(title="Error by layer", anchor="parity-layers", body=body)


def _diverging(report: ParityReport) -> Iterator[int]:
    if (found := report.divergence) is not None:
        yield from (at for at, layer in enumerate(report.layers) if layer.node == found.node)
