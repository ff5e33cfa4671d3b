"""`marwright verify FILE…`: check archives that may come from anywhere."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from marwright.archive.names import one_line
from marwright.archive.running import Answer, Aside, Request
from marwright.archive.store import list_store, removal
from marwright.archive.types import VerifyReport
from marwright.archive.verify import verify
from marwright.cli.body import read_body
from marwright.cli.busy import busy
from marwright.recipe.errors import NotTriedError, StoreError, VerifyError

# Characters of an answer on the console.
_SHOWN = 300


def verify_files(
    files: Sequence[Path],
    store: Path | None = None,
    *,
    as_json: bool,
    samples: Sequence[str] = (),
) -> int:
    """Verify archives, and a store as a whole, in which each must be proven; print what is found.

    Each of `samples`, a file, `-` or JSON, is sent to every handler too. Returns 0, `VerifyError`'s
    code, or that of `NotTriedError` where nothing is wrong and a handler was not tried. Raises
    `StoreError` when there is no such store, and `UsageError` for a sample that is not there.
    """
    requests = [*map(_request, samples)]
    stored, found = _look_through(store) if store is not None else ([], [])
    if not as_json:
        print("".join(f"{line}\n" for line in found), end="")
        if store is not None and not stored and not found:
            print(f"{store}: holds no archives")
    reports = {}
    for file in (*files, *stored):
        proven = file in stored and file not in files
        reports[str(file)] = _report(file, requests, as_json=as_json, proven=proven)
    if as_json:
        print(json.dumps({"archives": reports, "problems": found}, indent=2))
    wrong = found or any(report["problems"] for report in reports.values())
    if wrong:
        return VerifyError.exit_code
    untried = any(report["handler"] == "not tried" for report in reports.values())
    return NotTriedError.exit_code if untried else 0


def _look_through(store: Path) -> tuple[list[Path], list[str]]:
    if not store.is_dir():
        raise StoreError(f"{store}: no such folder")
    listing = list_store(store)
    # Of what cannot be read `verify` says more.
    told = [*listing.strangers, *(one for one in listing.refused if not one.unread)]
    return listing.archives, [str(one) for one in sorted(told, key=lambda one: one.path)]


def _request(sample: str) -> Request:
    body = read_body(sample)
    content_type, name = body.content_type, "-" if sample == "-" else sample
    if content_type == "application/octet-stream":
        content_type = mimetypes.guess_type(name)[0] or content_type
    return Request(name=one_line(name)[:100], body=body.content, content_type=content_type)


def _report(
    file: Path, requests: Sequence[Request], *, as_json: bool, proven: bool
) -> dict[str, Any]:
    """Verify one archive; returns what was found, after printing it unless it is for JSON."""
    seconds: dict[str, float] = {}
    aside = Aside(samples=requests)
    report: dict[str, Any] = {}
    try:
        with busy(f"verifying {file}"):
            verified = verify(file, timed=seconds.__setitem__, aside=aside)
    except VerifyError as error:
        lines = str(error).splitlines()
    else:
        answers = [*map(_answer, aside.answers)]
        report = {**msgspec.to_builtins(verified), "seconds": seconds, "sandbox": aside.sandbox}
        report |= {"answers": answers} if requests else {}
        lines = [f"{file}: {problem}" for problem in verified.problems]
        if proven and verified.ok and not verified.proven and not verified.untried:
            lines.append(f"{file}: carries no proof; build it from a recipe")
        if not lines and not as_json:
            _show(file, verified, seconds, aside)
    if not as_json:
        print("".join(f"{line}\n" for line in lines), end="")
        if proven and lines:
            print(f"  `{removal(file)}` removes it from the store")
    return {**report, "problems": lines}


def _answer(answer: Answer) -> dict[str, Any]:
    request = answer.request
    return {
        "sample": request.name,
        "content_type": request.content_type,
        "status": answer.status,
        "answer": answer.body.decode(errors="replace"),
    }


def _show(file: Path, report: VerifyReport, seconds: dict[str, float], aside: Aside) -> None:
    loads = "handler not tried" if report.untried else "loads, unproven"
    kind = "proven" if report.proven else loads
    times = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    print(
        f"{file}: {kind} · {report.members} members · {report.golden_samples} golden samples · "
        f"sha256 {report.sha256}\n  {times}"
    )
    if aside.sandbox:
        print(f"  run with {'; '.join(aside.sandbox)}")
    for answer in aside.answers:
        body = " ".join(one_line(answer.body.decode(errors="replace")).split("\\n"))
        body = body if len(body) <= _SHOWN else f"{body[:_SHOWN]}…"
        request = answer.request
        print(f"  {request.name}, sent as {request.content_type}: {answer.status} {body}")
    for line in report.unchecked:
        print(f"  not checked: {line}")
    for line in report.notes:
        print(f"  {line}")
