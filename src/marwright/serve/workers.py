"""Says when a worker of a running server dies, which TorchServe tells its log only."""

from __future__ import annotations

import re
from pathlib import Path

_MARK = re.compile(rb"\] W-\d+-(\S+) \S+ - Auto recovery (start|succeeded|failed again)")
_SAID = {
    b"start": "a worker has died (killed, out of memory, or too slow with an answer); TorchServe "
    "starts another",
    b"succeeded": "it has its worker again",
    b"failed again": "its worker does not come up again; requests to it wait or fail",
}


class WorkerWatch:
    """Follows a server's `ts_log.log`, from now on."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._at = log.stat().st_size if log.exists() else 0
        self._last: dict[bytes, bytes] = {}

    def look(self) -> list[str]:
        """Return a line for each worker that has died, or come up again, since the last look."""
        said = []
        for model, what in _MARK.findall(self._news()):
            # A worker that cannot load fails again every few seconds.
            if self._last.get(model) != what or what == b"start":
                self._last[model] = what
                said.append(f"{model.decode(errors='replace')}: {_SAID[what]}")
        return said

    def _news(self) -> bytes:
        """Return the whole lines that were written since the last look."""
        try:
            with self._log.open("rb") as file:
                # A smaller file is a new one: the old one was put aside.
                file.seek(self._at if self._at <= self._log.stat().st_size else 0)
                begun = file.tell()
                news = file.read()
        except FileNotFoundError:
            return b""
        whole = news[: news.rfind(b"\n") + 1]
        self._at = begun + len(whole)
        return whole
