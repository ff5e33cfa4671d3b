"""torch-model-archiver 0.12 in a world of its own: what `pack` is held against."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from marwright.archive.write import SUFFIXES
from marwright.cli.main import parser

# The command's own entry point, one set of options after the other: it starts only once.
ALL = """
import json, sys
from model_archiver.model_packaging import generate_model_archive
for words in json.load(sys.stdin):
    sys.argv[1:] = words
    generate_model_archive()
"""


def archived(options: list[str], export: Path) -> Path:
    """Run the command torch-model-archiver here; returns the archive that it makes in `export`."""
    export.mkdir(parents=True)
    command = str(Path(sys.executable).with_name("torch-model-archiver"))
    _run([command, *options, "--export-path", str(export)], export)
    return export / _name(options)


def all_archived(every: list[list[str]], folder: Path) -> list[Path]:
    """Make an archive of each set of options, each in a folder of its own below `folder`."""
    words, paths = [], []
    for number, options in enumerate(every):
        export = folder / str(number)
        export.mkdir(parents=True)
        words.append([*options, "--export-path", str(export)])
        paths.append(export / _name(options))
    _run([sys.executable, "-c", ALL], folder, json.dumps(words))
    return paths


def _run(command: list[str], folder: Path, text: str = "") -> None:
    # It stages in the temporary folder, and removes what has the model's name there.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        environment = {"PATH": os.defpath, "TMPDIR": scratch}
        done = subprocess.run(
            command,
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr


def _name(options: list[str]) -> str:
    # Our parser reads the same words, so it knows what the archive is called.
    args = parser().parse_args(["pack", *options])
    return f"{args.model_name}{SUFFIXES[args.archive_format]}"
