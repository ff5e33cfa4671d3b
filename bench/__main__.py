"""`make prove`: run the long proofs and write what they gave to docs/reference/figures.md."""

from __future__ import annotations

import argparse
import importlib
import platform
import re
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "figures.md"
# In the order of the page. Each module has `TITLE` and `prove(root, folder) -> (ok, markdown)`.
PROOFS = ("studies", "resume", "processes", "train_speed", "rest", "noop", "reproducible",
          "kills", "pack_kills", "archive_speed", "verify_speed", "gate_speed", "int8", "parity",
          "decoding", "memory", "fresh")  # fmt: skip

_SECTION = re.compile(r"^## .+?\n\n`python -m bench (\w+)`.*?(?=^## |\Z)", re.M | re.S)
_HEAD = """\
# Figures

What `make prove` measured. Each section says which command repeats it; `make prove` runs all.
"""


def main() -> int:
    """Run the named proofs, or all; returns 1 when one of them does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PROOFS)}")
    names = parser.parse_args().names or PROOFS
    if unknown := set(names) - set(PROOFS):
        parser.error(f"no such proof: {', '.join(sorted(unknown))}; there are {', '.join(PROOFS)}")
    failed = []
    for name in names:
        proof = importlib.import_module(f"bench.{name}")
        print(f"== {name}: {proof.TITLE}", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"marwright-{name}-") as folder:
            ok, text = proof.prove(ROOT, Path(folder))
        print(f"{text}\n== {name}: {'holds' if ok else 'DOES NOT HOLD'}\n", flush=True)
        failed += [] if ok else [name]
        write_section(PAGE, name, proof.TITLE, text, time.monotonic() - started)
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def write_section(page: Path, name: str, title: str, text: str, seconds: float) -> None:
    """Replace one section of the page, or add it in its place."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    sections = {match[1]: match[0].strip() for match in _SECTION.finditer(old)}
    date = datetime.now(UTC).date().isoformat()
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    sections[name] = (
        f"## {title}\n\n`python -m bench {name}` · {date} · {machine} · took {seconds:.0f} s\n\n"
        f"{text.strip()}"
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    body = "\n\n".join(sections[proof] for proof in PROOFS if proof in sections)
    page.write_text(f"{_HEAD}\n{body}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
