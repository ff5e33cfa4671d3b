"""How long `verify` takes, against the least that it could: hashing the file."""

from __future__ import annotations

import hashlib
import statistics
import time
from pathlib import Path

from bench.payload import write_payload
from bench.project import table
from marwright.archive.container.open import open_archive
from marwright.archive.pack import pack
from marwright.archive.verify import verify

TITLE = "Verifying 512 MiB"
_SIZE, _ROUNDS = 512 << 20, 5
_HASH = "hashlib's SHA-256 of the file"
_MOST = 2.0


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Time `verify` of an archive by its stages, interleaved with hashing the same file.

    `read` is the structural walk, every CRC-32, every member's SHA-256 and the file's own, and what
    the archive says of itself. Holds when that and the scan for pickles take at most twice the
    hash.
    """
    payload = write_payload(folder / "model.pt", _SIZE)
    mar = pack(
        model_name="bench", version="1.0", handler="base_handler", serialized_file=payload,
        export_path=folder,
    ).path  # fmt: skip
    payload.unlink()
    seconds: dict[str, list[float]] = {}

    def timed(name: str, value: float) -> None:
        seconds.setdefault(name, []).append(value)

    for _ in range(_ROUNDS):
        started = time.perf_counter()
        with mar.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        timed(_HASH, time.perf_counter() - started)
        report = verify(mar, folder, timed)
        assert report.ok, report.problems
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    with open_archive(mar) as archive:
        members = len(archive.members)
    base = medians[_HASH]
    rows: list[tuple[object, ...]] = [
        (name, f"{value:.2f}", f"{value / base:.2f}") for name, value in medians.items()
    ]
    # Unpacking is for the opening, which is torch's and TorchServe's work.
    own = medians["read"] + medians["scan"]
    head = (f"stage, {members} members", "median, s", "ratio")
    lines = [
        f"- read and scan: {own / base:.2f} × of the hash; target at most {_MOST:.0f}",
        f"- with unpacking, which the opening needs: {(own + medians['unpack']) / base:.2f} ×",
    ]
    return own / base <= _MOST, table(head, rows) + "\n\n" + "\n".join(lines)
