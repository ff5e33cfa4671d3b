"""Archives whose code means harm, through the command line and the real probe: each is found out.

Their structure is sound and nothing in them is known to be bad: only running them can tell.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from marwright.archive import probing
from marwright.archive.running import Aside, Request
from marwright.archive.types import GOLDEN_INDEX, GOLDEN_TENSORS, MANIFEST, to_json
from marwright.archive.verify import verify
from marwright.archive.write import write_members
from tests.archive.tiny import ROOT

pytestmark = pytest.mark.torch

LOADS = "def handle(data, context):\n    return None if data is None else [b'ok'] * len(data)\n"
PROBED = "def handle(data, context):\n"


def packed(folder: Path, handler: str, config: str = "", **members: bytes | str) -> Path:
    """Write an archive of a handler, a configuration and more members; returns its path."""
    named = dict(members)
    model = {"modelName": "m", "modelVersion": "1.0", "handler": "handler.py"}
    if config:
        named["model-config.yaml"] = config
        model["configFile"] = "model-config.yaml"
    if "model.pt" in named:
        model["serializedFile"] = "model.pt"
    contents = {"handler.py": handler, **named,
                MANIFEST: to_json({"runtime": "python", "model": model})}  # fmt: skip
    bodies = {n: b.encode() if isinstance(b, str) else b for n, b in contents.items()}
    return write_members(folder / "m.mar", bodies)


def told(mar: Path, *options: str, seconds: float = 150) -> dict[str, Any]:
    """Verify an archive at the command line; returns its report, and how the command ended."""
    done = subprocess.run(
        [sys.executable, "-m", "marwright", "verify", str(mar), "--json", *options],
        cwd=ROOT, capture_output=True, timeout=seconds, check=False,
    )  # fmt: skip
    report: dict[str, Any] = json.loads(done.stdout)["archives"][str(mar)]
    return {**report, "code": done.returncode}


def alive(mark: str) -> list[str]:
    """Return the processes whose arguments hold a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


