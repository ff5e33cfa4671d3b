"""`parity-zoo` over stages that do nothing but behave badly: what becomes of each in the table."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marwright.cli.alone import alone
from marwright.cli.parity_zoo import PAGE, TABLE, Limits, parity_zoo
from marwright.pipeline.layout import Layout
from marwright.recipe.errors import MarwrightError, UsageError

pytestmark = pytest.mark.slow

# A stage behaves by its architecture's name. Each is written to `calls` when it begins and ends.
STAGES = """
import json, os, signal, sys, time
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("crashes fails first good grows hangs huge interrupts lasts meets_a meets_b other refused "
         "second silent steady").split()
MIB = 1 << 20

def note(what):
    with (HERE / "calls").open("a") as calls:
        calls.write(f"{what} {stage} {name}\\n")

def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            sys.exit("waited in vain")
        time.sleep(0.01)

def noted(line):
    return (line + "\\n") in (HERE / "calls").read_text()

def gone(pid):
    return not Path(f"/proc/{pid}").exists()

if sys.argv[1:] == ["names"]:
    print(*NAMES)
    sys.exit()
stage, name, folder, threads = sys.argv[1:]
note("begins")
(Path(folder) / f"exported by {stage}").write_bytes(b"large")
row = {"name": name, "ok": True, "seconds": 2.0, "peak_mib": 300 if stage == "make" else 200}
if stage == "gate":
    row |= {"error": 2e-6, "float32": 1e-7, "ratio": 0.25, "far_ratio": 0.5, "signal": 0.125,
            "inputs": 32, "gflop": 1.5}
match name, stage:
    case "crashes", "make":
        sys.exit("Traceback (most recent call last):\\n  ...\\nValueError: no such layer\\n")
    case "silent", "gate":
        sys.exit(0)
    case "refused", "make":
        row |= {"ok": False, "cause": "ExportError: no such operator"}
    case "fails", "gate":
        row |= {"ok": False, "cause": "tolerance, onnx: 7 times what is allowed", "divergence": {
            "backend": "onnx", "node": "/conv", "op": "Conv", "inputs": [], "output": [1],
            "before": 0.0, "after": 1.0, "how": "its inputs agree"}}
    case "hangs", "gate":
        time.sleep(60)
    case "huge", _:
        held = b"x" * (200 * MIB)
        time.sleep(60)
    case "lasts", "make":
        time.sleep(0.5)
    case ("meets_a", "make") | ("meets_b", "make"):
        other = "meets_b" if name == "meets_a" else "meets_a"
        wait_for(lambda: noted(f"begins make {other}"))
    case "steady", "make":
        # Long enough for the other one to be stopped, and to begin again too early.
        held = b"x" * (60 * MIB)
        pid = HERE / "pid of grows"
        wait_for(lambda: pid.exists() and pid.read_text() and gone(pid.read_text()))
        wait_for(lambda: noted("ends gate other"))
        time.sleep(0.5)
    case "grows", "make":
        (HERE / "pid of grows").write_text(str(os.getpid()))
        held = b"x" * (60 * MIB)
        if not noted("ends make steady"):
            time.sleep(60)
    case "interrupts", "gate":
        (HERE / "pid of interrupts").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)
    case "second", "make":
        (HERE / "seen").write_bytes((HERE / "docs/reference/parity-zoo.json").read_bytes())
