"""`make bench-decode`: the costliest images of each format are read or refused in time."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from bench.bombs import MOST_BYTES, worst
from bench.project import table

TITLE = "Decoding the worst images"
# Seconds of CPU time, for all from the request's bytes to the tensor.
LIMIT = 1.0


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Read each image as a request, three times, and take the median of CPU times."""
    from marwright.runtime.read import read_image
    from marwright.runtime.request import BadRequest
    from marwright.runtime.spec import ImageSpec

    spec = ImageSpec(
        channels=3, height=224, width=224, fit="crop", interpolation="bilinear",
        mean=(0.5,) * 3, std=(0.5,) * 3,
    )  # fmt: skip
    read: dict[str, tuple[float, str, int]] = {}
    refused: dict[str, tuple[float, str, int]] = {}
    counts: dict[str, list[int]] = {}
    for kind, name, body in worst():
        if len(body) > MOST_BYTES:
            continue
        times, found = [], read
        for _ in range(3):
            started = time.process_time()
            try:
                read_image(body, spec)
            except BadRequest:
                found = refused
            times.append(time.process_time() - started)
        took = sorted(times)[1]
        counts.setdefault(kind, [0, 0])[found is refused] += 1
        found[kind] = max(found.get(kind, (0.0, "", 0)), (took, name, len(body)))
        print(
            f"{took:6.3f} s {'refused' if found is refused else 'read   '} {kind} {name}",
            flush=True,
        )
    rows: list[tuple[object, ...]] = []
    for kind, (good, bad) in counts.items():
        for word, number, of in (("read", good, read), ("refused", bad, refused)):
            took, name, size = of.get(kind, (0.0, "none", 0))
            rows.append((kind, word, number, f"{took:.2f}", name, f"{size / 1e6:.2f}"))
    ok = all(took < LIMIT for of in (read, refused) for took, _, _ in of.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    head = ("format", "answer", "files", "slowest, s of CPU", "which", "MB")
    return (
        ok,
        f"{table(head, rows)}\n\n- each within {LIMIT:.0f} s: {ok}\n- peak memory: {peak} MiB",
    )
