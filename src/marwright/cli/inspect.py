"""`marwright inspect` and `diff`: archives to look at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from marwright.archive.card import Card, difference, read_card
from marwright.archive.manifest import NAME
from marwright.archive.names import one_line, printable
from marwright.archive.rules.dag import nodes_of
from marwright.archive.rules.handler import is_stock
from marwright.archive.types import to_json
from marwright.cli.listing import print_table
from marwright.pipeline.build_log import read_build_log
from marwright.pipeline.layout import Layout
from marwright.pipeline.state import read_record
from marwright.recipe.errors import VerifyError


def inspect(file: Path, layout: Layout, *, as_json: bool) -> int:
    """Show an archive's card; returns 0, or `VerifyError`'s code when something is wrong in it."""
    card = read_card(file)
    built = build_of(card, layout)
    if as_json:
        sys.stdout.buffer.write(to_json({**msgspec.to_builtins(card), "build": built}))
    else:
        _show(card, built)
    return VerifyError.exit_code if card.problems else 0


def diff(one: Path, other: Path) -> int:
    """Print what differs between two archives; returns 1 when something does."""
    lines = difference(one, other)
    print("\n".join(lines) if lines else "the same members with the same bytes")
    return 1 if lines else 0


def build_of(card: Card, layout: Layout) -> dict[str, Any]:
    """Return the build log of the model that this very archive was built as, if it was here."""
    model = card.manifest.get("model", {}).get("modelName", "")
    # Whoever wrote the archive wrote its name.
    if not NAME.fullmatch(model) or not layout.folder(model).is_dir():
        return {}
    record = read_record(layout.record(model, "archive"))
    if record is None or card.sha256 not in {out.sha256 for out in record.outputs.values()}:
        return {}
    return read_build_log(layout, model)


def _show(card: Card, built: dict[str, Any]) -> None:
    from rich.table import Table

    facts: list[tuple[str, str]] = [
        ("file", f"{card.path}, {_size(card.size)}"),
        ("SHA-256", card.sha256),
        ("packed by", str(card.manifest.get("archiverVersion"))),
    ]
    facts += _workflow_facts(card) if "workflow" in card.manifest else _model_facts(card)
    if built:
        steps = built.get("steps", {})
        seconds = sum(step["seconds"] for step in steps.values())
        finished = max((step["finished"] for step in steps.values()), default="")
        facts.append(("built", f"on {built['host']['name']}, {finished}, in {seconds:.0f} s"))
        facts.append(("commit", built.get("git_commit", "")))
    table = Table(box=None, pad_edge=False, show_header=False)
    for fact in facts:
        table.add_row(*map(printable, fact))
    print_table(table)
    print()
    members = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("member", "size", "SHA-256"):
        members.add_column(column, justify="right" if column == "size" else "left", no_wrap=True)
    for name, member in card.members.items():
        members.add_row(name, _size(member.size), f"{member.sha256[:12]}…")
    print_table(members)
    for problem in card.problems:
        print(f"problem: {one_line(problem)}")


def _model_facts(card: Card) -> list[tuple[str, str]]:
    model = card.manifest.get("model", {})
    handler = model.get("handler", "")
    own = is_stock(handler, card.members.__contains__)
    facts: list[tuple[str, str]] = [
        ("model", f"{model.get('modelName')} {model.get('modelVersion')}"),
        ("handler", f"{handler} (TorchServe's own)" if own else handler),
        ("payload", model.get("serializedFile", "none")),
        ("proof", "claimed; `verify` tests it" if card.claims_proof else "none: unproven"),
    ]
    for name, value in card.metrics.items():
        baseline = card.baseline.get(name)
        beside = "" if baseline is None else f" (baseline {baseline:.4f})"
        facts.append((name, f"{value:.4f}{beside}"))
    if card.parity is not None:
        facts.append(
            ("exports agree", f"{card.parity.worst_ratio:.2g} of the limit, errors ≤ "
             f"{card.parity.max_error:.1e}, at batches "
             f"{', '.join(map(str, card.parity.batches))}, {card.parity.flips} flips")
        )  # fmt: skip
    facts.append(("golden samples", str(card.golden_samples)))
    facts += [(f"config {key}", str(value)) for key, value in card.config.items()]
    facts += [(f"built with {name}", version) for name, version in card.versions.items()]
    return facts


def _workflow_facts(card: Card) -> list[tuple[str, str]]:
    workflow = card.manifest["workflow"]
    facts = [
        ("workflow", workflow["workflowName"]),
        ("spec", workflow["specFile"]),
        ("handler", workflow["handler"] or "none: all nodes are models"),
    ]
    for name, model in card.config["models"].items():
        settings = ", ".join(f"{key} {value}" for key, value in model["settings"].items())
        facts.append((f"model {name}", f"{model['url']}: {settings}"))
    dag = card.config["dag"]
    return facts + [
        (f"node {node}", f"→ {', '.join(dag.get(node, ())) or 'the answer'}")
        for node in nodes_of(dag)
    ]


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"
