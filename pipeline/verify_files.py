"""`make verify MODEL=some/file.mar`: check archives that may come from anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from archive.verify import verify
from recipes.errors import VerifyError


def verify_files(files: list[Path], *, as_json: bool) -> int:
    """Verify each file and print what was found; returns 0, or `VerifyError`'s code."""
    code, reports = 0, {}
    for file in files:
        if not file.is_file():
            raise VerifyError(f"{file}: no such file")
        report = verify(file)
        reports[str(file)] = msgspec.to_builtins(report)
        code = code if report.ok else VerifyError.exit_code
        if as_json:
            continue
        if report.ok:
            kind = "proven" if report.proven else "loads; it carries no proof"
            print(
                f"{file}: {kind} · {report.members} members · {report.golden_samples} golden "
                f"samples · sha256 {report.sha256}"
            )
        for problem in report.problems:
            print(f"{file}: {problem}")
    if as_json:
        print(json.dumps(reports, indent=2))
    return code
