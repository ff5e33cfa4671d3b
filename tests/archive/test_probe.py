"""The probe: what loading and the golden samples say of an archive, many of them in one process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from marwright.archive import probe, running
from marwright.archive.container.open import open_archive
from marwright.archive.contents import read_contents
from marwright.archive.golden_check import read_golden, same
from marwright.archive.probing import Probe
from tests.archive.mutants import (
    MUTANTS,
    SAMPLES,
    assert_caught,
    handler_with,
    mutate,
    stages,
)
from tests.archive.tiny import edited_json, rewrite

if TYPE_CHECKING:
    from tests.archive.proven import Proven


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"a": [1.0, "x"]}, {"a": [1.0, "x"]}),
        (1.0009, 1.0),
        (-2000, -2000.0),
        (None, None),
        ([], []),
        ({}, {}),
    ],
)
def test_answers_that_are_the_same(answer: Any, expected: Any) -> None:
    assert same(answer, expected, 1e-3)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (1.01, 1.0),
        (float("nan"), 1.0),
        ("1.0", 1.0),
        (None, 1.0),
        ([1.0], 1.0),
        ([1.0], [1.0, 1.0]),
        ([1.0, 1.0], [1.0]),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"b": 1}, {"a": 1}),
        ([{"a": "x"}], [{"a": "y"}]),
        ("a", "b"),
        (2, 3),
        ([], {}),
        ({}, []),
    ],
)
def test_answers_that_differ(answer: Any, expected: Any) -> None:
    assert not same(answer, expected, 1e-3)


@pytest.mark.parametrize(
    ("body", "content_type", "value"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b"text", "text/plain", "text"),
        (b'{"a": 1}', "text/csv", '{"a": 1}'),
        (b"\x89PNG", "image/png", bytearray(b"\x89PNG")),
        # What is not what it is called comes as it is.
        (b"{broken", "application/json", bytearray(b"{broken")),
        (b"\xff", "application/json", bytearray(b"\xff")),
        (b"\xff", "text/plain", bytearray(b"\xff")),
        (b"[" * 10_000, "application/json", bytearray(b"[" * 10_000)),
        (b"", "application/json", bytearray()),
    ],
)
def test_body_is_decoded_as_the_worker_does(body: bytes, content_type: str, value: Any) -> None:
    decoded = probe.decoded(body, content_type)
    assert (decoded, type(decoded)) == (value, type(value))


# One process loads torch and TorchServe, and a fork of it takes each archive.
EACH_IN_A_FORK = """
import os, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
spec = spec_from_file_location("probe", sys.argv[1])
probe = module_from_spec(spec)
# Where a dataclass looks itself up.
sys.modules["probe"] = probe
spec.loader.exec_module(probe)
import torch, ts.metrics.metric_cache_yaml_impl, ts.model_loader
for text in sys.argv[2:]:
    asked, replies, folder = text.split(":")
    if os.fork() == 0:
        probe.serve(os.fdopen(int(asked), "rb"), os.fdopen(int(replies), "wb"), Path(folder))
        os._exit(0)
    os.wait()
"""


@dataclass
class Probed:
    """What was found of an archive, and the stages that it came to."""

    problems: list[str]
    unchecked: list[str]
    golden_samples: int
    stages: list[str]


Found = dict[str, Probed]


def probed(archives: list[Path], folder: Path) -> Found:
    """Probe archives; returns what was found by the archive's stem."""
    ends: list[tuple[int, int]] = []
    theirs: list[tuple[int, int]] = []
    folders = [(folder / mar.stem).resolve() for mar in archives]
    for mar, unpacked in zip(archives, folders, strict=True):
        unpacked.mkdir()
        with open_archive(mar) as archive:
            archive.unpack(unpacked)
        (asked, to_ask), (replies, to_reply) = os.pipe(), os.pipe()
        ends.append((to_ask, replies))
        theirs.append((asked, to_reply))
    numbers = [f"{a}:{r}:{f}" for (a, r), f in zip(theirs, folders, strict=True)]
    command = [sys.executable, "-I", "-c", EACH_IN_A_FORK, probe.__file__, *numbers]
    given = [number for pair in theirs for number in pair]
    quiet, silent = os.pipe(), os.pipe()
    os.set_blocking(quiet[0], False)
    with (
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=given
        ) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        for number in given:
            os.close(number)
        found = {
            mar.stem: asked_all(mar, unpacked, Probe(
                folder=unpacked, asked=to_ask, replies=replies, printed=quiet[0], status=silent[0],
                until=time.monotonic() + 120,
            ))
            for mar, unpacked, (to_ask, replies) in zip(archives, folders, ends, strict=True)
        }  # fmt: skip
        stack.pop_all()
    assert process.returncode == 0
    for number in (*quiet, *silent):
        os.close(number)
    return found


def asked_all(mar: Path, folder: Path, probe: Probe) -> Probed:
    """Ask a probe that runs for all that `verify` asks."""
    os.set_blocking(probe.asked, False)
    os.set_blocking(probe.replies, False)
    with open_archive(mar) as archive:
        contents = read_contents(archive, None)
    found, told = running.Found(), dict[str, float]()
    asking = running.Asking(probe, contents, found, told.__setitem__)
    asking.ask_all(read_golden(folder), running.Aside())
    os.close(probe.asked)
    os.close(probe.replies)
    return Probed(found.problems, found.unchecked, found.golden, [*told])


