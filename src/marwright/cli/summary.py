"""How a build ended: nothing to do, or a table, and every error in full."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marwright.pipeline.build import Outcome
    from marwright.pipeline.layout import Layout


def summarise(
    outcomes: list[Outcome],
    verbs: list[str],
    layout: Layout,
    *,
    debug: bool = False,
    quiet: bool = False,
) -> int:
    """Print how models were built; returns the exit code.

    One failed model gives its error's code; several with different codes give 1.
    """
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if not failed and not any(outcome.ran for outcome in outcomes):
        models = ", ".join(outcome.model for outcome in outcomes)
        if not quiet:
            print(f"up to date ({' '.join(verbs)}): {models}")
        return 0
    if not quiet:
        _print_table(outcomes, layout)
    for outcome in failed:
        assert outcome.error is not None
        where = f"{outcome.model} {outcome.failed_step}".strip()
        print(f"marwright: {where}: {outcome.error}", file=sys.stderr)
        log = getattr(outcome.error, "log", None)
        if log is not None:
            print(f"    log: {log.relative_to(layout.root)}", file=sys.stderr)
            if debug:
                print(log.read_text(encoding="utf-8", errors="replace"), file=sys.stderr)
    codes = {outcome.error.exit_code for outcome in failed if outcome.error is not None}
    if not codes:
        return 0
    return codes.pop() if len(codes) == 1 else 1


def _print_table(outcomes: list[Outcome], layout: Layout) -> None:
    from rich.table import Table

    from marwright.cli.listing import print_table
    from marwright.pipeline.facts import facts_of

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "ran", "seconds", "metric", "exports agree", "published"):
        table.add_column(column, justify="right" if column == "seconds" else "left", no_wrap=True)
    for outcome in outcomes:
        facts = facts_of(outcome.model, layout)
        ran = f"{len(outcome.ran)} steps" if outcome.ran else "nothing"
        if outcome.error is not None:
            ran += f"; {outcome.failed_step or 'recipe'} failed"
        seconds = f"{sum(outcome.ran.values()):.1f}"
        # Of one that failed, what is known is of an earlier build.
        metric, exports = (facts.metric, facts.exports) if outcome.error is None else ("–", "–")
        table.add_row(outcome.model, ran, seconds, metric, exports, facts.published)
    print()
    print_table(table)
