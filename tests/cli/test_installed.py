"""`marwright doctor` where the package was installed as any other, away from this checkout."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from marwright.cli import doctor, installed
from marwright.cli.doctor import Row
from marwright.cli.installed import broken_rows, extra_row
from marwright.project import ENGINE
from marwright.recipe import extras
from tests.pythons import base, clean_environment, everything, make_python


def doctor_of(folder: Path, names: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run the doctor in an environment in which the engine lies as a wheel puts it."""
    python = make_python(folder / "venv", names)
    [packages] = folder.glob("venv/lib/python3*/site-packages")
    (packages / "marwright.pth").unlink()
    shutil.copytree(ENGINE / "marwright", packages / "marwright")
    return subprocess.run(
        [python, "-m", "marwright", "doctor"], cwd=folder, env=clean_environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def rows_of(text: str) -> dict[str, str]:
    return {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if line}


@pytest.mark.slow
def test_the_base_is_whole_without_any_extra(tmp_path: Path) -> None:
    done = doctor_of(tmp_path, base())
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("\nnothing is wrong\n")
    rows = rows_of(done.stdout)
    assert rows["[torch]"] == 'not there - without torch: pip install "marwright[torch]"'
    assert rows["[report]"].startswith("not there - without jinja2, markupsafe, matplotlib: pip in")
    assert {"Python", "marwright", *(f"[{one}]" for one in extras.EXTRAS), "Java", "disk",
            "ports"} <= rows.keys()  # fmt: skip
    # Nothing of a checkout.
    for word in ("make ", ".venv", "requirements.lock"):
        assert word not in done.stdout.replace("make setup` or", "")


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.onnx
def test_all_that_is_installed_is_tried(tmp_path: Path) -> None:
    done = doctor_of(tmp_path, everything() - {"captum"})
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    rows = rows_of(done.stdout)
    assert rows["[train]"].startswith("complete ok torchvision 0.")
    assert rows["[serve]"].startswith("in part - torchserve 0.12.0, httpx ")
    assert rows["[serve]"].endswith('without captum: pip install "marwright[serve]"')
    assert rows["device"].startswith(("CPU ", "CUDA "))


def test_a_torch_out_of_range_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "version_of", lambda name: "2.13.0")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0")
    row = extra_row("torch")
    assert row.problem == "torch 2.13.0 is installed, and this needs torch>=2.15,<2.16"
    assert row.fix == 'pip install "marwright[torch]"'


def test_what_is_there_and_does_not_work_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "version_of", lambda name: "1.0")
    tried = {"onnxruntime": {"failed": "ImportError: libx.so"}, "torch": {"build": None}}
    [row] = broken_rows(tried)
    assert (row.name, row.found) == ("onnxruntime", "1.0")
    assert row.problem == "installed, and does not work: ImportError: libx.so"
    assert row.fix.endswith(" -m pip install --force-reinstall onnxruntime")


def test_a_java_that_nothing_would_run_on_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Row("Java", "missing", "", "no Java 17 or newer.", "set JAVA_HOME")
    monkeypatch.setattr(installed, "java_row", lambda: none)
    monkeypatch.setattr(installed, "try_all", lambda programs: [{} for _ in programs])
    for there, problem in (("", ""), ("0.12.0", "no Java 17 or newer.")):
        monkeypatch.setattr(
            installed, "version_of", lambda name, n=there: n if name == "torchserve" else ""
        )
        [java] = [row for row in installed.rows_outside() if row.name == "Java"]
        assert java.problem == problem


def test_this_is_a_checkout_and_a_folder_of_packages_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.is_checkout()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor, "LOCK", tmp_path / "requirements.lock")
    assert not doctor.is_checkout()
