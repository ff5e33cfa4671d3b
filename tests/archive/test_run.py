"""A handler in this process: asked as a worker asks it, and stopped at as a person wants to."""

from __future__ import annotations

import json
import pickle
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from marwright.archive.run import Answer, run
from marwright.archive.types import INVENTORY
from marwright.archive.write import FORMATS, ArchiveFormat, write_members
from marwright.recipe.errors import VerifyError
from tests.archive.rules.pickled import CWD, Foreign
from tests.archive.tiny import edited, members_of
from tests.archive.unproven import HANDLE, make, packing
from tests.servers import write_mar

# TorchServe leaves files of its own open.
LEAKS = pytest.mark.filterwarnings("ignore:unclosed file .*/ts/:ResourceWarning")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("here"), LEAKS]

# Says what it was sent, and does what it is asked to.
ECHO = """
from ts.service import PredictionException

def handle(data, context):
    if data is None:
        return None
    answers = []
    for number, row in enumerate(data):
        body = row["body"]
        if isinstance(body, dict) and "status" in body:
            context.set_response_status(body["status"], "as asked", number)
        if isinstance(body, dict) and "refuse" in body:
            raise PredictionException("all of you", body["refuse"])
        header = context.get_request_header(number, "body")["content-type"]
        answers.append({"of": len(data), "type": type(body).__name__, "header": header})
    return answers
"""
JSON = "application/json"


def packed(source: str, **options: Any) -> Path:
    make({"handler.py": source})
    return packing(force=True, **options).path


def asked(source: str, *bodies: tuple[bytes, str]) -> list[Answer]:
    return run(packed(source), bodies or [(b"{}", JSON)])


def test_requests_are_one_batch_and_bodies_are_what_a_worker_makes_of_them() -> None:
    kinds = {
        (b'{"a": 1}', JSON): "dict",
        (b"[1, 2]", JSON): "list",
        (b"{", JSON): "bytearray",
        (b"\xff", JSON): "bytearray",
        (b"text", "text/plain"): "str",
        (b"\xff", "text/plain"): "bytearray",
        (b"\x89PNG", "image/png"): "bytearray",
    }
    answers = asked(ECHO, *kinds)
    assert [answer.status for answer in answers] == [200] * len(kinds)
    assert [json.loads(answer.body) for answer in answers] == [
        {"of": len(kinds), "type": name, "header": kind} for (_, kind), name in kinds.items()
    ]


def test_each_answer_has_its_own_status() -> None:
    bodies = [(b"{}", JSON), (b'{"status": 400}', JSON), (b'{"status": 507}', JSON)]
    assert [answer.status for answer in asked(ECHO, *bodies)] == [200, 400, 507]


def test_exception_that_is_an_answer_is_the_answer_to_all() -> None:
    answers = asked(ECHO, (b"{}", JSON), (b'{"refuse": 413}', JSON))
    assert answers == [Answer(status=413, body=b"all of you")] * 2


@pytest.mark.parametrize(
    ("returned", "body"),
    [
        ("b'bytes'", b"bytes"),
        ("bytearray(b'bytes')", b"bytes"),
        ("'text \u00e9'", "text \u00e9".encode()),
        ("{'a': [1]}", b'{\n  "a": [\n    1\n  ]\n}'),
        ("None", b"null"),
    ],
)
def test_answers_are_encoded_as_a_worker_does(returned: str, body: bytes) -> None:
    assert asked(f"def handle(data, context):\n    return [{returned}]\n")[0].body == body


def test_error_of_the_handler_is_raised_as_it_is() -> None:
    source = "def handle(data, context):\n    return data and 1 / 0\n"
    with pytest.raises(ZeroDivisionError) as error:
        asked(source)
    assert Path(error.traceback[-1].path).name == "handler.py"
    # The file is gone, and its line is shown.
    shown = "".join(traceback.format_exception(error.value))
    assert "    return data and 1 / 0\n" in shown


def test_breakpoint_stops_in_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[FrameType] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stops.append(sys._getframe(1)))
    source = "def handle(data, context):\n    breakpoint()\n    return data and [1]\n"
    asked(source)
    # Once to load, once to answer.
    assert [(Path(f.f_code.co_filename).name, f.f_code.co_name) for f in stops] == [
        ("handler.py", "handle")
    ] * 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("{}", "tiny.mar: the handler returned dict; TorchServe wants a list"),
        ("[1, 2]", "tiny.mar: the handler returned 2 answers to 1 requests"),
        ("[set()]", "tiny.mar: the handler returned what TorchServe cannot send: "),
    ],
)
def test_answer_that_no_worker_could_send_is_named(answer: str, why: str) -> None:
    with pytest.raises(VerifyError) as error:
        asked(f"def handle(data, context):\n    return {answer} if data else None\n")
    assert str(error.value).startswith(why)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_runs(format: ArchiveFormat) -> None:
    make({"lib/__init__.py": "", "lib/words.py": "WORD = 'from the archive'"})
    source = "from lib.words import WORD\n\ndef handle(data, context):\n    return [WORD]\n"
    path = packed(source, archive_format=format)
    assert run(path, [(b"{}", JSON)]) == [Answer(status=200, body=b"from the archive")]


