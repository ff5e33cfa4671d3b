"""Code that would run when a file of an archive is loaded, looked for in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from archive.container.budget import Budget
from archive.rules.pickles import look_through
from archive.rules.script import script_problems

_SHOWN = 10


@dataclass(slots=True, kw_only=True)
class Scanned:
    """What is wrong with the payload; notes on other members; what was not looked at."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def scan(files: Mapping[str, Path], payload: str | None, budget: Budget) -> Scanned:
    """Look through the members that are at `files`, as long as their archive's budget lasts."""
    found, sealed = Scanned(), list[str]()
    # The payload first: what others cost is not to keep it from being looked at.
    names = sorted(files, key=lambda name: (name != payload, name))
    for number, name in enumerate(names):
        if name != payload and budget.is_spent():
            found.unchecked.append(
                f"pickles: {len(names) - number} members were not looked through, {name} and on: "
                f"the others took {budget.seconds:.0f} s of processor time"
            )
            break
        # Of a zip file that costs too much nothing more is read.
        lines, inside = look_through(files[name], budget)
        lines = lines or script_problems(files[name])
        sealed += [f"{name}: {line}" for line in inside]
        if name == payload:
            found.problems += lines
        else:
            found.notes += [f"{name}: {line} (if the handler loads it so)" for line in lines]
    if sealed:
        more = f", and {len(sealed) - _SHOWN} more" if len(sealed) > _SHOWN else ""
        found.unchecked.append(f"pickles: not looked into: {', '.join(sealed[:_SHOWN])}{more}")
    return found
