"""`python -m bench.fuzz NAME`: mutated inputs against what reads bytes of strangers."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from bench.fuzz.loop import run

ROOT = Path(__file__).resolve().parents[2]
# Each module has `seeds() -> list[bytes]`, `execute(content) -> str`, as `loop.run` takes them,
# and `repair(content) -> bytes`, which puts checksums right.
TARGETS = ("archives", "readers")


def main() -> int:
    """Run one fuzzer; returns 1 when an input failed or took too long."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("name", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="what the mutations are drawn by")
    given = parser.parse_args()
    target = importlib.import_module(f"bench.fuzz.{given.name}")
    return run(
        given.name,
        target.seeds(),
        target.execute,
        minutes=given.minutes,
        seed=given.seed,
        repair=target.repair,
        folder=ROOT / "build" / "fuzz",
    )


if __name__ == "__main__":
    sys.exit(main())
