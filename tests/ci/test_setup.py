"""ci/setup.sh, from a machine with nothing to a finished `.venv`, and every way that it can stop.

The Python and the uv are fakes that write down their calls, so that nothing is downloaded and what
a set-up does *not* do can be asserted.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from ci.workflows import ROOT
from marwright.cli.doctor import _is_cuda

# Answers what the script asks of a Python; as `-m pip` it installs the fake uv beside itself.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
"-c "*version_info*) echo "${FAKE_VERSION:-3.12.4}"; exit ;;
"-c "*ensurepip*) exit "${FAKE_ENSUREPIP:-0}" ;;
"-m pip") [ "$3" != --version ] || exit "${FAKE_NO_PIP:-0}" ;;
esac
echo "python $*" >>"$HOUSE/log"
case "$2" in
venv)
    [ -z "${FAKE_KILL:-}" ] || kill -9 $PPID
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
    ;;
pip)
    for last; do :; done
    [ -z "${FAKE_PIP_FAILS:-}" ] || { echo "pip: no such index" >&2; exit 1; }
    [ ! -f "$last" ] || cp "$last" "$HOUSE/given-to-pip"
    cp "$HOUSE/bin/uv" "$(dirname "$0")/uv"
    ;;
esac
"""
FAKE_UV = """#!/bin/sh
[ "$1" != --version ] || { echo "uv 1.0.0 (fake)"; exit; }
echo "uv $*" >>"$HOUSE/log"
for last; do :; done
case "$2" in
sync) cp "$last" "$HOUSE/given-to-uv" ;;
compile) [ ! -f "$last" ] || echo "kept versions" >>"$HOUSE/log"; echo "new==1" >"$last" ;;
esac
turns=0
while [ -n "${FAKE_WAITS:-}" ] && [ ! -e "$HOUSE/go" ] && [ $turns -lt 1000 ]; do
    sleep 0.02
    turns=$((turns + 1))
done
[ -z "${FAKE_KILL:-}" ] || kill -9 $PPID
exit "${FAKE_STATUS:-0}"
"""
LOCK = """\
numpy==2.0.0 \\
    --hash=sha256:01
nvidia-cublas==13.4 ; sys_platform == 'linux' \\
    --hash=sha256:02 \\
    --hash=sha256:03
torch==2.15.0 \\
    --hash=sha256:04
torchmetrics==1.9.0 \\
    --hash=sha256:05
torchvision==0.29.2 \\
    --hash=sha256:06
triton==3.9.0 ; sys_platform == 'linux' \\
    --hash=sha256:07
uv==1.0.0 \\
    --hash=sha256:08 \\
    --hash=sha256:09
zizmor==1.32.0 \\
    --hash=sha256:10
"""
OURS = ("TORCH", "UPGRADE", "PYTHON", "PYTHON_NAMED")


class House:
    """A fresh clone as far as the set-up can tell, on a machine with only the fake Python."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.venv = folder / ".venv"
        self.stamp = self.venv / ".installed"
        self.lock = folder / "requirements.lock"
        (folder / "ci").mkdir()
        (folder / "bin").mkdir()
        shutil.copy(ROOT / "Makefile", folder)
        shutil.copy(ROOT / "ci/setup.sh", folder / "ci")
        self.lock.write_text(LOCK)
        self.command("python3", FAKE_PYTHON)
        self.command("uv", FAKE_UV)
        # Whatever Pythons the machine of these tests has, here are none but python3.
        for other in ("python3.11", "python3.12", "python3.13"):
            self.command(other, "#!/bin/sh\nexit 127\n")
        outer = {k: v for k, v in os.environ.items() if k not in OURS and "MAKE" not in k}
        path = f"{folder / 'bin'}{os.pathsep}{outer['PATH']}"
        self.environment = {**outer, "PATH": path, "HOUSE": str(folder)}

    def command(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["make", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def make(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        output, _ = process.communicate()
        return process.returncode, output

    def log(self) -> list[str]:
        """The calls since the last look."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def given_to(self, installer: str) -> str:
        return (self.folder / f"given-to-{installer}").read_text()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def finished(house: House) -> House:
    """A house whose set-up is done."""
    status, output = house.make("setup")
    assert status == 0, output
    house.log()
    return house


