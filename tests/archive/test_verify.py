"""Verify: the order of its checks, its clean process, and archives that only running can unmask."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from archive import verify as module
from archive.files import sha256_file
from archive.store import publish
from archive.types import GOLDEN_INDEX, PROOF, VerifyReport
from archive.verify import verify
from recipes.errors import StoreError, VerifyError
from tests.archive.mutants import SAMPLES, assert_caught, mutate
from tests.archive.tiny import ROOT, members_of, rewrite

if TYPE_CHECKING:
    from tests.archive.proven import Proven

# Without torch: another program stands in for the probe, or nothing gets as far as that.


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put a program in the probe's place."""

    def replace(code: str) -> None:
        (tmp_path / "probe.py").write_text(code)
        monkeypatch.setattr(module, "PROBE", tmp_path / "probe.py")

    return replace


def test_what_reading_finds_is_reported_and_nothing_is_run(
    packed: Path, tmp_path: Path, probe: Callable[[str], None]
) -> None:
    probe(f"open({str(tmp_path / 'ran')!r}, 'w')")
    mar = rewrite(packed, tmp_path / "bad.mar", {"model.pt": b"x", "handlers/extra.py": b""})
    report = verify(mar)
    assert [problem.partition(":")[0] for problem in report.problems] == [
        "handlers/extra.py",
        "model.pt",
    ]
    assert not report.ok
    assert not report.proven
    assert not (tmp_path / "ran").exists()


def test_report_tells_which_bytes_it_speaks_of(packed: Path, probe: Callable[[str], None]) -> None:
    probe('print(\'{"problems": [], "golden_samples": 4}\')')
    assert verify(packed) == VerifyReport(
        sha256=sha256_file(packed),
        size=packed.stat().st_size,
        members=len(members_of(packed)),
        golden_samples=4,
        proven=True,
        problems=[],
    )


def test_archive_is_unpacked_where_it_is_said_and_removed(
    packed: Path, tmp_path: Path, probe: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Path("scratch")
    monkeypatch.chdir(tmp_path)
    scratch.mkdir()
    probe(
        "import json, os, sys\nos.chdir(sys.argv[1])\n"
        "print(json.dumps({'problems': [os.getcwd()], 'golden_samples': 0}))\n"
    )
    (where,) = verify(packed, scratch).problems
    assert Path(where).parent == scratch.resolve()
    assert list(scratch.iterdir()) == []


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match=r"gone\.mar: no such file"):
        verify(tmp_path / "gone.mar")


def test_the_process_sees_the_archive_and_nothing_of_the_project(
    packed: Path, probe: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.chdir(ROOT)
    probe(
        "import json, os, sys\n"
        "try:\n    import recipes\nexcept ImportError:\n    recipes = None\n"
        "files = sorted(os.listdir(sys.argv[1]))\n"
        "seen = [recipes is None, sys.path, dict(os.environ), os.getcwd(), sys.argv[1], files]\n"
        "print(json.dumps({'problems': [json.dumps(seen)], 'golden_samples': 0}))\n"
    )
    (seen,) = verify(packed).problems
    hidden, path, environment, cwd, folder, files = json.loads(seen)
    assert hidden
    # Nor its own folder, which in truth is archive/, where a `types.py` lies.
    assert not {"", str(ROOT), cwd, str(module.PROBE.parent)} & set(path)
    assert not {name for name in environment if name.startswith(("PYTHON", "OMP_"))}
    assert cwd == folder
    assert files == sorted({name.partition("/")[0] for name in members_of(packed)})
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; sys.exit(3)", "the process that loads it ended with 3: no output"),
        ("raise SystemExit('no memory')", "the process that loads it ended with 1: no memory"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "the process that loads it ended with -9: no output",
        ),
        ("pass", "the process that loads it ended with 0: no output"),
        (
            "import os; os.write(2, b'\\xff\\xfe bytes'); os._exit(5)",
            "the process that loads it ended with 5: \ufffd\ufffd bytes",
        ),
    ],
)
def test_process_that_dies_is_a_problem(
    packed: Path, probe: Callable[[str], None], code: str, problem: str
) -> None:
    probe(code)
    report = verify(packed)
    assert report.problems == [problem]
    assert not report.proven


def test_process_that_hangs_is_a_problem(
    packed: Path, probe: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    probe("import time; time.sleep(60)")
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.2)
    assert verify(packed).problems == ["loading it took more than 0.2 s"]


def test_proof_without_golden_samples_proves_nothing(
    packed: Path, probe: Callable[[str], None]
) -> None:
    probe('print(\'{"problems": [], "golden_samples": 0}\')')
    report = verify(packed)
    assert report.problems == [f"{GOLDEN_INDEX}: a proven archive has golden samples"]
    assert not report.proven


def test_archive_without_proof_is_ok_and_not_proven(
    packed: Path, tmp_path: Path, probe: Callable[[str], None]
) -> None:
    probe('print(\'{"problems": [], "golden_samples": 4}\')')
    report = verify(rewrite(packed, tmp_path / "bare.mar", {PROOF: None}))
    assert report.ok
    assert not report.proven


def test_archive_that_is_replaced_while_it_is_verified_is_not_published(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mar = tmp_path / "tiny.mar"
    mar.write_bytes(packed.read_bytes())

    def replaced(_: Path) -> dict[str, Any]:
        rewrite(packed, mar, {"model.pt": b"never looked at"})
        return {"problems": [], "golden_samples": 4}

    monkeypatch.setattr(module, "_probe", replaced)
    report = verify(mar)
    with pytest.raises(StoreError, match="changed since it was verified"):
        publish(mar, report, tmp_path / "store" / "tiny.mar")


# With torch: the real probe and TorchServe's loader, on archives whose digests all fit. Each
# takes seconds; what one process can tell of many archives is in test_probe.py.

GOLDEN_MUTANTS = [
    ("weight_nudged", "output", SAMPLES),
    ("labels_rotated", "answer", SAMPLES),
    ("mean_changed", "tensor", SAMPLES),
    ("top_k_changed", "answer", SAMPLES),
    ("golden_answer_altered", "answer", SAMPLES[:1]),
    ("order_reversed", "answer", SAMPLES),
]
OTHERS = ["healthy", "handler_is_noisy", "imports_the_project"]
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


@pytest.mark.torch
@pytest.mark.parametrize("name", ["healthy", "handler_is_noisy"])
def test_healthy_archive_is_proven(verdicts: Verdicts, name: str) -> None:
    report = verdicts(name)
    assert report.problems == []
    assert report.proven
    assert report.golden_samples == 4


@pytest.mark.torch
@pytest.mark.parametrize(("name", "stage", "samples"), GOLDEN_MUTANTS)
def test_change_that_fits_its_proof_is_caught_by_the_golden_samples(
    verdicts: Verdicts, name: str, stage: str, samples: list[str]
) -> None:
    report = verdicts(name)
    assert not report.proven
    assert_caught(report.problems, stage, samples)


@pytest.mark.torch
def test_handler_that_needs_the_project_fails_even_if_pythonpath_names_it(
    verdicts: Verdicts,
) -> None:
    report = verdicts("imports_the_project")
    assert report.problems == [
        "handlers.classify_image:handle: TorchServe cannot load it: "
        "ModuleNotFoundError: No module named 'train'"
    ]
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


@pytest.mark.torch
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