FALSE_RESULT = {
    "exits at import": ("import sys\nsys.exit(0)\n" + LOADS, "the handler calls sys.exit(0)"),
    "exits when it is loaded": (
        PROBED + "    raise SystemExit('bye')\n", "the handler calls sys.exit('bye')",
    ),
    "ends the process": (PROBED + "    import os; os._exit(0)\n", "the process ended with 0"),
    "kills itself": (
        PROBED + "    import os; os.kill(os.getpid(), 9)\n", "the process was ended by SIGKILL",
    ),
    "kills what watches it": (
        PROBED + "    import os, time\n    try: os.kill(os.getppid(), 9)\n"
        "    except PermissionError: raise MemoryError('not to be killed')\n    time.sleep(60)\n",
        "MemoryError: not to be killed",
    ),
    "writes the result": (
        PROBED + "    import os, json, struct\n"
        "    said = json.dumps({'problems': [], 'golden_samples': 7, 'seconds': {},\n"
        "                       'unchecked': [], 'token': '', 'sizes': []}).encode()\n"
        "    for number in range(1, 40):\n"
        "        try: os.write(number, struct.pack('>I', len(said)) + said + b'\\n')\n"
        "        except OSError: pass\n    os._exit(0)\n",
        "something else than the probe wrote its answer",
    ),
    "says an answer without end": (
        PROBED + "    import os\n    for number in range(3, 40):\n"
        "        try: os.write(number, b'\\xff' * 99)\n        except OSError: pass\n"
        "    os._exit(0)\n",
        "the answer is larger than 1 MiB",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("handler", "problem"), FALSE_RESULT.values(), ids=FALSE_RESULT)
def test_handler_cannot_say_what_was_found(tmp_path: Path, handler: str, problem: str) -> None:
    report = told(packed(tmp_path, handler))
    assert report["code"] == 4
    [found] = report["problems"]
    assert f"handler.py: loading it: {problem}" in found or problem in found
    assert "\n" not in found
    assert report["golden_samples"] == 0


def test_handler_that_changes_how_things_are_compared_is_judged_all_the_same(
    tmp_path: Path,
) -> None:
    samples = [{"request": "r.bin", "content_type": "text/plain", "answer": "right"}]
    import numpy as np
    from safetensors.numpy import save

    ones = np.ones((1, 2), np.float32)
    golden = {
        GOLDEN_INDEX: to_json({"atol": 1e-6, "rtol": 1e-6, "samples": samples}),
        GOLDEN_TENSORS: save({"input.0": ones, "output.0": ones}),
    }
    handler = (
        "import torch\n"
        "torch.equal = torch.allclose = lambda *a, **k: True\n"
        "class Loaded: spec = None; device = 'cpu'; model = staticmethod(lambda x: x + 1)\n"
        "class service:\n"
        "    loaded = Loaded\n"
        "    read = staticmethod(lambda body, spec: torch.zeros(1, 2))\n"
        "    answer = staticmethod(lambda out, loaded: 'wrong')\n" + LOADS
    )
    mar = packed(tmp_path, handler, **golden, **{"r.bin": b"x"})
    report = told(mar)
    said = [problem.partition(": ")[2] for problem in report["problems"]]
    assert said == [
        "r.bin: preprocessing gives another tensor than training's",
        "r.bin: the payload's output is not the checkpoint's",
        "r.bin: postprocessing makes wrong of the checkpoint's output, recorded is right",
        "r.bin: the answer is ok, recorded is right",
    ]
    assert report["golden_samples"] == 1


def test_handler_that_loops_ends_with_its_line(tmp_path: Path) -> None:
    mar = packed(tmp_path, "x = 1\nwhile True:\n    x += 1\n" + LOADS, "startupTimeout: 3\n")
    started = time.monotonic()
    report = told(mar)
    assert time.monotonic() - started < 100
    [found] = report["problems"]
    assert "handler.py: loading it took more than 3 s: it was at handler.py:" in found


def test_answer_that_does_not_come_ends_with_its_line(tmp_path: Path) -> None:
    handler = PROBED + "    if data is not None:\n        import time\n        time.sleep(600)\n"
    report = told(packed(tmp_path, handler, "responseTimeout: 2\n"), "--sample", "[1]")
    [found] = report["problems"]
    assert "[1], sent as application/json: answering it took more than 2 s" in found
    assert "it was at handler.py:4" in found


@pytest.mark.parametrize("answers", [True, False])
def test_what_a_handler_starts_does_not_outlive_it(tmp_path: Path, answers: bool) -> None:
    mark = f"{time.time_ns()}"
    handler = (
        "import os, subprocess, threading, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        os.execvp('sleep', ['sleep', '{mark}'])\n"
        "    os._exit(0)\n"
        f"subprocess.Popen(['sleep', '{mark}'], start_new_session=True)\n"
        "threading.Thread(target=time.sleep, args=(999,)).start()\n"
        + (LOADS if answers else "os._exit(3)\n")
    )
    report = told(packed(tmp_path, handler))
    assert bool(report["problems"]) is not answers
    assert alive(mark) == []


def test_handler_ends_with_whoever_verifies_it(tmp_path: Path) -> None:
    mark = f"{time.time_ns()}"
    handler = f"import os\nos.execvp('sleep', ['sleep', '{mark}'])\n" + LOADS
    command = [sys.executable, "-m", "marwright", "verify", str(packed(tmp_path, handler))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not alive(mark) and time.monotonic() < until:
            time.sleep(0.1)
        assert alive(mark)
        process.kill()
    until = time.monotonic() + 10
    while alive(mark) and time.monotonic() < until:
        time.sleep(0.1)
    assert alive(mark) == []


def test_handler_writes_in_its_own_folder_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    mode = outside.stat().st_mode
    handler = (
        "import os, socket, tempfile\nfrom pathlib import Path\n"
        "Path('beside.txt').write_text('mine')\n"
        "with tempfile.NamedTemporaryFile() as file:\n    file.write(b'mine')\n"
        "denied = []\n"
        "def tried(do):\n    try:\n        do()\n    except OSError:\n        denied.append(do)\n"
        f"outside = Path({str(outside)!r})\n"
        "tried(lambda: outside.write_text('changed'))\n"
        "tried(lambda: os.truncate(outside, 0))\n"
        "tried(lambda: outside.unlink())\n"
        "tried(lambda: os.chmod(outside, 0o777))\n"
        "tried(lambda: os.link(outside, 'here'))\n"
        f"tried(lambda: os.mkdir({str(tmp_path / 'made')!r}))\n"
        "tried(lambda: socket.create_connection(('192.0.2.1', 80), timeout=5))\n"
        "raise MemoryError(len(denied))\n" + LOADS
    )
    report = told(packed(tmp_path, handler))
    lines = "; ".join(report["sandbox"])
    if "not on this system" in lines or "mounts" not in lines:
        pytest.skip(f"this system confines a program no further than: {lines}")
    [found] = report["problems"]
    assert found.endswith("MemoryError: 7")
    assert outside.read_text() == "as it was"
    assert outside.stat().st_mode == mode
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "m.mar"}


def test_error_that_may_come_from_the_sandbox_is_told_with_it(tmp_path: Path) -> None:
    handler = f"open({str(tmp_path / 'log')!r}, 'w')\n" + LOADS
    [found] = told(packed(tmp_path, handler))["problems"]
    assert "(it was run without a network and could write to its own folder only)" in found


def test_handler_that_prints_without_end_is_only_slow(tmp_path: Path) -> None:
    handler = "import sys\nfor _ in range(2000):\n    sys.stdout.write('x' * 99_999)\n" + LOADS
    assert told(packed(tmp_path, handler))["problems"] == []


BLOCKS = "taken = [{} for _ in range(2048)]\n"
IN_A_CHILD = """import subprocess, sys
CODE = "import sys\\ntry: bytearray(1 << 31)\\nexcept MemoryError: sys.exit(7)"
subprocess.run([sys.executable, "-c", CODE], check=True)
"""
LIMIT = r"\(it ran out of memory: `verify` gave it 1\.5 GiB\)$"
TAKES_MEMORY = {
    "blocks": (BLOCKS.format("bytearray(1 << 20)") + LOADS,
               f"handler.py: TorchServe cannot load it: MemoryError: {LIMIT}"),
    "at once": ("bytearray(1 << 40)\n" + LOADS,
                f"handler.py: TorchServe cannot load it: MemoryError: {LIMIT}"),
    "numpy's": ("import numpy\n" + BLOCKS.format("numpy.empty(1 << 20, 'u1')") + LOADS,
                f"MemoryError: Unable to allocate 1.00 MiB for an array .*{LIMIT}"),
    "torch's": ("import torch\n" + BLOCKS.format("torch.empty(1 << 18)") + LOADS,
                f"can't allocate memory: you tried to allocate 1048576 bytes.*{LIMIT}"),
    "in a process of its own": (IN_A_CHILD + LOADS, "returned non-zero exit status 7"),
    "for a request": (
        PROBED + "    if data is not None:\n        " + BLOCKS.format("bytearray(1 << 20)"),
        rf"\[1\], sent as application/json: the handler fails: MemoryError: {LIMIT}",
    ),
    "and ends by it": (
        "import os\ntry:\n    " + BLOCKS.format("bytearray(1 << 20)")
        + "except MemoryError:\n    print('std::bad_alloc', flush=True)\n    os.abort()\n" + LOADS,
        f"handler.py: loading it: the process was ended by SIGABRT: std::bad_alloc {LIMIT}",
    ),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds data so")
@pytest.mark.parametrize(("handler", "said"), TAKES_MEMORY.values(), ids=TAKES_MEMORY)
def test_handler_that_takes_all_memory_is_told_with_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str, said: str
) -> None:
    # They take 2 GiB at most, should nothing bound them.
    monkeypatch.setattr(probing, "most_data", lambda: 3 << 29)
    sample = Request(name="[1]", body=b"[1]", content_type="application/json")
    [found] = verify(packed(tmp_path, handler), aside=Aside(samples=[sample])).problems
    assert re.search(said, found), found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these")
def test_handlers_memory_is_bounded_and_it_is_the_first_to_go(tmp_path: Path) -> None:
    handler = (
        "import resource\nfrom pathlib import Path\n"
        "score = Path('/proc/self/oom_score_adj').read_text().strip()\n"
        "raise ValueError(score, *resource.getrlimit(resource.RLIMIT_DATA))\n" + LOADS
    )
    [found] = told(packed(tmp_path, handler))["problems"]
    score, soft, hard = ast.literal_eval(found.rpartition("ValueError: ")[2])
    assert score == "1000"
    assert soft == hard >= 2 << 30


@pytest.mark.parametrize(
    ("free", "group", "most"),
    [(64, None, 56), (64, 16, 14), (64, "max", 56), (4, None, 3.5), (1, None, 2), (64, 1, 2)],
)
def test_handler_has_what_is_left_but_a_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, group: object, most: float
) -> None:
    said = {
        "/proc/meminfo": ["MemTotal: 9 kB", f"MemAvailable: {free << 19} kB",
                          f"SwapFree: {free << 19} kB"],
        f"{probing._GROUPS}/memory.max": [str(group << 30 if isinstance(group, int) else group)],
    }  # fmt: skip
    monkeypatch.setattr(probing, "_lines", lambda path: said.get(path, []))
    assert probing.most_data() == most * (1 << 30)
    said.clear()
    assert probing.most_data() == 0


