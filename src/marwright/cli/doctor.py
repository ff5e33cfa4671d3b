"""Says what is installed here, what is wrong with it, and the fix: `make doctor`.

It must still run when `.venv` is broken or absent, on whatever Python the system has: so it imports
the standard library alone, keeps to what Python 3.8 knows, and tries torch in other processes.
Outside of a checkout, `marwright doctor` tells of the extras: see `marwright.cli.installed`.
"""

from __future__ import annotations

import errno
import importlib.metadata
import json
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
VENV = ROOT / ".venv"
SETUP = "make setup"
LOCK = ROOT / "requirements.lock"

# Seconds. A first import of torch from a cold disk takes half a minute.
PATIENCE = 120
# Bytes. An archive, its checkpoint and its exports for a handful of models of 100 MB.
ROOM = 2 * 1024**3
# Said of an extra, all of which are for whoever wants them.
LACKING = ("in part", "not there")
PORTS = {8080: "inference", 8081: "management", 8082: "metrics"}

TRY_DEVICE = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"build": torch.version.cuda, "gpus": gpus}))
"""
# What an import alone does not show: a torchvision that was built for another torch fails here.
TRY_TORCH = f"""
import torch, torchvision
torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
{TRY_DEVICE}"""
TRY_ONNXRUNTIME = """
import json, onnxruntime
print(json.dumps({"providers": onnxruntime.get_available_providers()}))
"""
# The worker's module, because it imports what TorchServe does not declare.
TRY_TORCHSERVE = """
import json, ts.model_service_worker
print(json.dumps({}))
"""


@dataclass(frozen=True)
class Row:
    """One line of the table. `problem` is empty when all is well; `fix` is a command or a deed."""

    name: str
    found: str
    note: str = ""
    problem: str = ""
    fix: str = ""

    @property
    def state(self) -> str:
        """One word for the table."""
        if self.problem:
            return "wrong"
        return {"unknown": "?", **dict.fromkeys(LACKING, "-")}.get(self.found, "ok")


def is_checkout() -> bool:
    """Whether this runs from a checkout, and not from where packages are installed."""
    return LOCK.is_file() and (ROOT / "src").is_dir()


def examine() -> list[Row]:
    """Every row, in the order in which they are shown."""
    if not is_checkout() and _supported():
        from marwright.cli.installed import rows_outside

        return rows_outside()
    rows = [python_row(), environment_row(VENV, LOCK)]
    if _runs_here(VENV):
        rows += [*package_rows(), lock_row(LOCK)]
    return [*rows, java_row(), disk_row(ROOT), ports_row()]


def python_row(fix: str = f"install one and name it: {SETUP} PYTHON=python3.12") -> Row:
    """The Python that runs this, which is `.venv`'s where that one runs at all."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if _supported():
        return Row("Python", version, sys.executable)
    return Row(
        "Python",
        version,
        sys.executable,
        problem="3.11, 3.12 or 3.13 is needed",
        fix=fix,
    )


def environment_row(venv: Path, lock: Path) -> Row:
    """Whether `.venv` is there, finished, made from today's lock, and where it was made."""
    problem, fix = "", SETUP
    if not venv.exists():
        found, problem = "missing", "there is no .venv"
    elif (venv / ".unfinished").exists():
        found, problem = "unfinished", "the last set-up was cut short"
    elif not _runs_here(venv):
        if shutil.which(str(venv / "bin" / "python")):
            found, problem, fix = "unused", "another Python runs this", "make doctor"
        else:
            found, problem = "broken", "its Python does not run"
    elif _text(venv / ".installed") != _text(lock):
        found, problem = "stale", "it was not made from today's requirements.lock"
    elif _moved(venv):
        found, problem = "moved", "its commands still name the folder where it was made"
        fix = "rm -rf .venv, then make setup"
    else:
        found = "finished"
    return Row("environment", found, str(venv), problem, fix if problem else "")


def package_rows() -> list[Row]:
    """What is installed of the four that do the work, and whether each of them works."""
    torch, onnxruntime, torchserve = try_all([TRY_TORCH, TRY_ONNXRUNTIME, TRY_TORCHSERVE])
    return [
        _package_row("torch", torch),
        _package_row("torchvision", torch),
        device_row(torch),
        _package_row("onnxruntime", onnxruntime, ", ".join(onnxruntime.get("providers", []))),
        _package_row("torchserve", torchserve),
    ]


def device_row(torch: dict[str, Any]) -> Row:
    """CUDA or CPU, from what torch said of itself."""
    build, gpus = torch.get("build"), torch.get("gpus")
    if "failed" in torch:
        return Row("device", "unknown", "torch does not say")
    if isinstance(gpus, list) and gpus:
        return Row("device", f"CUDA {build}", ", ".join(str(gpu) for gpu in gpus))
    why = f"torch is built for CUDA {build} and sees no GPU" if build else "torch is built for CPU"
    return Row("device", "CPU", why)


def lock_row(lock: Path) -> Row:
    """Whether what is installed is what the lock pins, in name and version."""
    cpu = _text(VENV / ".torch").strip() == "cpu"
    try:
        from packaging.version import Version

        wanted = {
            name: version for name, version in _pins(lock).items() if not (cpu and _is_cuda(name))
        }
    except ImportError:
        return Row("lock", "unknown", "", "packaging is not installed", SETUP)
    except ValueError as error:
        return Row("lock", "unreadable", str(lock), str(error), "git checkout requirements.lock")
    installed = _installed()
    differences = [
        f"{name} is {installed.get(name, 'missing')}, not {version}"
        for name, version in sorted(wanted.items())
        # A local version, 2.15.0+cpu, says how that release was built.
        if name not in installed or Version(installed[name]).public != version
    ]
    extra = sorted(installed.keys() - wanted.keys() - {"pip"})
    note = f"and also {_some(extra)}" if extra else "torch for CPU" if cpu else ""
    found = f"{len(wanted) - len(differences)} of {len(wanted)}"
    if not differences:
        return Row("lock", found, note)
    # The stamp says that the lock is installed: it has to go before anything is looked at again.
    return Row("lock", found, note, _some(differences), "rm .venv/.installed, then make setup")


