"""Verify: the order of its checks, its clean process, and what it makes of what that says.

Another program stands in for the probe, or nothing gets as far as that; no torch.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marwright.archive import probing, running
from marwright.archive import verify as module
from marwright.archive.container.writer import Content
from marwright.archive.store import publish
from marwright.archive.types import (
    GOLDEN,
    GOLDEN_INDEX,
    GOLDEN_TENSORS,
    INVENTORY,
    MODEL_CONFIG,
    PROOF,
    VerifyReport,
)
from marwright.archive.verify import verify
from marwright.archive.write import FORMATS, SUFFIXES, ArchiveFormat, write_archive
from marwright.files import sha256_file
from marwright.recipe.errors import StoreError, VerifyError
from tests.archive.stand_in import put, saying
from tests.archive.tiny import ROOT, members_of, rewrite

NO_GOLDEN: dict[str, bytes | None] = {
    GOLDEN_INDEX: None,
    GOLDEN_TENSORS: None,
    **{f"{GOLDEN}/{number}.request": None for number in range(4)},
}


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put a program in the probe's place."""

    def replace(code: str) -> None:
        (tmp_path / "program").mkdir(exist_ok=True)
        monkeypatch.setattr(probing, "PROBE", put(tmp_path / "program", code))

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
    assert report.sha256 == sha256_file(mar)
    assert not report.ok
    assert not report.proven
    assert not (tmp_path / "ran").exists()


def test_archive_whose_structure_is_wrong_is_not_read(
    packed: Path, tmp_path: Path, probe: Callable[[str], None]
) -> None:
    probe(saying())
    (tmp_path / "cut.mar").write_bytes(packed.read_bytes()[:-1])
    report = verify(tmp_path / "cut.mar")
    assert report.problems == ["cut off in the middle of its end record"]
    # Which bytes they are says nothing then.
    assert (report.sha256, report.proven, report.golden_samples) == ("", False, 0)