def test_from_nothing(house):
    status, output = house.make("setup")
    assert status == 0, output
    making, pip, sync, ours = house.log()
    assert making == "python -m venv .venv"
    assert pip.startswith("python -m pip install")
    assert "--require-hashes" in pip
    assert "--require-hashes" in sync
    assert "--compile-bytecode" in sync
    assert sync.endswith(" requirements.lock")
    assert "--no-deps --no-build-isolation --offline" in ours
    # uv is what checks all else, so that it comes with its own hashes, and alone.
    assert house.given_to("pip") == "uv==1.0.0 \\\n    --hash=sha256:08 \\\n    --hash=sha256:09\n"
    assert house.stamp.read_text() == LOCK
    assert not (house.venv / ".unfinished").exists()
    assert all(line.startswith("setup: ") for line in output.splitlines())


def test_a_second_setup_does_nothing(finished):
    before = finished.stamp.stat()
    status, output = finished.make("setup")
    assert (status, output) == (0, "make: Nothing to be done for 'setup'.\n")
    assert finished.log() == []
    assert finished.stamp.stat() == before


def change(house: House, text: str) -> None:
    """Writes the lock, with a time after the stamp's and before now."""
    house.lock.write_text(text)
    for path, age in ((house.stamp, 9), (house.lock, 5)):
        os.utime(path, (time.time() - age, time.time() - age))


def test_a_checkout_that_changes_only_times_installs_nothing(finished):
    change(finished, LOCK)
    assert finished.make("setup") == (0, "")
    assert finished.log() == []
    assert finished.stamp.stat().st_mtime > finished.lock.stat().st_mtime


def test_a_changed_lock_is_installed_into_the_same_venv(finished):
    (finished.venv / "kept").touch()
    change(finished, LOCK.replace("numpy==2.0.0", "numpy==2.0.1"))
    assert finished.make("setup")[0] == 0
    sync, ours = finished.log()
    assert sync.startswith("uv pip sync")
    assert ours.endswith(" --editable .")
    assert "numpy==2.0.1" in finished.stamp.read_text()
    assert (finished.venv / "kept").exists()


def test_a_changed_uv_is_bootstrapped_again(finished):
    change(finished, LOCK.replace("uv==1.0.0", "uv==1.0.1"))
    assert finished.make("setup")[0] == 0
    assert [line.split()[:3] for line in finished.log()] == [
        ["python", "-m", "pip"],
        ["uv", "pip", "sync"],
        ["uv", "pip", "install"],
    ]


def test_a_venv_without_pip_gets_one(house):
    status, output = house.make("setup", FAKE_NO_PIP="1")
    assert status == 0, output
    assert "python -m ensurepip --default-pip" in house.log()


def killed_while_making_the_venv(house: House) -> None:
    assert house.make("setup", FAKE_KILL="yes")[0] != 0
    assert house.log() == ["python -m venv .venv"]


def killed_while_installing(house: House) -> None:
    assert house.make("setup")[0] == 0
    change(house, LOCK.replace("numpy==2.0.0", "numpy==2.0.1"))
    house.log()
    assert house.make("setup", FAKE_KILL="yes")[0] != 0
    (sync,) = house.log()
    assert sync.startswith("uv pip sync")


def killed_while_starting_over(house: House) -> None:
    killed_while_installing(house)
    killed_while_making_the_venv(house)


@pytest.mark.parametrize(
    "kill", [killed_while_making_the_venv, killed_while_installing, killed_while_starting_over]
)
def test_a_killed_setup_is_repaired_by_the_next(house, kill):
    kill(house)
    assert not house.stamp.exists()
    (house.venv / "half-written").touch()

    status, output = house.make("setup")
    assert status == 0, output
    assert "did not finish: starting .venv over" in output
    assert [line.split()[2] for line in house.log()] == ["venv", "pip", "sync", "install"]
    assert not (house.venv / "half-written").exists()
    assert house.stamp.read_text() == house.lock.read_text()
    assert house.make("setup") == (0, "make: Nothing to be done for 'setup'.\n")


