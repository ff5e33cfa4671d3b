"""A spinner is for people: a terminal sees it, a pipe does not."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

# Long enough to be drawn.
CODE = """
import time
from marwright.cli.busy import busy
with busy("packing [x]"):
    time.sleep(0.5)
    print("done")
"""


def test_a_pipe_sees_nothing_of_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_terminal_is_told_what_takes_so_long() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        done = subprocess.run(
            [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=theirs, text=True,
            check=True, timeout=60, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        assert b"packing [x]" in terminal.read(4096)
    assert done.stdout == "done\n"
