"""`python -m marwright run`: inputs in, answers out, and the handler's own error where it fails."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from marwright.cli.main import main
from tests.archive.unproven import make, packing
from tests.projects import ROOT

LEAKS = pytest.mark.filterwarnings("ignore:unclosed file .*/ts/:ResourceWarning")
pytestmark = [pytest.mark.torch, LEAKS]

HANDLER = """
def handle(data, context):
    if data is None:
        return None
    answers = []
    for number, row in enumerate(data):
        body = row["body"]
        if isinstance(body, dict) and "status" in body:
            context.set_response_status(body["status"], "as asked", number)
        if isinstance(body, dict) and "raise" in body:
            raise ValueError(body["raise"])
        answers.append([len(data), body if isinstance(body, dict) else len(body)])
    return answers
"""


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(
        {"handler.py": HANDLER, "model.pt": "not a model", "three.bin": "abc", "a.json": '{"b":1}'}
    )
    packing()


def test_one_answer_is_printed_as_the_server_would_send_it(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert main(["run", "tiny.mar", "three.bin"]) == 0
    assert capfdbinary.readouterr().out == b"[\n  1,\n  3\n]\n"


def test_several_are_one_batch_and_a_line_each(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"12345")))
    assert main(["run", "tiny.mar", "three.bin", "a.json", '{"c": 2}', "-"]) == 0
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        "three.bin: 200 [ 4, 3 ]",
        'a.json: 200 [ 4, { "b": 1 } ]',
        '{"c": 2}: 200 [ 4, { "c": 2 } ]',
        "-: 200 [ 4, 5 ]",
    ]


def test_refused_inputs_are_named_after_the_answers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = ["run", "tiny.mar", '{"status": 400}', "three.bin", '{"status": 507}']
    assert main(words) == 11
    out, err = capfd.readouterr()
    assert out == "three.bin: 200 [ 3, 3 ]\n"
    first, second = err.split("\n{", 1)
    assert first.startswith('marwright: {"status": 400}: 400: [')
    assert second.startswith('"status": 507}: 507: [')


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["gone.mar", "three.bin"], 4, "marwright: gone.mar: No such file or directory\n"),
        (["three.bin", "three.bin"], 4, "marwright: three.bin: "),
        (["tiny.mar", "gone.png"], 2, "marwright: gone.png: no such file; INPUT is a file, - "),
    ],
)
def test_what_cannot_be_asked_is_named(
    words: list[str], code: int, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(why)


def test_debugger_stops_in_the_handler_and_its_error_shows_its_line() -> None:
    stop = "\n        breakpoint()\n        raise ValueError("
    make(
        {
            "handler.py": HANDLER.replace(
                "\n            raise ValueError(", stop.replace(" " * 8, " " * 12)
            )
        }
    )
    packing(force=True)
    done = subprocess.run(
        [sys.executable, "-m", "marwright", "run", "tiny.mar", json.dumps({"raise": "asked"})],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input="p body\nwhere\ncontinue\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "(Pdb) {'raise': 'asked'}" in done.stdout
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1] == "ValueError: asked"
    assert lines[-2].strip() == 'raise ValueError(body["raise"])'


def test_what_torch_says_of_its_own_calls_is_not_shown_and_what_a_handler_says_is() -> None:
    source = (
        "import warnings\nimport torch\n"
        "def handle(data, context):\n"
        "    if data is None:\n"
        "        path = context.system_properties['model_dir'] + '/model.pt'\n"
        "        torch.jit.load(path)\n"
        "        warnings.warn('told by the handler', FutureWarning, stacklevel=1)\n"
        "        return None\n"
        "    return ['yes']\n"
    )
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), "model.pt")
    make({"handler.py": source})
    packing(force=True)
    done = subprocess.run(
        [sys.executable, "-m", "marwright", "run", "tiny.mar", "three.bin"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "yes\n")
    assert "is deprecated" not in done.stderr
    assert "FutureWarning: told by the handler" in done.stderr
