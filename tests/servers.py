"""Real servers for tests: free ports, and archives that take no training."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Answers with what it was sent, and with what a worker should or should not know.
ECHO = """
import json, os, time

def handle(data, context):
    if data is None:
        return None
    answers = []
    for index, row in enumerate(data):
        body = row.get("body", row.get("data"))
        if isinstance(body, dict) and "sleep" in body:
            time.sleep(body["sleep"])
        if isinstance(body, dict) and "status" in body:
            context.set_response_status(body["status"], "as asked", index)
            answers.append(json.dumps({"error": "as asked"}).encode())
            continue
        if isinstance(body, (bytes, bytearray)):
            body = bytes(body).decode("latin-1")
        told = {"body": body, "cwd": os.getcwd(), "environ": dict(os.environ)}
        answers.append(json.dumps(told).encode())
    return answers
"""
# Handlers by the look of them: only who runs them learns better.
CANNOT_LOAD = "def handle(data, context):\n    import not_there_at_all\nhandle(None, None)\n"
DIES = "import os\nos.kill(os.getpid(), 9)\ndef handle(data, context): ...\n"


def write_mar(
    path: Path,
    source: str = ECHO,
    *,
    name: str | None = None,
    version: str = "1.0",
    config: str = "minWorkers: 1\nmaxWorkers: 1\nmaxBatchDelay: 1\n",
    extra: Mapping[str, bytes | str] | None = None,
) -> Path:
    """Write an archive whose handler is `source`; it is called after the file."""
    name = name or path.stem
    model = {
        "modelName": name,
        "modelVersion": version,
        "handler": f"{path.stem}_handler:handle",
        "configFile": "model-config.yaml",
    }
    manifest = {"runtime": "python", "archiverVersion": "0.12.0", "model": model}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("model-config.yaml", config)
        archive.writestr(f"{path.stem}_handler.py", source)
        for member, content in (extra or {}).items():
            archive.writestr(member, content)
    return path


def write_root(folder: Path, port: int) -> Path:
    """Make a folder that can be served like a checkout: its own ports, store and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "config.properties").read_text()
    wanted = {"8080": 0, "8081": 1, "8082": 2, "7070": 3, "7071": 4}
    for number, offset in wanted.items():
        text = text.replace(number, str(port + offset))
    (folder / "config.properties").write_text(text)
    return folder
