"""The loop of every fuzzer: draw an input, change it, run it, and keep what is new about it.

An input whose outcome has not been seen before becomes one of those that are changed. Inputs are a
function of the seed alone; how far a run comes, and so its last inputs, depends on the machine.
"""

from __future__ import annotations

import faulthandler
import mmap
import random
import re
import resource
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Of CPU time for one input. A hang is ended after as many seconds on the clock.
MOST_SECONDS = 1.0
HANG_SECONDS = 60
# An input longer than this is cut: what large inputs cost, tests measure.
_LONGEST = 256 * 1024
_MOST_FINDINGS = 20
_VALUES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# Numbers in an outcome do not make it a new one, nor do quoted parts of the input.
_VARYING = re.compile(r"\d+|'.*'|\".*\"", re.DOTALL)


@dataclass(slots=True)
class _Seen:
    """What a run has found so far."""

    executions: int = 0
    outcomes: set[str] = field(default_factory=set)
    findings: dict[str, str] = field(default_factory=dict)
    slowest: float = 0.0
    slowest_input: bytes = b""


def run(
    name: str,
    seeds: Sequence[bytes],
    execute: Callable[[bytes], str],
    *,
    minutes: float,
    seed: int,
    folder: Path,
    repair: Callable[[bytes], bytes] = bytes,
) -> int:
    """Run mutated seeds until the time is up; returns 1 when an input failed, and 0 otherwise.

    `execute` returns what came of an input, in words; whatever it raises is a finding, and so is an
    input that takes more than `MOST_SECONDS` of CPU time. `repair` is applied to half of the
    inputs. What was found, and the slowest input, is left in `folder`/`name`. The input that is
    running is in `current` there: a crash or a hang of the process leaves it behind.
    """
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("finding-*"):
        old.unlink()
    chance, corpus, seen = random.Random(seed), [*seeds], _Seen()
    begun = shown = time.monotonic()
    with _Current(folder / "current") as current:
        pending = [*seeds]
        while time.monotonic() - begun < minutes * 60 and len(seen.findings) < _MOST_FINDINGS:
            content = pending.pop(0) if pending else mutated(corpus, chance, repair)
            current.keep(content)
            if _run_one(content, execute, seen, folder):
                corpus.append(content)
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                print(_line(name, seen, shown - begun), flush=True)
    (folder / "slowest").write_bytes(seen.slowest_input)
    print(_line(name, seen, time.monotonic() - begun))
    print(f"slowest input: {folder / 'slowest'} ({len(seen.slowest_input)} bytes)")
    for what, where in seen.findings.items():
        print(f"FOUND {what}: {where}")
    return 1 if seen.findings else 0


def _run_one(content: bytes, execute: Callable[[bytes], str], seen: _Seen, folder: Path) -> bool:
    """Run one input; returns whether its outcome is new."""
    seen.executions += 1
    started = time.process_time()
    try:
        outcome, finding = execute(content), ""
    except Exception as error:  # noqa: BLE001 - any of them is what is looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        finding = f"{outcome}: {str(error)[:200]}"
    took = time.process_time() - started
    if took > seen.slowest:
        seen.slowest, seen.slowest_input = took, content
    if took > MOST_SECONDS:
        finding = finding or f"{took:.2f} s of CPU time"
        outcome = f"slow: {outcome}"
    outcome = _VARYING.sub("#", outcome)
    is_new = outcome not in seen.outcomes
    seen.outcomes.add(outcome)
    if finding and is_new:
        path = folder / f"finding-{len(seen.findings)}"
        path.write_bytes(content)
        seen.findings[finding] = str(path)
    return is_new and not finding


def mutated(
    corpus: Sequence[bytes], chance: random.Random, repair: Callable[[bytes], bytes]
) -> bytes:
    """Return one of the inputs with a few changes; half of them with their checksums put right."""
    content = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 2, 4, 8, 16))):
        _change(content, corpus, chance)
    result = bytes(content[:_LONGEST])
    return repair(result) if chance.random() < 0.5 else result


def _change(content: bytearray, corpus: Sequence[bytes], chance: random.Random) -> None:
    """Make one change in place. Heads are changed more often than what stands far behind."""
    size = len(content)
    at = chance.randrange(min(size, chance.choice((32, 256, max(size, 1)))) or 1)
    length = min(chance.choice((1, 2, 4, 8, 64, 1024)), max(size - at, 0))
    kind = chance.randrange(7)
    if kind == 0 and size:
        content[at % size] ^= 1 << chance.randrange(8)
    elif kind == 1 and size:
        content[at % size] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    elif kind == 2:
        width = chance.choice((1, 2, 4))
        value = chance.choice(_VALUES) % (1 << 8 * width)
        content[at : at + width] = value.to_bytes(width, chance.choice(("big", "little")))
    elif kind == 3:
        del content[at : at + length]
    elif kind == 4:
        part = bytes(content[at : at + length])
        content[at:at] = part * chance.choice((1, 2, 16, 256))
    elif kind == 5:
        other = chance.choice(corpus)
        start = chance.randrange(len(other) or 1)
        content[at : at + chance.choice((0, length))] = other[start : start + length]
    else:
        del content[at:]


def _line(name: str, seen: _Seen, seconds: float) -> str:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{name}: {seen.executions:,} executions in {seconds:.0f} s, "
        f"{len(seen.outcomes)} outcomes, slowest {seen.slowest:.3f} s, {len(seen.findings)} found, "
        f"peak memory {peak:.0f} MiB"
    )


class _Current:
    """A file that holds the input that is running, also when the process dies of it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._file.truncate(_LONGEST + 4096)
        self._map = mmap.mmap(self._file.fileno(), 0)

    def keep(self, content: bytes) -> None:
        """Write an input, its length first, and start the clock of a hang."""
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=2)
        kept = content[:_LONGEST]
        self._map[:8] = len(kept).to_bytes(8, "little")
        self._map[8 : 8 + len(kept)] = kept

    def __enter__(self) -> _Current:
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._map.close()
        self._file.close()
