"""Small files that would take minutes are refused in seconds, by every verb, with the cause."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.archive.costly import MEMBERS, PAYLOADS, RUNS_CODE, archive, overlapping, tgz
from tests.archive.hostile import GOOD, HANDLER, manifest
from tests.archive.rules.pickled import CALLS_CWD, zipped

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.slow
# Of processor time: ten of it are the checks', the rest is Python's start on a slow machine.
MOST_SECONDS = 20


def ended(folder: Path, *words: str) -> tuple[int, str]:
    """Run a verb; returns its exit code and what it printed. It must not take long."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    done = subprocess.run(
        [sys.executable, "-m", "marwright", *words], cwd=folder, env=environment, check=False,
        timeout=120, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_SECONDS
    output = done.stdout + done.stderr
    assert "Traceback" not in output
    # Nobody reads more.
    assert len(output) < 1 << 20
    return done.returncode, output


@pytest.mark.parametrize("case", PAYLOADS)
def test_payload_is_refused_by_verify_and_pack(tmp_path: Path, case: str) -> None:
    make, said = PAYLOADS[case]
    payload = make()
    (tmp_path / "m.mar").write_bytes(archive({"model.pt": payload}))
    code, output = ended(tmp_path, "verify", "m.mar")
    # Of what is no pickle and nothing else, the probe says that it cannot be opened.
    assert (code, "m.mar: model.pt: " in output, said in output) == (4, True, True), output
    (tmp_path / "model.pt").write_bytes(payload)
    (tmp_path / "handler.py").write_bytes(HANDLER)
    if said:
        words = ["--model-name", "m", "--version", "1.0", "--handler", "handler.py"]
        code, output = ended(tmp_path, "pack", *words, "--serialized-file", "model.pt",
                             "--export-path", "out")  # fmt: skip
        assert (code, said in output) == (9, True), output
    code, _ = ended(tmp_path, "inspect", "m.mar")
    assert code == 0


@pytest.mark.parametrize("case", MEMBERS)
def test_member_is_refused(tmp_path: Path, case: str) -> None:
    changes, said = MEMBERS[case]
    (tmp_path / "m.mar").write_bytes(archive({"model.pt": b"weights", **changes}))
    (tmp_path / "good.mar").write_bytes(archive({"model.pt": b"weights"}))
    for verb, code in (("verify", 4), ("inspect", 4)):
        found, output = ended(tmp_path, verb, "m.mar")
        assert (found, said in output) == (code, True), output
    assert ended(tmp_path, "diff", "m.mar", "good.mar")[0] == 1


def test_costly_member_does_not_keep_the_payload_from_being_looked_at(tmp_path: Path) -> None:
    """Each of these would have used up the opcodes of all, and comes before it by its name."""
    endless = b"\x80\x02" + b"N0" * 2_500_000 + b"N."
    extras = {f"a{number}.pkl": endless for number in range(5)}
    harmless = zipped({"model/data.pkl": pickle.dumps({"a": [1, 2]}, 2), "model/version": b"3\n"})
    (tmp_path / "m.mar").write_bytes(archive({**extras, "model.pt": harmless}))
    code, output = ended(tmp_path, "verify", "m.mar")
    # They are worth a note, and no reason to refuse it.
    assert code == 0, output
    assert "opcodes to walk (if the handler loads it so)" in output
    assert "model.pt: " not in output
    bad = zipped({"model/data.pkl": RUNS_CODE, "model/version": b"3\n"})
    (tmp_path / "m.mar").write_bytes(archive({**extras, "model.pt": bad}))
    code, output = ended(tmp_path, "verify", "m.mar")
    assert (code, f"m.mar: model.pt: model/data.pkl: {CALLS_CWD}" in output) == (4, True), output


def test_other_members_are_looked_through_within_the_time(tmp_path: Path) -> None:
    """What was not looked at is said, and is no reason to refuse the archive."""
    endless = b"\x80\x02" + b"N0" * 1_900_000 + b"N."
    extras = {f"a{number}.pkl": endless for number in range(12)}
    members = {**GOOD, "MAR-INF/MANIFEST.json": manifest(), **extras}
    (tmp_path / "m.mar").write_bytes(zipped(members, zipfile.ZIP_DEFLATED))
    code, output = ended(tmp_path, "verify", "m.mar")
    assert code == 0, output
    assert "not checked: pickles: " in output
    assert "members were not looked through, " in output
    for name, content in extras.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "handler.py").write_bytes(HANDLER)
    code, output = ended(tmp_path, "pack", "--model-name", "own", "--version", "1.0", "--handler",
                         "handler.py", "--extra-files", ",".join(extras))  # fmt: skip
    assert code == 0, output
    assert output.count("members were not looked through, ") == 1


@pytest.mark.parametrize("verb", ["verify", "inspect"])
def test_tar_files_without_end(tmp_path: Path, verb: str) -> None:
    cases = {
        "members": (tgz(200_000), "members are refused"),
        "pax": (tgz(0, pax=2 << 20), "an extended header of"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / f"{name}.tar.gz").write_bytes(content)
        code, output = ended(tmp_path, verb, f"{name}.tar.gz")
        assert (code, said in output) == (4, True), output


@pytest.mark.parametrize("verb", ["verify", "inspect"])
def test_folders_without_end(tmp_path: Path, verb: str) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(20_100):
        (many / f"{number}").touch()
    deep = tmp_path / "deep"
    (deep / "/".join(["a"] * 200)).mkdir(parents=True)
    loop = tmp_path / "loop"
    loop.mkdir()
    (loop / "again").symlink_to(loop)
    links = tmp_path / "links"
    links.mkdir()
    for number in range(1000):
        (links / f"{number}").symlink_to("nowhere")
    for name, said in (
        ("many", "more than 20000 members are refused"),
        ("deep", "not a plain relative name"),
        ("loop", "again: is a symbolic link"),
        ("links", "and 900 more"),
    ):
        code, output = ended(tmp_path, verb, f"./{name}")
        assert (code, said in output) == (4, True), output


def test_zip_files_as_they_are(tmp_path: Path) -> None:
    """The archive itself, and not its payload."""
    (tmp_path / "m.mar").write_bytes(overlapping(2000, b"x"))
    for verb in ("verify", "inspect"):
        code, output = ended(tmp_path, verb, "m.mar")
        assert (code, "overlaps what is before it" in output) == (4, True), output


def test_names_cannot_fill_or_write_to_the_terminal(tmp_path: Path) -> None:
    names = ["\x1b[2Jevil" * 7000, "é" * 100, "a/" * 300 + "b"]
    for name in names:
        (tmp_path / "m.mar").write_bytes(zipped({name: b""}))
        for verb in ("verify", "inspect"):
            code, output = ended(tmp_path, verb, "m.mar")
            assert code == 4
            assert "\x1b" not in output
            assert len(output) < 4000
