"""`make verify MODEL=some/file.mar`: check archives that may come from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from archive.verify import verify
from recipes.errors import VerifyError


def verify_files(files: list[Path], *, as_json: bool) -> int:
    """Verify each file and print what was found; returns 0, or `VerifyError`'s code."""
    code: int = 0
    reports: dict[str, Any] = {}
    for file in files:
        try:
            report = verify(file)
        except VerifyError as error:
            code, reports[str(file)] = error.exit_code, {"problems": [str(error)]}
            if not as_json:
                print(error)
            continue
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