def test_a_failed_install_stops_the_build(house):
    status, output = house.make("train", FAKE_STATUS="1")
    assert status != 0
    assert "uv could not install requirements.lock" in output
    assert "UV_DEFAULT_INDEX" in output
    assert not house.stamp.exists()
    assert not [line for line in house.log() if "pipeline" in line]
    assert house.make("setup")[0] == 0


def test_a_failed_bootstrap_is_said(house):
    status, output = house.make("setup", FAKE_PIP_FAILS="yes")
    assert status != 0
    assert "pip: no such index" in output
    assert "pip could not install uv" in output
    assert house.make("setup")[0] == 0


@pytest.mark.parametrize("version", ["2.7.18", "3.10.13", "3.14.0", "3.1.1"])
def test_a_python_that_will_not_do(house, version):
    status, output = house.make("setup", FAKE_VERSION=version)
    assert status != 0
    assert f"setup: python3 is Python {version}, and 3.11, 3.12 or 3.13 is needed" in output
    assert "needed: make setup PYTHON=/path/to/python3.12" in output
    assert not house.venv.exists()


def test_another_python_is_suggested(house):
    other = FAKE_PYTHON.replace("${FAKE_VERSION:-3.12.4}", "3.13.1")
    house.command("python3.13", other)
    status, output = house.make("setup", FAKE_VERSION="3.10.1")
    assert status != 0
    assert "this machine has python3.13: make setup PYTHON=python3.13" in output
    assert house.make("setup", "PYTHON=python3.13")[0] == 0


def test_no_python(house):
    status, output = house.make("setup", MARWRIGHT_PYTHON="no-such-python")
    assert status != 0
    assert "setup: no-such-python does not run: Python 3.11, 3.12 or 3.13 is needed" in output


def test_no_venv_module(house):
    status, output = house.make("setup", FAKE_ENSUREPIP="1")
    assert status != 0
    assert "python3 lacks the venv module" in output
    assert "python3.12-venv" in output
    assert not house.venv.exists()


def test_another_python_than_the_venvs_is_refused(finished):
    other = FAKE_PYTHON.replace("${FAKE_VERSION:-3.12.4}", "3.13.1")
    finished.command("other", other)
    status, output = finished.make("setup", "PYTHON=other")
    assert status != 0
    assert ".venv has Python 3.12.4, and PYTHON=other is 3.13.1: rm -rf .venv" in output
    assert finished.log() == []
    assert finished.make("setup", "PYTHON=python3") == (0, "")


def test_a_venv_whose_python_is_gone_is_made_anew(finished):
    (finished.venv / "bin/python").unlink()
    (finished.venv / "bin/python").symlink_to("nowhere")
    status, output = finished.make("setup")
    assert status == 0, output
    assert ".venv has no Python that runs: starting it over" in output
    assert [line.split()[2] for line in finished.log()] == ["venv", "pip", "sync", "install"]


def test_torch_for_cpu(finished):
    status, output = finished.make("setup", "TORCH=cpu")
    assert status == 0, output
    assert "hashes do not hold" in output
    sync, _ = finished.log()
    assert "--torch-backend cpu" in sync
    assert "--require-hashes" not in sync
    # uv takes the other build, of the same version, for the one that is asked for.
    assert "--reinstall-package torch --reinstall-package torchvision" in sync
    installed = finished.given_to("uv").splitlines()
    assert "torch==2.15.0" in installed
    assert "torchvision==0.29.2" in installed
    assert [line for line in installed if line.startswith("    ")] == [
        "    --hash=sha256:01",
        "    --hash=sha256:05",
        "    --hash=sha256:08 \\",
        "    --hash=sha256:09",
        "    --hash=sha256:10",
    ]
    assert not [line for line in installed if line.startswith(("nvidia", "triton"))]


