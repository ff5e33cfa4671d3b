"""SIGKILL at random times of `pack`, and two of them at once: what is there stays whole."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.payload import write_payload
from bench.project import command, table
from marwright.archive.container.open import open_archive
from marwright.archive.contents import read_contents
from marwright.archive.write import SUFFIXES, ArchiveFormat

TITLE = "100 kills and 20 pairs while packing"
KILLS, PAIRS = 100, 20
_SIZE = 256 << 20
_FORMATS: tuple[ArchiveFormat, ...] = ("default", "tgz", "no-archive")


@dataclass(frozen=True, slots=True)
class _State:
    """An archive as it lies there: the digest of all of it, and the version it says it is."""

    sha256: str
    version: str


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Pack over a good archive and kill it; then let pairs pack the same name at the same time.

    After each kill the archive must be the old one, byte for byte, or the new one, whole by its
    own inventory. Of a pair, both must succeed and one must have won. A pack that ended before its
    kill does not count. In the end nothing half done may lie beside the archives.
    """
    payload = write_payload(folder / "model.pt", _SIZE)
    pack = _Packing(root, payload, folder / "store")
    kills, broken = _kill(pack)
    won, failures = _race(pack)
    broken += failures
    broken += [f"left behind: {path.name}" for path in pack.store.iterdir() if path.name[0] == "."]
    rows: list[tuple[object, ...]] = [
        (format, *(kills[format, state] for state in ("old", "new", "damaged")),
         won[format].total(), won[format]["1.0"], won[format]["2.0"])
        for format in _FORMATS
    ]  # fmt: skip
    head = ("format", "killed: old one there", "new one there", "damaged", "pairs", "first won",
            "second won")  # fmt: skip
    return not broken, "\n".join([table(head, rows), "", f"Problems: {len(broken)}.", *broken])


class _Packing:
    """Runs of `pack` of one model, under one name for each format."""

    def __init__(self, root: Path, payload: Path, store: Path) -> None:
        self.root, self.payload, self.store = root, payload, store

    def start(self, format: ArchiveFormat, version: str) -> subprocess.Popen[bytes]:
        """Start to pack a version over whatever is there."""
        words = ("--model-name", "model", "--version", version, "--handler", "base_handler",
                 "--serialized-file", str(self.payload), "--archive-format", format, "--force",
                 "--export-path", str(self.store))  # fmt: skip
        return subprocess.Popen(command("pack", *words), cwd=self.root, stdout=subprocess.DEVNULL)

    def state(self, format: ArchiveFormat) -> _State:
        """Read all of an archive. Raises `ValueError` when something in it does not hold."""
        with open_archive(self.store / f"model{SUFFIXES[format]}") as archive:
            problems = archive.problems
            if not problems:
                digests = archive.digests()
                contents = read_contents(archive, digests)
                problems = digests.problems + contents.problems
            if problems:
                raise ValueError(problems[0])
        assert contents.manifest is not None
        return _State(digests.sha256, contents.manifest.model.model_version)


def _kill(pack: _Packing) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Kill packs until enough were hit; returns what was there afterwards, and the problems."""
    chance, counts, broken = random.Random(0), Counter[tuple[str, str]](), list[str]()
    whole = 0.0
    for format in _FORMATS:
        started = time.monotonic()
        assert pack.start(format, "0.0").wait() == 0
        whole = max(whole, time.monotonic() - started)
    attempt = 0
    while counts.total() < KILLS:
        attempt += 1
        format, version = _FORMATS[attempt % len(_FORMATS)], f"{attempt}.0"
        before = pack.state(format)
        with pack.start(format, version) as process:
            try:
                process.wait(chance.uniform(0, whole))
                continue
            except subprocess.TimeoutExpired:
                process.kill()
        try:
            after = pack.state(format)
        except ValueError as error:
            broken.append(f"{format}, kill {counts.total()}: {error}")
            counts[format, "damaged"] += 1
            assert pack.start(format, version).wait() == 0
            continue
        if after != before and after.version != version:
            broken.append(f"{format}, kill {counts.total()}: neither the old nor the new one")
        counts[format, "old" if after == before else "new"] += 1
    for format in _FORMATS:
        assert pack.start(format, "0.0").wait() == 0
    return counts, broken


def _race(pack: _Packing) -> tuple[dict[ArchiveFormat, Counter[str]], list[str]]:
    """Let pairs pack the same name; returns who won how often, and the problems."""
    won, broken = {format: Counter[str]() for format in _FORMATS}, list[str]()
    for number in range(PAIRS):
        format = _FORMATS[number % len(_FORMATS)]
        pair = [pack.start(format, "1.0"), pack.start(format, "2.0")]
        codes = [process.wait() for process in pair]
        if codes != [0, 0]:
            broken.append(f"{format}, pair {number}: exit codes {codes}")
        try:
            won[format][pack.state(format).version] += 1
        except ValueError as error:
            broken.append(f"{format}, pair {number}: {error}")
    return won, broken
