"""`make bench-memory`: what bodies that wait, and forms of millions of fields, do to the server."""

from __future__ import annotations

import threading
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.project import table

TITLE = "Memory of the server under large requests"
_MIB = 1 << 20
_SIZE = 10 * _MIB - 4096
# Fields in one form, each of four bytes: as many as a request holds.
_FIELDS = _SIZE // 4
_HANDLER = """
import time

def handle(data, context):
    if data is None:
        return None
    time.sleep(0.2)
    return [b"%d" % len(row) for row in data]
"""


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Send what is worst for memory, then an ordinary request; report the peak of each process."""
    from marwright.serve.ports import free_ports
    from marwright.serve.server import Server

    store = folder / "store"
    _write(store / "echo.mar")
    rows: list[tuple[object, ...]] = []
    with Server(store=store, home=folder / "home", port=free_ports()) as server:
        server.wait_ready()
        alive = True
        for name, count, content_type, body in _loads():
            with _Watch(server.pid or 0) as watch:
                started = time.monotonic()
                with ThreadPoolExecutor(count) as pool:
                    kinds = [*pool.map(lambda _: _ask(server, body, content_type), range(count))]  # noqa: B023
                took = time.monotonic() - started
                after = _recovered(server)
            alive = alive and after < 120
            answers = ", ".join(f"{n} × {kind}" for kind, n in sorted(Counter(kinds).items()))
            rows.append(
                (
                    name,
                    answers,
                    f"{took:.1f}",
                    f"{after:.1f}",
                    watch.peak // _MIB,
                    watch.worker // _MIB,
                )
            )
            print(rows[-1], flush=True)
    head = ("requests", "answers", "took, s", "answered again after, s", "JVM, MiB", "worker, MiB")
    return alive, table(head, rows)


def _loads() -> list[tuple[str, int, str, bytes]]:
    plain, form = "application/octet-stream", "application/x-www-form-urlencoded"
    some = b"&".join(b"%x=1" % number for number in range(100_000))
    return [
        ("one small body", 1, plain, b"1"),
        ("100 bodies of 10 MiB at once", 100, plain, bytes(_SIZE)),
        ("130 bodies of 10 MiB at once", 130, plain, bytes(_SIZE)),
        ("100,000 fields, four at once", 4, form, some),
        (f"{_FIELDS // 4:,} fields, one", 1, form, b"a=1&" * (_FIELDS // 4)),
        (f"{_FIELDS:,} fields, one", 1, form, b"a=1&" * _FIELDS),
        (f"{_FIELDS:,} fields, four at once", 4, form, b"a=1&" * _FIELDS),
    ]


def _ask(server: object, body: bytes, content_type: str, timeout: float = 200.0) -> str:
    import httpx

    try:
        answer = server.predict(  # type: ignore[attr-defined]
            "echo", content=body, headers={"Content-Type": content_type}, timeout=timeout
        )
    except httpx.TimeoutException:
        return "no answer"
    except httpx.TransportError:
        return "closed"
    return str(answer.status_code)


def _recovered(server: object) -> float:
    """Return how many seconds it takes until an ordinary request is answered; at most 120."""
    started = time.monotonic()
    while (took := time.monotonic() - started) < 120:
        if _ask(server, b"1", "text/plain", 10.0) == "200":
            break
        time.sleep(0.5)
    return took


class _Watch(threading.Thread):
    """Looks at the resident memory of a JVM, and of its largest child, while it is open."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._over = pid, threading.Event()
        self.peak = self.worker = 0

    def run(self) -> None:
        """Look ten times a second."""
        import psutil

        while not self._over.wait(0.1):
            try:
                jvm = psutil.Process(self._pid)
                self.peak = max(self.peak, jvm.memory_info().rss)
                sizes = [child.memory_info().rss for child in jvm.children(recursive=True)]
                self.worker = max(self.worker, *sizes, 0)
            except psutil.Error:
                continue

    def __enter__(self) -> _Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True)
    model = '{"modelName": "echo", "modelVersion": "1.0", "handler": "echoes:handle"}'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", f'{{"runtime": "python", "model": {model}}}')
        archive.writestr("echoes.py", _HANDLER)