# What a handler may return in place of an answer to each request, and what is said of it.
RETURNED = {
    "a_dict": ("{'a': 1}", "the handler returned dict; TorchServe wants a list"),
    "nothing": ("None", "the handler returned NoneType; TorchServe wants a list"),
    "a_tuple": ("(b'{}',)", "the handler returned tuple; TorchServe wants a list"),
    "no_answer": ("[]", "the handler returned 0 answers to 1 requests"),
    "two_answers": ("[b'{}', b'{}']", "the handler returned 2 answers to 1 requests"),
    "a_set": (
        "[{1, 2}]",
        "the handler returned what TorchServe cannot send: Object of type set is not JSON "
        "serializable",
    ),
}
# In any of these forms an answer is sent, and here it is the wrong one.
SENT = {"bytes": "b'7'", "text": "'7'", "a_number": "7", "a_list": "[7, 'é']"}


def returning(made: Proven, name: str, value: str, folder: Path) -> Path:
    """Write the archive with a handler that returns this to everybody."""
    code = (
        "def handle(data, context):\n"
        f"    return {value} if data is not None else service.handle(data, context)\n"
    )
    changes = handler_with(made, code)
    return rewrite(made.mar, folder / f"returns_{name}.mar", changes, proven=True)


@pytest.fixture(scope="module")
def found(
    proven_image: Proven, proven_table: Proven, tmp_path_factory: pytest.TempPathFactory
) -> Found:
    """What the probe says of every mutant, of a regression, and of one that is scaled otherwise."""
    folder = tmp_path_factory.mktemp("probed")
    mean = proven_table.meta.preprocess["target_mean"] * (1 + 1e-4)
    changes = edited_json(proven_table.mar, "preprocess.json", target_mean=mean)
    scaled = rewrite(proven_table.mar, folder / "target_scaled.mar", changes, proven=True)
    archives = [mutate(proven_image, name, folder) for name in MUTANTS]
    answers = {name: value for name, (value, _) in RETURNED.items()}
    answers |= {name: f"[{value}]" for name, value in SENT.items()}
    returned = [returning(proven_image, *answer, folder) for answer in answers.items()]
    return probed([*archives, *returned, proven_table.mar, scaled], folder)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["healthy", "tiny_table", "handler_is_noisy"])
def test_healthy_archives_have_no_problems(found: Found, name: str) -> None:
    assert (found[name].problems, found[name].unchecked) == ([], [])
    assert found[name].golden_samples == 4
    assert found[name].stages == ["start", "open", "load", "golden"]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "stage", "samples"),
    [
        ("golden_output_altered", "output", SAMPLES[:1]),
        ("preprocessing_edited", "tensor", SAMPLES),
        ("responses_altered", "response", SAMPLES),
        # Its features and outputs are the same: only the answer is another.
        ("target_scaled", "answer", SAMPLES),
    ],
)
def test_change_is_caught_at_its_stage(
    found: Found, name: str, stage: str, samples: list[str]
) -> None:
    assert_caught(found[name].problems, stage, samples)
    assert found[name].golden_samples == 4


@pytest.mark.torch
def test_record_of_another_request_is_caught(found: Found) -> None:
    assert stages(found["golden_request_swapped"].problems).keys() == {SAMPLES[1]}


@pytest.mark.torch
def test_answer_with_another_status_is_caught(found: Found) -> None:
    assert found["status_altered"].problems == [
        f"{sample}: answered with status 500: {{'error': 'too much to do'}}" for sample in SAMPLES
    ]


@pytest.mark.torch
@pytest.mark.parametrize("name", RETURNED)
def test_what_torchserve_would_not_send_is_named(found: Found, name: str) -> None:
    problems = found[f"returns_{name}"].problems
    assert problems == [f"{sample}: {RETURNED[name][1]}" for sample in SAMPLES]


@pytest.mark.torch
@pytest.mark.parametrize("name", SENT)
def test_answer_of_any_form_is_read_as_it_is_sent(found: Found, name: str) -> None:
    answer = "[7, 'é']" if name == "a_list" else "7"
    problems = found[f"returns_{name}"].problems
    assert [problem.partition(", recorded")[0] for problem in problems] == [
        f"{sample}: the answer is {answer}" for sample in SAMPLES
    ]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("imports_what_nobody_has", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("handler_fails_to_load", "MemoryError: weights too large"),
        ("label_dropped", "RuntimeError: the archive is inconsistent: labels.json has 1 labels"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_its_own_error(
    found: Found, name: str, error: str
) -> None:
    (problem,) = found[name].problems
    said = "marwright.runtime.classify_image:handle: TorchServe cannot load it: "
    assert problem.startswith(said + error)
    assert found[name].golden_samples == 0
    assert found[name].stages == ["start", "open", "load"]


@pytest.mark.torch
def test_payload_that_cannot_be_opened_is_named_before_anything_is_loaded(found: Found) -> None:
    (problem,) = found["payload_is_no_module"].problems
    assert problem.startswith("model.pt: cannot be opened as weights: UnpicklingError: ")
    assert found["payload_is_no_module"].stages == ["start", "open"]


@pytest.mark.torch
def test_stock_handler_does_not_pass_for_the_archives_own(found: Found) -> None:
    (problem,) = found["replaced_by_a_stock_handler"].problems
    assert problem.startswith("base_handler: ")


@pytest.mark.torch
def test_handler_that_is_not_in_the_archive_proves_nothing(found: Found) -> None:
    """Reading the archive refuses it already; here it could be one of TorchServe's own."""
    said = ": the handler fails: AttributeError: "
    assert [
        problem.partition(said)[:2] for problem in found["handler_of_the_environment"].problems
    ] == [(sample, said) for sample in SAMPLES]
