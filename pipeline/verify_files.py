"""`python -m pipeline verify FILE…`: check archives that may come from anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from archive.store import list_store, removal
from archive.types import VerifyReport
from archive.verify import verify
from pipeline.busy import busy
from recipes.errors import StoreError, VerifyError


def verify_files(files: Sequence[Path], store: Path | None = None, *, as_json: bool) -> int:
    """Verify archives, and a store as a whole, in which each must be proven; print what is found.

    Returns 0, or `VerifyError`'s code. Raises `StoreError` when there is no such store.
    """
    stored, found = _look_through(store) if store is not None else ([], [])
    if not as_json:
        print("".join(f"{line}\n" for line in found), end="")
        if store is not None and not stored and not found:
            print(f"{store}: holds no archives")
    reports = {str(file): _report(file, as_json=as_json, proven=False) for file in files}
    reports |= {str(file): _report(file, as_json=as_json, proven=True) for file in stored}
    if as_json:
        print(json.dumps({"archives": reports, "problems": found}, indent=2))
    wrong = found or any(report["problems"] for report in reports.values())
    return VerifyError.exit_code if wrong else 0


def _look_through(store: Path) -> tuple[list[Path], list[str]]:
    if not store.is_dir():
        raise StoreError(f"{store}: no such folder")
    listing = list_store(store)
    # Of what cannot be read `verify` says more.
    told = [*listing.strangers, *(one for one in listing.refused if not one.unread)]
    return listing.archives, [str(one) for one in sorted(told, key=lambda one: one.path)]


def _report(file: Path, *, as_json: bool, proven: bool) -> dict[str, Any]:
    """Verify one archive; returns what was found, after printing it unless it is for JSON."""
    seconds: dict[str, float] = {}
    report: dict[str, Any] = {}
    try:
        with busy(f"verifying {file}"):
            verified = verify(file, timed=seconds.__setitem__)
    except VerifyError as error:
        lines = str(error).splitlines()
    else:
        report = {**msgspec.to_builtins(verified), "seconds": seconds}
        lines = [f"{file}: {problem}" for problem in verified.problems]
        if proven and verified.ok and not verified.proven:
            lines.append(f"{file}: carries no proof; build it from a recipe")
        if not lines and not as_json:
            _show(file, verified, seconds)
    if not as_json:
        print("".join(f"{line}\n" for line in lines), end="")
        if proven and lines:
            print(f"  `{removal(file)}` removes it from the store")
    return {**report, "problems": lines}


def _show(file: Path, report: VerifyReport, seconds: dict[str, float]) -> None:
    kind = "proven" if report.proven else "loads, unproven"
    times = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    print(
        f"{file}: {kind} · {report.members} members · {report.golden_samples} golden samples · "
        f"sha256 {report.sha256}\n  {times}"
    )
    for line in report.unchecked:
        print(f"  not checked: {line}")
    for line in report.notes:
        print(f"  {line}")
