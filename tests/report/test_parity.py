"""A parity report as a page: what is said, in which order, and of what it is a function."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from marwright.archive.sources import SourceReader
from marwright.parity.types import (
    BackendName,
    Case,
    Check,
    Kind,
    ParityReport,
    Precision,
    Problem,
    Tolerance,
)
from marwright.project import ENGINE
from marwright.report.page import page_of
from marwright.report.parity import cases, figures, parity_sections, ratios, verdict
from marwright.report.words import BACKENDS, CHECKS, KINDS
from tests.projects import ROOT
from tests.report.html import faults, words
from tests.report.reports import failing, healthy, reduced

# Drawing takes seconds.
pytestmark = pytest.mark.slow

HEALTHY, FAILING, REDUCED = healthy(40, 8), failing(40, 8), reduced(40, 8)


def changed(report: ParityReport, **values: Any) -> ParityReport:
    return msgspec.structs.replace(report, **values)


def page(report: ParityReport) -> str:
    return page_of(parity_sections(report), title="t", subtitle="s")


def test_each_word_of_a_report_has_a_meaning() -> None:
    assert BACKENDS.keys() == {*get_args(BackendName), "checkpoint"}
    assert KINDS.keys() == {*get_args(Kind)}
    assert CHECKS.keys() == {*get_args(Check)}


def test_a_healthy_report_passes_in_words() -> None:
    text = words(verdict(HEALTHY).body)
    assert text.startswith(
        "✓ The exports agree The same answers as the checkpoint's from TorchScript, ONNX and "
        "optimised ONNX: 90 cases on 470 inputs, the largest error 0.49"
    )
    assert "wrong" not in text and "looser" not in text and "diverging" not in text


def test_a_failing_report_says_what_is_wrong_first() -> None:
    sections = parity_sections(FAILING)
    assert [section.anchor for section in sections] == [
        "parity", "parity-figures", "parity-agreement", "parity-cases", "parity-ratios",
        "parity-outputs", "parity-layers", "parity-worst",
    ]  # fmt: skip
    text = words(sections[0].body)
    assert text.startswith("✗ The exports do not agree 2 problems; 12 failing cases of 90.")
    assert "tolerance optimised ONNX further from the reference than allowed held-out row" in text
    assert "The last layer sums 50,000 products, whose order is not ours. k = 24 (8 by d" in text
    assert "First diverging node: /features/block_0/add_4 In optimised ONNX: the relative" in text
    assert "error is 2.8e-7 before it and 0.021 after it. Error by layer Operator FusedConv" in text
    assert "Inputs 1 × 32 × 8 × 8; 64 × 32 × 3 × 3; 64 Output 1 × 64 × 8 × 8 Found by" in text
    assert text.endswith("No axis of the input varies.")


def tolerance_of(precision: Precision, k: float, floor: float = 1e-6, reason: str = "why") -> str:
    chosen = Tolerance(k=k, floor=floor, reason=reason)
    return verdict(changed(HEALTHY, precision=precision, tolerance=chosen)).body


@pytest.mark.parametrize(
    ("precision", "k", "floor"),
    [("fp32", 8.5, 1e-6), ("fp32", 4, 2e-6), ("bf16", 2.5, 1e-6), ("int8", 9, 1e-6)],
)
def test_a_tolerance_above_the_default_is_warned_of(
    precision: Precision, k: float, floor: float
) -> None:
    body = tolerance_of(precision, k, floor)
    assert 'class="box warn"' in body
    assert "The tolerance is looser than the default why k = " in words(body)


@pytest.mark.parametrize(
    ("precision", "k", "default"), [("fp32", 4, 8), ("fp32", 8, 8), ("bf16", 2, 2), ("int8", 8, 8)]
)
def test_a_reason_for_another_tolerance_is_told_without_a_warning(
    precision: Precision, k: float, default: int
) -> None:
    body = tolerance_of(precision, k)
    assert "warn" not in body and "looser" not in body
    assert f"About the tolerance why k = {k} ({default} by default), floor = 1e-6" in words(body)
    assert "tolerance" not in tolerance_of(precision, k, reason="")


def test_what_a_report_leaves_out_is_left_out() -> None:
    report = ParityReport(
        ok=False, task="regression", precision="bf16", tolerance=Tolerance(k=8, floor=1e-6),
        samples={}, signal=0.0, noise=0.0, size=0.0, limit=0.0, flops=0, cases=[],
        problems=[Problem(check="power", backend="checkpoint", text="all outputs are 0")],
    )  # fmt: skip
    assert [section.anchor for section in parity_sections(report)] == ["parity", "parity-figures"]
    text = words(page(report))
    assert "✗ The exports do not agree 1 problem; nothing was compared." in text
    assert "power checkpoint the comparison would say nothing all outputs are 0" in text
    assert "Worst ratio – error" in text
    assert "Signal ÷ noise –" in text


EVIL = "<script>alert('x')</script>"


def test_what_a_report_says_cannot_become_part_of_the_page() -> None:
    report = changed(
        FAILING,
        notes=[EVIL],
        labels=[EVIL] * 10,
        problems=[changed(FAILING.problems[0], text=EVIL)],
        tolerance=Tolerance(k=9, floor=1e-6, reason=EVIL),
        divergence=changed(FAILING.divergence, node=EVIL, op=EVIL, how=EVIL),
        layers=[changed(layer, node=EVIL, op=EVIL) for layer in FAILING.layers],
        worst=[changed(one, name=EVIL, values={EVIL: 1.0}, png='"><script>')
               for one in FAILING.worst],
    )  # fmt: skip
    html = page(report)
    assert [*faults(html)] == []
    assert "<script" not in html
    # Notes, problem, reason, three of the divergence, as many of each layer and one caption, a
    # label of the plot, and of each input its name, its value and ten outputs.
    assert html.count("&lt;script&gt;alert") == 6 + 2 * 8 + 2 + 3 * 12


def test_the_key_figures_are_those_of_the_report() -> None:
    text = words(figures(HEALTHY).body)
    assert "Tolerance k = 8 times the error of eager torch, plus 1e-6 of the output's size" in text
    assert "Signal ÷ noise 1.59e7 outputs go up to 17.4 and vary by 4.13; eager torch is" in text
    assert "Inputs 470 at batch 1, 2, 3, 7, 8, 32; a row takes 1.19e6 FLOPs" in text
    assert "0.21 → 0.47 times what float32 errs on real data, from 16 starts of 40 steps" in text
    assert "(10,240 inputs tried, seed 0); 0 flips" in text
    assert 'value bad">108<' in figures(FAILING).body
    assert "bad" not in figures(HEALTHY).body


def test_failing_cases_are_in_sight_and_marked() -> None:
    body = cases(FAILING).body
    in_sight, _, rest = body.partition("optimised ONNX</h3>")[2].partition("<details>")
    assert in_sight.count("✗ fails") == in_sight.count("<tr class=") == 12
    assert "✓ ok" not in in_sight
    assert "30 cases, 12 failing; worst ratio 881 · worst first" in in_sight
    assert "All 30 cases" in rest
    assert (rest.count("✗ fails"), rest.count("✓ ok")) == (12, 18)


def test_a_healthy_backend_shows_its_worst_cases_first() -> None:
    body = cases(HEALTHY).body
    in_sight, _, rest = body.partition("TorchScript</h3>")[2].partition("<details>")
    shown = [case for case in HEALTHY.cases if f">{case.ratio:.3f}</td>" in in_sight]
    assert in_sight.count("✓ ok") == 5
    of_backend = sorted(c.ratio for c in HEALTHY.cases if c.backend == "torchscript")[-5:]
    assert {*of_backend} <= {case.ratio for case in shown}
    assert rest.partition("</details>")[0].count("✓ ok") == 30


def test_kinds_of_input_are_summed_up_by_backend() -> None:
    table = cases(FAILING).body.partition("</table>")[0]
    assert "Inputs Rows TorchScript ONNX optimised ONNX What they are" in words(table)
    assert "✗ 723" in words(table) and "✗ 881" in words(table)
    assert words(table).count("✗") == 2


def test_what_was_not_measured_is_a_dash() -> None:
    broken = Case(
        backend="onnx", kind="held-out", batch=2, shape=[3], samples=4, max_error=-1, ratio=-1,
        batch_ratio=-1, flips=-1, forgiven=-1, worst_sample=-1, ok=False,
    )  # fmt: skip
    report = changed(HEALTHY, cases=[broken], ok=False)
    text = words(cases(report).body)
    assert "1 case, 1 failing; worst ratio –" in text
    assert "✗ fails held-out 2 – – – – – – 4 3" in text
    assert "Labels flipped 0" in words(figures(report).body)


def test_int8_gives_other_labels_without_a_fault() -> None:
    """It is judged by what it does to the task."""
    text = words(verdict(REDUCED).body)
    assert "from TorchScript, ONNX and optimised ONNX: 90 cases on 470 inputs" in text
    assert "What int8 costs: 0.275 points of accuracy." in text
    shown = words(figures(REDUCED).body)
    assert "Labels flipped 0 over all cases but those of int8; 0 forgiven" in shown
    assert "over all cases;" in words(figures(HEALTHY).body)
    html = page(REDUCED)
    assert [*faults(html)] == []
    assert "int8 ONNX 364 accuracy 0.98901 0.98626 0.00275" in words(html)
    assert 'number bad"' not in html


def test_int8_has_no_limit_to_be_beyond() -> None:
    plot = changed(FAILING.plots[2], backend="int8")
    report = changed(FAILING, plots=[plot])
    body = ratios(report).body
    assert "int8 has no limit" in body
    assert "error ÷ spread" in body and "var(--bad)" not in body
    assert "var(--bad)" in ratios(FAILING).body
    html = page(report)
    assert [*faults(html)] == []


_RENDER = """
import hashlib, sys
from pathlib import Path
import msgspec
from marwright.parity.types import ParityReport
from marwright.report.index import write_index
from marwright.report.page import page_of
from marwright.report.parity import parity_sections
report = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ParityReport)
html = page_of(parity_sections(report), title="t", subtitle="s")
heavy = {"torch", "torchvision", "onnx", "onnxruntime", "sklearn", "matplotlib.pyplot"}
print(hashlib.sha256(html.encode()).hexdigest(), sorted(heavy & sys.modules.keys()))
"""


def test_a_page_is_a_function_of_the_json_alone_and_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "parity.json").write_bytes(msgspec.json.encode(FAILING))
    settings = tmp_path / "matplotlibrc"
    settings.write_text("axes.grid: False\nfont.size: 20\nsvg.fonttype: path\nlines.linewidth: 9\n")
    env = {**os.environ, "MATPLOTLIBRC": str(settings), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RENDER, str(tmp_path / "parity.json")],
        cwd=ROOT, env=env, text=True, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    expected = hashlib.sha256(page(FAILING).encode()).hexdigest()
    assert done.stdout == f"{expected} []\n", done.stderr


def test_a_thousand_points_for_each_backend_make_a_page_of_modest_size() -> None:
    assert len(page(failing(1000, 200)).encode()) < 400_000


@pytest.mark.parametrize("module", ["marwright/report/parity.py", "marwright/report/index.py"])
def test_a_key_that_follows_imports_sees_the_templates(module: str) -> None:
    closure = SourceReader(ROOT, engine=ENGINE).closure([module])
    assert f"marwright/report/templates/{Path(module).name}" in closure.files
    assert {
        "marwright/report/templates/page.py",
        "marwright/report/style.py",
    } <= closure.files.keys()
    assert ("matplotlib" in closure.third_party) == (module == "marwright/report/parity.py")
    assert {"jinja2", "markupsafe", "msgspec"} <= {*closure.third_party}
