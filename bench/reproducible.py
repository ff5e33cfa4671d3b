"""Two builds from the same inputs, far apart in place and time, give the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.project import copy_project, run, table
from marwright.files import sha256_file

TITLE = "Two builds in other folders, time zones and years"


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Build twice and compare SHA-256; the second in another folder, zone and (faked) year."""
    first = copy_project(root, folder / "here")
    second = copy_project(root, folder / "some where" / "else entirely")
    run(first, "archive", "--jobs", "1", env={"TZ": "UTC"})
    clock, fake = _other_year()
    home = folder / "home"
    home.mkdir()
    # By a file in HOME, because a step gets no variable that it has no use for.
    (home / ".faketimerc").write_text("+1826d\n")
    env = {"TZ": "Pacific/Kiritimati", "HOME": str(home), **fake}
    run(second, "archive", "--jobs", "2", env=env)
    rows: list[tuple[object, ...]] = []
    # Without another year it is not what it says it is.
    ok = bool(fake)
    for path in sorted((first / "model_store").glob("*.mar")):
        digests = [sha256_file(p / "model_store" / path.name) for p in (first, second)]
        ok = ok and digests[0] == digests[1]
        rows.append((path.name, f"`{digests[0]}`", f"`{digests[1]}`"))
    header = ("archive", "first build (UTC)", f"second build (UTC+14, {clock}, jobs side by side)")
    return ok and bool(rows), table(header, rows)


def _other_year() -> tuple[str, dict[str, str]]:
    """Return how the second build's clock is set: by libfaketime, where it is installed."""
    program = shutil.which("faketime")
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if program is None or library is None:
        return "THE SAME YEAR: install libfaketime", {}
    return "year 2031", {"LD_PRELOAD": str(library)}
