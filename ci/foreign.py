"""`python -m ci.foreign`: the wheel, as somebody else uses it in a repository of their own.

In an environment of its own, with every dependency installed anew, a project is begun, trained,
proven, served and asked, in a folder with a space and a letter that is not ASCII in its path, whose
own `train.py`, `report.py`, `handlers/`, `ci/` and `recipes/` must neither be shadowed nor shadow
ours. `tests/test_foreign.py` is its short form.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("image", "table", "text")
# What a repository of somebody's may hold under names that were ours once.
THEIRS = {
    "train.py": "raise RuntimeError('their train.py was imported')\n",
    "report.py": "raise RuntimeError('their report.py was imported')\n",
    "handlers/__init__.py": "MINE = 'theirs'\n",
    "ci/__init__.py": "raise RuntimeError('their ci was imported')\n",
    "recipes/__init__.py": "raise RuntimeError('their recipes were imported')\n",
    "archive/__init__.py": "raise RuntimeError('their archive was imported')\n",
    "pipeline.py": "raise RuntimeError('their pipeline was imported')\n",
}
BODIES = {"table": b"[59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.86, 87]", "text": b"12 May 1999"}
# Seconds.
_READY = 180


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder, as `make wheel` does; returns its path."""
    subprocess.run(
        [ROOT / ".venv/bin/uv", "build", "--quiet", "--wheel", "--offline", "--no-build-isolation",
         "--python", sys.executable, "--out-dir", folder],
        cwd=ROOT, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"},
    )  # fmt: skip
    [wheel] = folder.glob("*.whl")
    return wheel


def rehearse(folder: Path, environment: Path, kind: str) -> list[str]:
    """Go the whole way in a repository below `folder`; returns what was seen, a line a step.

    `environment` is a virtual environment with the wheel. Raises `AssertionError` with what was
    printed where a step fails.
    """
    project = folder / f"my repøsitory {kind}"
    for path, content in THEIRS.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(content, encoding="utf-8")
    variables = _variables(environment)
    seen = [_run(project, variables, "marwright", "init", "--kind", kind, "--name", "tickets")]
    # Make's words, as the README of a new project has them.
    seen.append(_run(project, variables, "make", "train", "archive"))
    seen.append(_run(project, variables, "marwright", "verify", "model_store/tickets.mar"))
    for path, content in THEIRS.items():
        assert (project / path).read_text(encoding="utf-8") == content, path
    with _served(project, variables) as (address, token):
        body = BODIES.get(kind) or (project / "build/serve/examples/tickets.png").read_bytes()
        seen.append(_ask(f"{address}/predictions/tickets", token, body, kind))
    return [line for text in seen for line in text.strip().splitlines()[-3:]]


def _variables(environment: Path) -> dict[str, str]:
    """Return what such a user's shell has: the environment's commands, and nothing of ours."""
    kept = {key: os.environ[key] for key in ("HOME", "LANG", "JAVA_HOME") if key in os.environ}
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "VIRTUAL_ENV": str(environment)}


def _run(project: Path, variables: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        command, cwd=project, env=variables, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def _served(project: Path, variables: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Serve the project's store; yields the address and the inference token."""
    from marwright.serve.ports import free_ports

    port = free_ports()
    log = project / "serve.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            ["marwright", "serve", "--port", str(port)], cwd=project, env=variables,
            stdout=file, stderr=file,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _READY
        while b"Ctrl-C" not in log.read_bytes():
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        keys = json.loads((project / "build/serve/key_file.json").read_text(encoding="utf-8"))
        yield f"http://127.0.0.1:{port}", keys["inference"]["key"]
    finally:
        server.terminate()
        server.wait(60)


def _ask(url: str, token: str, body: bytes, kind: str) -> str:
    media = {"image": "image/png", "table": "application/json", "text": "text/plain"}[kind]
    request = Request(url, body, {"Authorization": f"Bearer {token}", "Content-Type": media})
    try:
        with urlopen(request, timeout=30) as answer:
            return f"{answer.status} {answer.read().decode()}"
    except URLError as error:
        raise AssertionError(f"{url}: {error}") from error


def main(kinds: Sequence[str] = KINDS) -> int:
    """Install the wheel with everything that it needs, and rehearse each kind."""
    with tempfile.TemporaryDirectory(prefix="marwright foreign ") as name:
        folder = Path(name)
        wheel = build_wheel(folder)
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        started = time.monotonic()
        subprocess.run(
            [environment / "bin/python", "-m", "pip", "install", "--quiet", f"{wheel}[all]"],
            check=True,
        )
        print(f"installed in {time.monotonic() - started:.0f} s", flush=True)
        for kind in kinds:
            started = time.monotonic()
            print(*rehearse(folder, environment, kind), sep="\n")
            print(f"{kind}: {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or KINDS))