def test_hook_that_the_workers_python_would_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ran").touch()
    hook = f"import os\nos.unlink({str(tmp_path / 'ran')!r})\n"
    report = told(packed(tmp_path, LOADS, **{"sitecustomize.py": hook}))
    [found] = report["problems"]
    assert found.endswith(
        "sitecustomize.py: Python would run it in the server's worker before anything else: "
        "remove it"
    )
    assert (tmp_path / "ran").exists()


def test_folder_of_data_may_have_the_name_of_a_module(tmp_path: Path) -> None:
    extra = {"calendar/days.txt": b"", "numpy/a.bin": b"", "lib/json.py": b"", "json.txt": b""}
    assert told(packed(tmp_path, LOADS, **extra))["problems"] == []


def test_module_from_elsewhere_in_place_of_the_archives_is_refused(tmp_path: Path) -> None:
    # Without an __init__.py, the installed package of the name wins.
    extra = {"packaging/mine.py": b"MINE = 1\n"}
    [found] = told(packed(tmp_path, "import packaging.version\n" + LOADS, **extra))["problems"]
    assert found.endswith(
        "packaging: the archive has it at its root, and Python loaded another one: rename it, or "
        "give its folder an __init__.py"
    )


def test_what_packs_is_on_no_server(tmp_path: Path) -> None:
    """It is installed here, and a handler would find it."""
    said = "marwright: the handler imports it, and no server has it: pack what it needs of it"
    handler = "import marwright.runtime.spec\n" + LOADS
    [found] = told(packed(tmp_path, handler))["problems"]
    assert found.endswith(said)
    # Of a folder alone, what is installed is found first.
    extra = {"marwright/runtime/spec.py": b""}
    [found] = told(packed(tmp_path, handler, **extra))["problems"]
    assert "marwright: the archive has it at its root, and Python loaded another one" in found
    extra |= {"marwright/__init__.py": b"", "marwright/runtime/__init__.py": b""}
    assert told(packed(tmp_path, handler, **extra))["problems"] == []


