"""Verify, with the real probe and TorchServe's loader: archives that only running can unmask.

Their digests all fit. Each takes seconds; what one process can tell of many archives is in
test_probe.py.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from marwright.archive.types import MANIFEST, VerifyReport, to_json
from marwright.archive.verify import verify
from marwright.archive.write import write_members
from tests.archive.mutants import SAMPLES, assert_caught, mutate
from tests.archive.tiny import ROOT

if TYPE_CHECKING:
    from tests.archive.proven import Proven

pytestmark = pytest.mark.torch

GOLDEN_MUTANTS = [
    ("weight_nudged", "output", SAMPLES),
    ("labels_rotated", "answer", SAMPLES),
    ("mean_changed", "tensor", SAMPLES),
    ("top_k_changed", "answer", SAMPLES),
    ("golden_answer_altered", "answer", SAMPLES[:1]),
    ("order_reversed", "answer", SAMPLES),
]
LOADING = {
    "imports_the_project": "TorchServe cannot load it: ModuleNotFoundError: No module named "
    "'marwright.training'",
    "lacks_a_file_of_the_runtime": "TorchServe cannot load it: ModuleNotFoundError: No module "
    "named 'marwright.runtime.read'",
    # Then the one that is installed here is found, which no server has.
    "lacks_the_init_of_the_package": "loaded from outside the archive",
}
OTHERS = ["healthy", "handler_is_noisy", *LOADING]
Verdicts = Callable[[str], VerifyReport]


@pytest.fixture(scope="module")
def verdicts(proven_image: Proven, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verdicts]:
    """Verify mutants of a proven archive, two at a time, where PYTHONPATH names the project."""
    folder = tmp_path_factory.mktemp("mutants")
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setenv("PYTHONPATH", str(ROOT))
        running = {
            name: pool.submit(verify, mutate(proven_image, name, folder))
            for name in [*OTHERS, *(name for name, _, _ in GOLDEN_MUTANTS)]
        }
        yield lambda name: running[name].result()
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", ["healthy", "handler_is_noisy"])
def test_healthy_archive_is_proven(verdicts: Verdicts, name: str) -> None:
    report = verdicts(name)
    assert report.problems == []
    assert report.proven
    assert report.golden_samples == 4


@pytest.mark.parametrize(("name", "stage", "samples"), GOLDEN_MUTANTS)
def test_change_that_fits_its_proof_is_caught_by_the_golden_samples(
    verdicts: Verdicts, name: str, stage: str, samples: list[str]
) -> None:
    report = verdicts(name)
    assert not report.proven
    assert_caught(report.problems, stage, samples)


@pytest.mark.parametrize("name", LOADING)
def test_handler_finds_what_is_in_the_archive_and_nothing_of_ours(
    verdicts: Verdicts, name: str
) -> None:
    """Even if PYTHONPATH names the project, and the engine is installed."""
    report = verdicts(name)
    assert report.problems[0] == f"marwright.runtime.classify_image:handle: {LOADING[name]}"
    assert not report.proven


CLASS_HANDLER = """
import os
class Echo:
    def initialize(self, context):
        self.folder = context.system_properties["model_dir"]
        assert os.path.exists(os.path.join(self.folder, "weights.bin"))
    def handle(self, data, context):
        return ["an answer"] * len(data)
"""


def test_archive_of_another_tool_loads_and_is_not_called_proven(tmp_path: Path) -> None:
    """As torch-model-archiver writes it: deflated, with folders, a class at the root, no proof."""
    model = {"modelName": "echo", "modelVersion": "1.0", "handler": "echo.py",
             "serializedFile": "weights.bin"}  # fmt: skip
    manifest = {"createdOn": "01/01/2026 00:00:00", "runtime": "python", "model": model,
                "archiverVersion": "0.12.0"}  # fmt: skip
    with zipfile.ZipFile(tmp_path / "echo.mar", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("echo.py", CLASS_HANDLER)
        archive.writestr("weights.bin", bytes(10_000))
        archive.mkdir("MAR-INF")
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    report = verify(tmp_path / "echo.mar")
    assert report.problems == []
    assert report.ok
    assert not report.proven
    assert (report.members, report.golden_samples) == (3, 0)


def archive_of(folder: Path, handler: str, **members: bytes) -> Path:
    """Write what another tool might have: a handler `h.py`, a payload, and members of one name."""
    payload = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), payload)
    model = {"modelName": "m", "modelVersion": "1", "handler": "h.py", "serializedFile": "model.pt"}
    manifest = to_json({"runtime": "python", "model": model})
    sources = {f"{name}.py": content for name, content in members.items()}
    code = f"{handler}\ndef handle(data, context):\n    return [b''] * len(data or ())\n"
    contents = {"h.py": code.encode(), "model.pt": payload.getvalue(), MANIFEST: manifest}
    return write_members(folder / "m.mar", {**contents, **sources})


def test_module_that_hides_one_of_torchs_is_found(tmp_path: Path) -> None:
    """The server has the archive on its path from the start, so what opens the payload sees it."""
    mar = archive_of(tmp_path, "import torch", typing_extensions=b"raise RuntimeError('hidden')")
    problems = verify(mar).problems
    assert problems
    assert all("RuntimeError: hidden" in problem for problem in problems)


def test_what_a_handler_says_is_one_line_that_no_terminal_obeys(tmp_path: Path) -> None:
    mar = archive_of(tmp_path, r"raise ValueError('\x1b[31mone\ntwo: proven')")
    assert verify(mar).problems == [
        "h.py: TorchServe cannot load it: ValueError: \\x1b[31mone",
    ]


def test_handler_that_speaks_in_the_probes_place_proves_nothing(tmp_path: Path) -> None:
    forged = """
import os
for number in range(3, 20):
    try:
        os.write(number, b"{}")
    except OSError:
        continue
print("so long", flush=True)
os._exit(0)
"""
    problem = "h.py: loading it: the process ended with 0, as by os._exit: so long"
    assert verify(archive_of(tmp_path, forged)).problems == [problem]
