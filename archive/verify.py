"""Prove an archive: read it strictly, then run it as TorchServe would, in a clean process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from archive.files import sha256_file
from archive.reader import read_contents, unpack
from archive.types import GOLDEN_INDEX, VerifyReport
from recipes.errors import VerifyError

PROBE = Path(__file__).with_name("probe.py")
# Importing torch on a busy machine takes most of it.
_TIMEOUT_S = 600


def verify(mar: Path, scratch: Path | None = None) -> VerifyReport:
    """Check an archive and return what is wrong with it, member by member.

    Names, checksums, recorded digests and the manifest come first; only if all of them hold is
    the archive unpacked, loaded by TorchServe's model loader in a process that cannot import the
    project, and sent its golden samples. It is unpacked below `scratch`, else where temporary
    files go. Raises `VerifyError` when there is no such file.
    """
    if not mar.is_file():
        raise VerifyError(f"{mar}: no such file")
    # First, so that a file which changes from here on has another digest than the report, and
    # is not published.
    sha256, size = sha256_file(mar), mar.stat().st_size
    contents = read_contents(mar)
    problems, golden = contents.problems, 0
    if not problems:
        with tempfile.TemporaryDirectory(prefix="marwright-verify-", dir=scratch) as name:
            # Absolute, because the probe runs in it.
            folder = Path(name).resolve()
            unpack(mar, folder)
            result = _probe(folder)
        problems = [*problems, *result["problems"]]
        golden = result["golden_samples"]
    if contents.proof is not None and not problems and not golden:
        problems = [f"{GOLDEN_INDEX}: a proven archive has golden samples"]
    return VerifyReport(
        sha256=sha256,
        size=size,
        members=len(contents.digests),
        golden_samples=golden,
        proven=contents.proof is not None and not problems,
        problems=problems,
    )


def _probe(folder: Path) -> dict[str, Any]:
    # Nothing of our environment that could change what is imported or how many threads run.
    kept = ("PATH", "HOME", "TMPDIR", "TEMP", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    # Isolated mode: neither the working folder nor PYTHONPATH is on the path.
    command = [sys.executable, "-I", str(PROBE), str(folder)]
    # Files rather than pipes for what it says, so that nobody has to read while it runs. Its
    # stdin is a pipe: that it stays open tells the probe that we live.
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as wrong:
        with subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=said, stderr=wrong
        ) as process:
            try:
                process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return _failed(f"loading it took more than {_TIMEOUT_S} s")
            except BaseException:
                process.kill()
                raise
        output, errors = _text(said), _text(wrong)
    if process.returncode != 0 or not output:
        tail = (errors.strip().splitlines() or ["no output"])[-1]
        return _failed(f"the process that loads it ended with {process.returncode}: {tail}")
    result: dict[str, Any] = json.loads(output)
    return result


def _failed(problem: str) -> dict[str, Any]:
    return {"problems": [problem], "golden_samples": 0}


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")