def test_archive_with_damaged_bytes_is_not_looked_into(
    packed: Path, tmp_path: Path, probe: Callable[[str], None]
) -> None:
    probe(saying())
    damaged = tmp_path / "damaged.mar"
    damaged.write_bytes(packed.read_bytes().replace(b"batchSize", b"badSize__"))
    report = verify(damaged)
    (problem,) = report.problems
    assert problem.startswith(f"{MODEL_CONFIG}: its CRC-32 is ")
    assert (report.sha256, report.proven) == (sha256_file(damaged), False)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def test_payload_that_could_run_code_is_never_opened(
    packed: Path, tmp_path: Path, probe: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    probe(f"open({str(tmp_path / 'ran')!r}, 'w')")
    changes = {"model.pt": pickle.dumps(Payload(), protocol=2)}
    report = verify(rewrite(packed, tmp_path / "evil.mar", changes, proven=True))
    (problem,) = report.problems
    assert problem.startswith("model.pt: calls posix.mkdir when it is loaded")
    assert not report.proven
    assert {path.name for path in tmp_path.iterdir()} == {"program", "evil.mar"}


def test_other_member_that_could_run_code_is_noted(
    packed: Path, tmp_path: Path, probe: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is ever loaded so is known to the handler alone."""
    monkeypatch.chdir(tmp_path)
    probe(saying())
    changes = {"vocabulary.pkl": pickle.dumps(Payload(), protocol=2)}
    report = verify(rewrite(packed, tmp_path / "odd.mar", changes, proven=True))
    assert (report.problems, report.proven) == ([], True)
    (note,) = (note for note in report.notes if not note.startswith(MODEL_CONFIG))
    assert note.startswith("vocabulary.pkl: calls posix.mkdir when it is loaded")
    assert note.endswith(" (if the handler loads it so)")
    assert not (tmp_path / "unpickled").exists()


def test_stages_are_timed_in_their_order(packed: Path, probe: Callable[[str], None]) -> None:
    probe(saying("import time; time.sleep(0.2)"))
    told: dict[str, float] = {}
    verify(packed, timed=told.__setitem__)
    assert list(told) == ["read", "unpack", "scan", "start", "open", "load", "golden"]
    assert told["load"] > 0.2
    assert all(0 <= seconds < 60 for seconds in told.values())


def test_stages_that_never_came_are_not_timed(tmp_path: Path) -> None:
    (tmp_path / "bad.mar").write_bytes(b"no zip")
    told: dict[str, float] = {}
    verify(tmp_path / "bad.mar", timed=told.__setitem__)
    assert list(told) == ["read"]


def test_report_tells_which_bytes_it_speaks_of(packed: Path, probe: Callable[[str], None]) -> None:
    probe(saying())
    assert verify(packed) == VerifyReport(
        sha256=sha256_file(packed),
        size=packed.stat().st_size,
        members=len(members_of(packed)),
        golden_samples=4,
        handler="tried",
        proven=True,
        problems=[],
        unchecked=[],
        notes=[f"{MODEL_CONFIG}: read by the handler only: handler"],
    )


def test_archive_is_unpacked_where_it_is_said_and_removed(
    packed: Path, tmp_path: Path, probe: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Path("scratch")
    monkeypatch.chdir(tmp_path)
    scratch.mkdir()
    probe(saying("import os; SAID['problems'] = [os.getcwd(), os.environ['TMPDIR']]"))
    where, temporary = (Path(problem) for problem in verify(packed, scratch).problems)
    assert where.parent == temporary.parent
    assert where.parent.parent == scratch.resolve()
    assert list(scratch.iterdir()) == []


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match=r"gone\.mar: No such file"):
        verify(tmp_path / "gone.mar")


def test_the_process_sees_the_archive_and_nothing_of_the_project(
    packed: Path, probe: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.chdir(ROOT)
    probe(
        saying(
            "try:\n    import recipes\nexcept ImportError:\n    recipes = None\n"
            "files = sorted(os.listdir(folder))\n"
            "seen = [recipes is None, sys.path, dict(os.environ), os.getcwd()]\n"
            "seen += [str(folder), files]\n"
            "SAID['problems'] = [json.dumps(seen)[i:i + 1000] for i in range(0, 9000, 1000)]\n"
        )
    )
    seen = "".join(verify(packed).problems)
    hidden, path, environment, cwd, folder, files = json.loads(seen)
    assert hidden
    # Nor its own folder, which in truth is archive/, where a `types.py` lies.
    assert not {"", str(ROOT), str(probing.SANDBOX.parent)} & set(path)
    # As in the worker: before Python's own library.
    assert path[0] == folder
    assert {name for name in environment if name.startswith(("PYTHON", "OMP_"))} == {"PYTHONPATH"}
    assert environment["PYTHONPATH"] == f"{folder}:"
    assert cwd == folder
    assert files == sorted({name.partition("/")[0] for name in members_of(packed)})
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; sys.exit(3)", "the process ended with 3: no output"),
        ("raise SystemExit('no memory')", "the process ended with 1: no memory"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "the process was ended by SIGKILL, as by a system that has no memory left: no output",
        ),
        ("import os; os.abort()", "the process was ended by SIGABRT: no output"),
        ("pass", "the process ended with 0, as by os._exit: no output"),
        (
            "import os; os.write(2, b'\\xff\\xfe bytes'); os._exit(5)",
            "the process ended with 5: \ufffd\ufffd bytes",
        ),
    ],
)
def test_process_that_dies_is_a_problem(
    packed: Path, probe: Callable[[str], None], code: str, problem: str
) -> None:
    probe(code)
    report = verify(packed)
    assert report.problems == [f"starting Python and TorchServe's modules: {problem}"]
    assert not report.proven


def test_what_the_process_finds_and_could_not_look_at_is_reported(
    packed: Path, probe: Callable[[str], None]
) -> None:
    probe(saying(problems=["one", "two"], unchecked=["handler: why not"]))
    report = verify(packed)
    assert report.problems == ["one", "two"]
    assert report.unchecked == ["handler: why not"]
    assert not report.proven


def test_process_that_hangs_is_a_problem(
    packed: Path, probe: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    probe("import time; time.sleep(60)")
    monkeypatch.setattr(running, "MOST_S", 0.2)
    said = "starting Python and TorchServe's modules took more than 0.2 s"
    assert verify(packed).problems == [said]


def test_proof_without_golden_samples_proves_nothing(
    packed: Path, tmp_path: Path, probe: Callable[[str], None]
) -> None:
    probe(saying(golden_samples=7))
    report = verify(rewrite(packed, tmp_path / "none.mar", NO_GOLDEN, proven=True))
    assert report.problems == [f"{GOLDEN_INDEX}: a proven archive has golden samples"]
    assert not report.proven


def test_archive_without_proof_is_ok_and_not_proven(
    packed: Path, tmp_path: Path, probe: Callable[[str], None]
) -> None:
    probe(saying())
    report = verify(rewrite(packed, tmp_path / "bare.mar", {PROOF: None, INVENTORY: None}))
    assert report.ok
    assert not report.proven
    assert report.unchecked == ["digests: it carries no record of them"]
    probe(saying(unchecked=["model.pt: of no known kind"]))
    bare = {PROOF: None, INVENTORY: None, **NO_GOLDEN}
    assert verify(rewrite(packed, tmp_path / "bare.mar", bare)).unchecked == [
        "digests: it carries no record of them",
        "model.pt: of no known kind",
        "requests: none was tried; `--sample FILE` sends one",
        "golden samples: it carries none",
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_every_kind_of_archive_is_verified(
    packed: Path, tmp_path: Path, probe: Callable[[str], None], format: ArchiveFormat
) -> None:
    probe(saying())
    members: dict[str, Content] = {**members_of(packed)}
    del members[INVENTORY]
    target = tmp_path / f"tiny{SUFFIXES[format]}"
    artifact = write_archive(target, members, proven=True, format=format)
    report = verify(target)
    assert report.problems == []
    assert report.proven
    assert (report.size, report.members) == (artifact.size, len(artifact.members))


def test_archive_that_is_replaced_while_it_is_verified_is_not_published(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mar = tmp_path / "tiny.mar"
    mar.write_bytes(packed.read_bytes())

    def replaced(_: object, __: object, found: running.Found, *___: object) -> None:
        found.golden, found.handler = 4, "tried"
        rewrite(packed, mar, {"model.pt": b"never looked at"})

    monkeypatch.setattr(module, "run_archive", replaced)
    report = verify(mar)
    with pytest.raises(StoreError, match="changed since it was verified"):
        publish(mar, report, tmp_path / "store" / "tiny.mar")