def java_row() -> Row:
    """The Java that TorchServe would run on."""
    if not _supported():
        return Row("Java", "unknown", "to look for it takes a newer Python")
    try:
        from marwright.recipe.errors import ServeError
        from marwright.serve.java import find_java
    except ImportError as error:
        return Row("Java", "unknown", f"to look for it takes .venv: {error}")
    try:
        java = find_java()
    except ServeError as error:
        problem, _, fix = str(error).partition("\n")
        return Row("Java", "missing", "", problem, " ".join(fix.split()) or SETUP)
    return Row("Java", java.version, f"from {java.source}: {java.home}")


def disk_row(
    folder: Path,
    fix: str = "make clean removes what was built; .venv and the pip and uv caches are the largest",
) -> Row:
    """Whether there is room for what a build writes."""
    free = shutil.disk_usage(folder).free
    found = f"{free / 1024**3:.1f} GiB free"
    if free >= ROOM:
        return Row("disk", found)
    return Row(
        "disk",
        found,
        str(folder),
        f"a build wants {ROOM // 1024**3} GiB",
        fix,
    )


def ports_row(remedy: str = "make stop, or make serve PORT=n") -> Row:
    """Which of TorchServe's ports are taken. Never a problem: it may be our own server."""
    taken = [f"{port} ({use})" for port, use in PORTS.items() if _taken(port)]
    if not taken:
        return Row("ports", "free", ", ".join(str(port) for port in PORTS))
    return Row("ports", "in use", f"{', '.join(taken)}: {remedy}")


def _supported() -> bool:
    return (3, 11) <= sys.version_info[:2] < (3, 14)


def _runs_here(venv: Path) -> bool:
    return venv.is_dir() and Path(sys.prefix).resolve() == venv.resolve()


def _moved(venv: Path) -> bool:
    """Whether the commands in `venv` start a Python in some other folder."""
    script = venv / "bin" / "torchserve"
    first = _text(script).partition("\n")[0]
    # A path with a space in it, or a long one, stands on the next line behind `#!/bin/sh`.
    return first.startswith("#!/") and "python" in first and str(venv / "bin") not in first


def _package_row(name: str, tried: dict[str, Any], note: str = "") -> Row:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        fix = "rm -f .venv/.installed, then make setup"
        return Row(name, "missing", "", "it is not installed", fix)
    if "failed" in tried:
        problem = f"installed, and does not work: {tried['failed']}"
        return Row(name, version, "", problem, "rm -rf .venv, then make setup")
    return Row(name, version, note)


def try_all(programs: list[str]) -> list[dict[str, Any]]:
    """What each program printed as JSON, or `failed`: why not. They run side by side."""
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        for program in programs
    ]
    return [_outcome(process) for process in running]


def _outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"failed": f"no answer in {PATIENCE} s"}
    if process.returncode < 0:
        return {"failed": f"killed by {signal.Signals(-process.returncode).name}"}
    if process.returncode:
        lines = err.strip().splitlines()
        return {"failed": lines[-1] if lines else f"exit status {process.returncode}"}
    # The last line is ours: an import may have printed before it.
    answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return answer


def _pins(lock: Path) -> dict[str, str]:
    """What the lock wants on this machine. Raises `ValueError` at a line that is no pin."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins: dict[str, str] = {}
    for line in _text(lock).splitlines():
        if not line[:1].isalnum():
            continue
        pin = Requirement(line.rstrip("\\ "))
        if pin.marker is None or pin.marker.evaluate():
            pins[str(canonicalize_name(pin.name))] = str(pin.specifier).replace("==", "")
    return pins


def _installed() -> dict[str, str]:
    from packaging.utils import canonicalize_name

    return {
        str(canonicalize_name(found.metadata["Name"])): found.version
        for found in importlib.metadata.distributions()
    }


def _is_cuda(name: str) -> bool:
    """The same packages that ci/setup.sh leaves out for TORCH=cpu."""
    return name.startswith(("nvidia-", "cuda-")) or name == "triton"


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As a server asks: what an earlier one left closing is no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno in (errno.EADDRINUSE, errno.EACCES)
    return False


def _text(path: Path) -> str:
    """The text of a file, empty when there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _some(things: list[str], most: int = 5) -> str:
    shown = ", ".join(things[:most])
    return shown if len(things) <= most else f"{shown} and {len(things) - most} more"


def render(rows: list[Row]) -> str:
    """The table, then what is wrong with its fix."""
    name, found = (max(len(getattr(row, column)) for row in rows) for column in ("name", "found"))
    lines = [
        f"{row.name:<{name}}  {row.found:<{found}}  {row.state:<5}  {row.note}".rstrip()
        for row in rows
    ]
    wrong = [row for row in rows if row.problem]
    for row in wrong:
        lines += ["", f"{row.name}: {row.problem}", f"  fix: {row.fix}"]
    lines += ["", f"{len(wrong)} wrong" if wrong else "nothing is wrong"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Prints the report. The exit status is 1 when something is wrong."""
    rows = examine()
    sys.stdout.write(render(rows))
    return 1 if any(row.problem for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
