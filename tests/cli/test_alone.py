"""One process at a time holds a folder, and a killed one holds it no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from marwright.cli.alone import alone
from marwright.recipe.errors import MarwrightError

HOLD = """
import sys, time
from pathlib import Path
from marwright.cli.alone import alone

with alone(Path(sys.argv[1]), "the child"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    place = tmp_path / "not there" / "yet"
    command = [sys.executable, "-c", HOLD, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        said = "^another run is at work here; wait for it"
        with pytest.raises(MarwrightError, match=said), alone(place, "another run"):
            raise AssertionError("two at once")
        child.kill()
        child.wait()
    with alone(place, "another run"):
        assert (place / ".lock").exists()
