"""The probe: what loading and the golden samples say of an archive, many of them in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from archive import probe
from archive.reader import unpack
from tests.archive.mutants import MUTANTS, SAMPLES, assert_caught, mutate, stages
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
    assert probe.same(answer, expected, 1e-3)


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
    assert not probe.same(answer, expected, 1e-3)


def test_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "MAR-INF").mkdir()
    # It would wait for someone to write the manifest, for ever.
    os.mkfifo(tmp_path / "MAR-INF" / "MANIFEST.json")
    command = [sys.executable, "-I", probe.__file__, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 1


# One process loads torch and TorchServe, and a fork of it takes each archive.
EACH_IN_A_FORK = """
import json, os, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
spec = spec_from_file_location("probe", sys.argv[1])
probe = module_from_spec(spec)
spec.loader.exec_module(probe)
import safetensors.torch, torch, ts.metrics.metric_cache_yaml_impl, ts.model_loader
for folder in sys.argv[2:]:
    if os.fork() == 0:
        found = probe.probe(Path(folder).resolve())
        Path(folder + ".json").write_text(json.dumps(found))
        os._exit(0)
    os.wait()
"""


def probed(archives: list[Path], folder: Path) -> dict[str, tuple[list[str], int]]:
    """Probe archives; returns problems and the number of samples by the archive's stem."""
    folders = [folder / mar.stem for mar in archives]
    for mar, unpacked in zip(archives, folders, strict=True):
        unpacked.mkdir()
        unpack(mar, unpacked)
    command = [sys.executable, "-I", "-c", EACH_IN_A_FORK, probe.__file__, *map(str, folders)]
    subprocess.run(command, capture_output=True, check=True)
    return {f.name: tuple(json.loads(Path(f"{f}.json").read_text())) for f in folders}


Found = dict[str, tuple[list[str], int]]


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
    return probed([*archives, proven_table.mar, scaled], folder)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["healthy", "tiny_table", "handler_is_noisy"])
def test_healthy_archives_have_no_problems(found: Found, name: str) -> None:
    assert found[name] == ([], 4)


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
    problems, count = found[name]
    assert_caught(problems, stage, samples)
    assert count == 4


@pytest.mark.torch
def test_record_of_another_request_is_caught(found: Found) -> None:
    assert stages(found["golden_request_swapped"][0]).keys() == {SAMPLES[1]}


@pytest.mark.torch
def test_answer_with_another_status_is_caught(found: Found) -> None:
    problems, _ = found["status_altered"]
    assert problems == [
        f"{sample}: answered with status 500: {{'error': 'too much to do'}}" for sample in SAMPLES
    ]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("imports_what_nobody_has", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("handler_fails_to_load", "MemoryError: weights too large"),
        ("payload_is_no_module", "RuntimeError: "),
        ("label_dropped", "RuntimeError: the archive is inconsistent: labels.json has 1 labels"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_its_own_error(
    found: Found, name: str, error: str
) -> None:
    ((problem,), count) = found[name]
    said = "handlers.classify_image:handle: TorchServe cannot load it: "
    assert problem.startswith(said + error)
    assert count == 0


@pytest.mark.torch
def test_stock_handler_does_not_pass_for_the_archives_own(found: Found) -> None:
    (problem,), _ = found["replaced_by_a_stock_handler"]
    assert problem.startswith("base_handler: ")


@pytest.mark.torch
def test_handler_that_is_not_in_the_archive_is_refused(found: Found) -> None:
    (problem,), _ = found["handler_of_the_environment"]
    assert problem == "operator:is_: loaded from outside the archive"