def test_torch_for_cpu_leaves_out_of_the_real_lock_what_the_doctor_does_not_expect(house):
    shutil.copy(ROOT / "requirements.lock", house.lock)
    assert house.make("setup", "TORCH=cpu")[0] == 0

    def names(text: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))

    pinned = names(house.lock.read_text())
    cuda = {name for name in pinned if _is_cuda(name)}
    assert {"triton", "nvidia-nccl-cu13", "cuda-toolkit"} <= cuda
    assert names(house.given_to("uv")) == pinned - cuda


def test_the_torch_that_was_chosen_is_kept(house):
    assert house.make("setup", "TORCH=cpu")[0] == 0
    house.log()
    assert house.make("setup", "TORCH=cpu") == (0, "")
    change(house, LOCK.replace("numpy==2.0.0", "numpy==2.0.1"))
    assert house.make("setup")[0] == 0
    sync, _ = house.log()
    assert "--torch-backend cpu" in sync
    assert "--reinstall-package" not in sync

    assert house.make("setup", "TORCH=lock")[0] == 0
    sync, _ = house.log()
    assert "--require-hashes requirements.lock" in sync
    assert "--reinstall-package torch" in sync


def test_an_unknown_torch_is_refused(finished):
    status, output = finished.make("setup", "TORCH=cuda")
    assert status != 0
    assert "TORCH is cpu or lock, not cuda" in output
    assert finished.stamp.exists()


def second_setup_waiting(house: House) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """A set-up whose installer is at work, and one that was started meanwhile and waits."""
    first = house.start("setup", FAKE_WAITS="yes")
    while not (house.folder / "given-to-uv").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    second = house.start("setup")
    assert "another set-up is at work here" in second.stdout.readline()
    return first, second


# Without it (macOS), setup.sh does not wait for another one, and has nothing to test.
needs_flock = pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")


@needs_flock
def test_two_setups_at_once_install_once(house):
    both = second_setup_waiting(house)
    (house.folder / "go").touch()
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert [line.split()[2] for line in house.log()] == ["venv", "pip", "sync", "install"]


@needs_flock
def test_a_setup_waits_for_the_installer_of_a_killed_one(house):
    first, second = second_setup_waiting(house)
    (shell,) = psutil.Process(first.pid).children()
    shell.kill()
    assert second.poll() is None
    (house.folder / "go").touch()
    output, _ = second.communicate()
    first.communicate()
    assert second.returncode == 0, output
    assert "did not finish: starting .venv over" in output


def test_lock_is_resolved_with_the_venvs_uv(finished):
    status, output = finished.make("lock")
    assert status == 0, output
    compile_, kept = finished.log()
    assert kept == "kept versions"
    for option in ("--universal", "--generate-hashes", "--no-emit-index-url", "--no-annotate"):
        assert option in compile_
    assert "--python-version 3.11" in compile_
    assert finished.lock.read_text() == "new==1\n"


def test_lock_can_take_newer_versions(finished):
    assert finished.make("lock", "UPGRADE=1")[0] == 0
    assert "kept versions" not in finished.log()


@pytest.mark.parametrize("there_is_a_lock", [True, False])
def test_lock_needs_neither_venv_nor_lock(house, there_is_a_lock):
    if not there_is_a_lock:
        house.lock.unlink()
    status, output = house.make("lock")
    assert status == 0, output
    assert house.lock.read_text() == "new==1\n"
    assert not house.venv.exists()
    pip = next(line for line in house.log() if "-m pip install" in line)
    assert ("--require-hashes" in pip) is there_is_a_lock


def test_a_failed_lock_leaves_the_old_one(finished):
    status, output = finished.make("lock", FAKE_STATUS="1")
    assert status != 0
    assert "uv could not resolve pyproject.toml" in output
    assert finished.lock.read_text() == LOCK


def test_no_index_is_named():
    for path in ("Makefile", "ci/setup.sh", "ci/publish.sh", "pyproject.toml"):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert "://" not in text, path
        assert "pypi" not in text.lower(), path
