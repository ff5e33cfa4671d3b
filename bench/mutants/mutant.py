"""A way to break a healthy model, and what the gate must say of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.mutants.healthy import Healthy
from marwright.parity.compare import Candidate
from marwright.parity.gate import Subject, run_gate
from marwright.recipe.types import Parity

ONNX = ("onnx", "onnx optimised")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was said to be wrong: by which check, of what, and the sentence."""

    check: str
    backend: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All that was found. `node` is the first diverging one, as in "Gemm node_linear_1" or
    "BatchNorm2d block.first_norm", and `how` what is said of it; empty without one.
    """

    found: tuple[Finding, ...]
    node: str = ""
    how: str = ""


Judge = Callable[[Healthy, Path], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """What is broken, on which of the healthy models, and what must be said.

    `check` must find it in each of `backends`, and nothing may be said of others, but for those in
    `too`. `node` and `says` are patterns: of the first diverging node, and of the text.
    """

    name: str
    breaks: str
    base: str
    check: str
    backends: tuple[str, ...]
    too: tuple[str, ...]
    node: str
    says: str
    judge: Judge

    def unseen(self, verdict: Verdict) -> list[str]:
        """Return the backends in which the check does not find it."""
        hits = {finding.backend for finding in verdict.found if finding.check == self.check}
        return [backend for backend in self.backends if backend not in hits]

    def missed(self, verdict: Verdict) -> list[str]:
        """Say what the verdict lacks or has too much of; nothing if it is as it must be."""
        others = {finding.backend for finding in verdict.found} - {*self.backends, *self.too}
        texts = [finding.text for finding in verdict.found] + [verdict.how]
        problems = [f"{self.check} does not find it in {each}" for each in self.unseen(verdict)]
        problems += [f"{other} is said to be wrong too" for other in sorted(others)]
        if not re.search(self.node, verdict.node):
            problems.append(f"the first diverging node is {verdict.node!r}, not {self.node!r}")
        if not any(re.search(self.says, text) for text in texts):
            problems.append(f"no text says {self.says!r}")
        return problems


MUTANTS: dict[str, Mutant] = {}


def register(
    judge: Judge,
    named: Callable[..., object],
    base: str,
    *,
    check: str,
    backends: tuple[str, ...],
    too: tuple[str, ...] = (),
    node: str = "",
    says: str = "",
) -> None:
    """Add a mutant. `named` is the function that breaks: its name, and its docstring's line."""
    name = named.__name__.replace("_", " ")
    assert name not in MUTANTS, name
    assert named.__doc__, name
    MUTANTS[name] = Mutant(
        name=name,
        breaks=named.__doc__.splitlines()[0],
        base=base,
        check=check,
        backends=backends,
        too=too,
        node=node,
        says=says,
        judge=judge,
    )


def by_gate(candidate: Candidate, subject: Subject, declared: Parity | None = None) -> Verdict:
    """Run the gate as a build does, with its default budget."""
    report = run_gate(candidate, subject, declared or Parity()).report
    where = report.divergence
    return Verdict(
        found=tuple(
            Finding(check=each.check, backend=each.backend, text=each.text)
            for each in report.problems
        ),
        node=f"{where.op} {where.node}" if where else "",
        how=where.how if where else "",
    )