def test_dotted_handler_runs() -> None:
    make({"pkg/__init__.py": "", "pkg/sub/__init__.py": "WORD = 'deep'"})
    make({"pkg/sub/own.py": "from . import WORD\ndef start(data, context):\n    return [WORD]\n"})
    path = packing(handler="pkg.sub.own:start").path
    assert run(path, [(b"{}", JSON)])[0].body == b"deep"


def test_handler_finds_its_files_and_its_configuration() -> None:
    make({"model-config.yaml": "handler:\n  top_k: 7\n", "labels.json": '["a"]'})
    source = (
        "import json\n"
        "from pathlib import Path\n\n"
        "def handle(data, context):\n"
        "    folder = context.system_properties['model_dir']\n"
        "    here = json.loads(Path('labels.json').read_text())\n"
        "    there = json.loads((Path(folder) / 'labels.json').read_text())\n"
        "    name = context.manifest['model']['serializedFile']\n"
        "    return [[here, there, name, context.model_yaml_config['handler']['top_k']]]\n"
    )
    path = packed(source, config_file="model-config.yaml", extra_files="labels.json")
    assert json.loads(run(path, [(b"{}", JSON)])[0].body) == [["a"], ["a"], "model.pt", 7]


def test_afterwards_all_is_as_it_was() -> None:
    def state() -> list[object]:
        ours = ("marwright.archive.run", "marwright.recipe.errors")
        return [Path.cwd(), [*sys.path], *(sys.modules[name] for name in ours)]

    before = state()
    make({"util.py": "X = 1"})
    asked(f"import util\n{HANDLE}")
    assert state() == before
    assert not {"handler", "util"} & set(sys.modules)


def test_second_archive_runs_its_own_code() -> None:
    for word in ("one", "two"):
        make({"util.py": f"WORD = '{word}'"})
        source = "from util import WORD\ndef handle(data, context):\n    return [WORD]\n"
        assert asked(source)[0].body == word.encode()


def test_archive_has_a_package_that_is_called_as_a_room_of_this_project() -> None:
    runtime = "marwright/runtime"
    make({f"{runtime}/__init__.py": "", f"{runtime}/spec.py": "WORD = 'mine'",
          "marwright/__init__.py": ""})  # fmt: skip
    source = (
        "from marwright.runtime.spec import WORD\ndef handle(data, context):\n    return [WORD]\n"
    )
    assert asked(source)[0].body == b"mine"


# What cannot be run


def test_handler_does_not_find_this_project(capfd: pytest.CaptureFixture[str]) -> None:
    # `pack` would not: a handler takes what it needs of marwright.runtime along.
    path = write_mar(Path("tiny.mar"), f"import marwright.recipe.load\n{HANDLE}")
    with pytest.raises(VerifyError) as error:
        run(path, [(b"{}", JSON)])
    assert str(error.value) == (
        "tiny.mar: tiny_handler:handle: TorchServe cannot load it: "
        "ModuleNotFoundError: No module named 'marwright.recipe'; 'marwright' is not a package"
    )
    # The line that fails is told, for whoever looks for it.
    assert "import marwright.recipe.load" in capfd.readouterr().err


def test_archive_that_is_not_there_is_named() -> None:
    with pytest.raises(VerifyError, match=r"gone\.mar: No such file or directory"):
        run(Path("gone.mar"), [(b"{}", JSON)])


def test_damaged_archive_is_not_run() -> None:
    path = packed(f"raise SystemExit('was run')\n{HANDLE}")
    changed = edited(path, "handler.py", "SystemExit", "SystemError")
    bad = write_members(Path("bad.mar"), {**members_of(path), **changed})
    with pytest.raises(VerifyError, match=r"bad\.mar: handler\.py: changed; its SHA-256 is "):
        run(bad, [(b"{}", JSON)])


@pytest.mark.parametrize("when", ["import", "call"])
def test_handler_that_ends_the_process_is_an_error(when: str) -> None:
    ends = "raise SystemExit(0)"
    source = f"{ends}\n{HANDLE}" if when == "import" else (
        f"def handle(data, context):\n    if data is not None:\n        {ends}\n"
    )  # fmt: skip
    with pytest.raises(VerifyError, match=r"the handler ends the process: SystemExit\(0\)"):
        asked(source)


def test_payload_that_runs_code_is_not_run() -> None:
    path = packed(HANDLE)
    payload = next(name for name in members_of(path) if name.endswith(".pt"))
    kept = {name: body for name, body in members_of(path).items() if name != INVENTORY}
    bad = write_members(Path("bad.mar"), {**kept, payload: pickle.dumps(Foreign(), 2)})
    with pytest.raises(VerifyError, match=rf"bad\.mar: {payload}: calls {CWD} when it is loaded"):
        run(bad, [(b"{}", JSON)])


def test_archive_of_the_cpp_backend_is_not_run() -> None:
    path = packing(handler="BaseHandler", runtime="LSP").path
    with pytest.raises(VerifyError, match="only TorchServe's C\\+\\+ backend can run it"):
        run(path, [(b"{}", JSON)])