note("ends")
print(json.dumps(row))
"""

Zoo = Callable[..., int]


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """Run architectures in a project of their own: by default one at a time."""
    (tmp_path / "stages.py").write_text(STAGES)

    def run(*names: str, again: bool = False, **limits: Any) -> int:
        return parity_zoo(
            Layout(root=tmp_path),
            names,
            Limits(**{"jobs": 1, "threads": 1, "memory_gib": 16, **limits}),
            again=again,
            command=(sys.executable, str(tmp_path / "stages.py")),
        )

    return run


def calls(root: Path) -> list[str]:
    """Return the stages that began, in their order."""
    lines = (root / "calls").read_text().splitlines()
    return [line.removeprefix("begins ") for line in lines if line.startswith("begins ")]


def table(root: Path) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = json.loads((root / TABLE).read_bytes())
    return rows


def left(root: Path) -> list[str]:
    """Return what the stages left behind."""
    return sorted(p.name for p in (root / "build/parity-zoo").iterdir() if p.name != ".lock")


def both(*names: str) -> list[str]:
    return [f"{stage} {name}" for name in names for stage in ("make", "gate")]


def test_an_architecture_that_passes_is_a_row_of_both_stages(zoo: Zoo, tmp_path: Path) -> None:
    assert zoo("good") == 0
    assert calls(tmp_path) == both("good")
    row = table(tmp_path)["good"]
    assert (row["ok"], row["seconds"], row["peak_mib"], row["inputs"]) == (True, 4.0, 300, 32)
    assert left(tmp_path) == []
    lines = (tmp_path / PAGE).read_text().splitlines()
    assert "1 of 16 pass." in lines
    cells = "passes | 2.0e-06 | 1.0e-07 | 25 % | 50 % | 0.12 | 32 | 1.5 | 4 | 300 MiB"
    assert f"| good | {cells} |" in lines
    assert f"| other | not run |{' |' * 9}" in lines
    assert "## What failed" not in lines
    assert "quick look of the parity gate" in " ".join(lines)


def test_a_name_that_is_typed_twice_runs_once(zoo: Zoo, tmp_path: Path) -> None:
    assert zoo("good", "good", jobs=2) == 0
    assert calls(tmp_path) == both("good")


def test_the_table_is_written_after_each(zoo: Zoo, tmp_path: Path) -> None:
    zoo("first", "second")
    assert list(json.loads((tmp_path / "seen").read_bytes())) == ["first"]
    assert list(table(tmp_path)) == ["first", "second"]


def test_a_second_run_leaves_out_what_passed(zoo: Zoo, tmp_path: Path) -> None:
    assert zoo("good", "refused") == 1
    (tmp_path / "calls").unlink()
    assert zoo("good", "refused", "other") == 1
    assert calls(tmp_path) == ["make refused", *both("other")]
    assert list(table(tmp_path)) == ["good", "other", "refused"]


def test_all_of_it_again(zoo: Zoo, tmp_path: Path) -> None:
    assert zoo("good") == 0
    assert zoo("good", again=True) == 0
    assert calls(tmp_path) == both("good", "good")


def test_an_unknown_name_is_refused_and_nothing_runs(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^nothing, resnet: no classification architecture"):
        zoo("good", "resnet", "nothing")
    assert not (tmp_path / "calls").exists()
    assert not (tmp_path / TABLE).exists()


@pytest.mark.parametrize(
    ("name", "cause", "log"),
    [
        ("crashes", "make ended with 1: ValueError: no such layer", True),
        ("silent", "gate ended with 0: nothing said", True),
        ("refused", "ExportError: no such operator", False),
        ("fails", "tolerance, onnx: 7 times what is allowed", False),
    ],
)
def test_a_failure_is_a_row_and_stops_no_other(
    zoo: Zoo, tmp_path: Path, name: str, cause: str, log: bool
) -> None:
    assert zoo(name, "good") == 1
    rows = table(tmp_path)
    assert (rows[name]["ok"], rows[name]["cause"]) == (False, cause)
    assert rows["good"]["ok"]
    page = (tmp_path / PAGE).read_text()
    assert f"| {name} | **fails** |" in page
    assert f"\n## What failed\n\n- `{name}`: {cause}" in page
    # What was exported is gone, and of what has no result the log is there.
    assert left(tmp_path) == ([f"{name}.log"] if log else [])


def test_where_it_diverges_stands_on_the_page(zoo: Zoo, tmp_path: Path) -> None:
    zoo("fails")
    where = "allowed. First diverging node: `/conv` (Conv), its inputs agree\n"
    assert (tmp_path / PAGE).read_text().endswith(where)


def test_what_takes_too_long_is_stopped(zoo: Zoo, tmp_path: Path) -> None:
    assert zoo("hangs", longest_s=2) == 1
    row = table(tmp_path)["hangs"]
    assert row["cause"] == "gate took longer than 2 s"
    # Those of both stages.
    assert 4 < row["seconds"] < 20
    assert row["peak_mib"] == 300
    assert left(tmp_path) == ["hangs.log"]


def test_two_run_at_once(zoo: Zoo, tmp_path: Path) -> None:
    # Each of them waits for the other.
    assert zoo("meets_a", "meets_b", jobs=2) == 0
    assert sorted(calls(tmp_path)[:2]) == ["make meets_a", "make meets_b"]


def test_without_memory_in_reserve_they_take_turns(zoo: Zoo, tmp_path: Path) -> None:
    assert zoo("lasts", "other", jobs=2, memory_gib=1, reserve_gib=1) == 0
    assert calls(tmp_path) == both("lasts", "other")


def test_the_youngest_gives_way_and_runs_alone_later(zoo: Zoo, tmp_path: Path) -> None:
    # Each takes 60 MiB and Python's own: one fits, and two do not.
    limits = {"jobs": 2, "memory_gib": 0.11, "reserve_gib": 0}
    assert zoo("steady", "grows", "other", **limits) == 0
    assert calls(tmp_path).count("make grows") == 2
    lines = (tmp_path / "calls").read_text().splitlines()
    alone = [f"{word} {stage}" for stage in both("grows") for word in ("begins", "ends")]
    # Its first run has no end, and its second one is after all others.
    assert lines.count("ends make grows") == 1
    assert lines[-4:] == alone
    assert left(tmp_path) == []


def test_what_is_too_much_even_alone_fails(zoo: Zoo, tmp_path: Path) -> None:
    assert zoo("huge", "good", memory_gib=0.11) == 1
    assert table(tmp_path)["huge"]["cause"] == "takes more than 0.11 GiB"
    assert table(tmp_path)["good"]["ok"]
    assert calls(tmp_path).count("make huge") == 1
    assert left(tmp_path) == ["huge.log"]


def test_an_interrupt_stops_what_runs_and_keeps_what_passed(zoo: Zoo, tmp_path: Path) -> None:
    # A shell starts what runs in the background deaf to it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        zoo("good", "interrupts")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid of interrupts").read_text()), 0)
    assert list(table(tmp_path)) == ["good"]
    assert left(tmp_path) == ["interrupts.log"]
    assert zoo("good") == 0
    assert calls(tmp_path) == both("good", "interrupts")


def test_two_runs_do_not_fill_one_table(zoo: Zoo, tmp_path: Path) -> None:
    said = "^another parity-zoo is at work here; wait for"
    with alone(tmp_path / "build/parity-zoo", "a test"), pytest.raises(MarwrightError, match=said):
        zoo("good")
    assert not (tmp_path / "calls").exists()
    assert zoo("good") == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"good": {"name": "goo', "truncated"),
        ('{"good": {"name": "good"}}', "missing required field `ok`"),
        ('{"good": {"name": "good", "ok": true, "speed": 1}}', "unknown field `speed`"),
        ("\xff", "not UTF-8|malformed"),
    ],
)
def test_a_damaged_table_is_not_written_over(
    zoo: Zoo, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / TABLE
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=rf"^{TABLE}: .*({said}).*; `git checkout {TABLE}`"):
        zoo("good", again=True)
    assert path.read_text(encoding="latin-1") == text
    assert not (tmp_path / "calls").exists()


def test_without_torchvision_it_says_what_is_wrong(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import torchvision_that_is_not_there")
    limits = Limits(jobs=1, threads=1, memory_gib=1)
    with pytest.raises(MarwrightError, match=r"No module named 'torchvision_that.*`make doctor`"):
        parity_zoo(Layout(root=tmp_path), [], limits, again=False, command=command)