def test_archive_comes_before_what_is_installed_as_at_the_worker(tmp_path: Path) -> None:
    handler = "import tqdm\nassert tqdm.MINE\n" + LOADS
    assert told(packed(tmp_path, handler, **{"tqdm.py": b"MINE = 1\n"}))["problems"] == []


class Saves(nn.Module):
    @torch.jit.export
    def __getstate__(self):  # type: ignore[no-untyped-def]
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        torch.save(torch.zeros(1), "written")
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class ReadsFile(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/hostname", False, 1, dtype=torch.uint8)


class Loops(Saves):
    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        self.training = False
        while not self.training:
            state += 1


def script(module: Callable[[], nn.Module]) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module()), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(("module", "name"), [(Saves, "save"), (ReadsFile, "from_file")])
def test_torchscript_that_reaches_files_is_refused_unopened(
    tmp_path: Path, module: Callable[[], nn.Module], name: str
) -> None:
    report = told(packed(tmp_path, LOADS, **{"model.pt": script(module)}))
    [found] = report["problems"]
    assert f"uses {name}, which reads or writes files as soon as the file is loaded" in found
    assert "open" not in report["seconds"]


def test_payload_that_does_not_open_ends_as_a_worker_that_does_not_start(tmp_path: Path) -> None:
    mar = packed(tmp_path, LOADS, "startupTimeout: 3\n", **{"model.pt": script(Loops)})
    [found] = told(mar)["problems"]
    assert found.endswith("m.mar: model.pt: opening it took more than 3 s")


def test_sample_is_sent_and_its_answer_shown(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8\xff pixels")
    handler = (
        "def handle(data, context):\n    if data is None:\n        return None\n"
        "    kind = context.get_request_header(0, 'body')['content-type']\n"
        "    return [f\"{kind} of {len(data[0]['body'])}\"]\n"
    )
    mar = packed(tmp_path, handler)
    report = told(mar, "--sample", str(tmp_path / "cat.jpg"), "--sample", "[1, 2]")
    assert report["problems"] == []
    kinds = [(answer["status"], answer["answer"]) for answer in report["answers"]]
    assert kinds == [(200, "image/jpeg of 10"), (200, "application/json of 2")]
    assert "requests: none was tried; `--sample FILE` sends one" in told(mar)["unchecked"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return 1 / 0", "the handler fails: ZeroDivisionError: division by zero"),
        ("context.set_response_status(422, 'no', 0); return ['no']", "with status 422: no"),
        ("return {}", "the handler fails: the handler returned dict; TorchServe wants a list"),
    ],
)
def test_sample_that_is_not_answered_is_a_problem(tmp_path: Path, body: str, problem: str) -> None:
    handler = f"def handle(data, context):\n    if data is not None:\n        {body}\n"
    report = told(packed(tmp_path, handler), "--sample", "{}")
    assert report["code"] == 4
    [found] = report["problems"]
    assert problem in found


def test_onnx_with_a_stock_handler_loads_and_says_that_no_request_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    said = {"modelName": "m", "modelVersion": "1.0", "handler": "base_handler",
            "serializedFile": "m.onnx"}  # fmt: skip
    members = {"m.onnx": model, MANIFEST: to_json({"runtime": "python", "model": said})}
    mar = write_members(tmp_path / "m.mar", members)
    report = told(mar)
    assert report["problems"] == []
    assert "requests: none was tried; `--sample FILE` sends one" in report["unchecked"]
    [found] = told(mar, "--sample", "[1]")["problems"]
    assert "sent as application/json: the handler fails: " in found


def test_samples_need_an_archive() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "marwright", "verify", "--sample", "[1]"],
        cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 2
    assert "--sample" in done.stderr
