"""That the parity gate catches what is wrong, says where, and never cries wolf."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from bench.project import table

if TYPE_CHECKING:
    from bench.mutants.healthy import Healthy

TITLE = "The parity gate: mutants caught, false alarms"
_SEEDS = range(5)
# Of a text, what a table can show.
_SHOWN = 160


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Break healthy models in every way we know, and look at healthy ones over training seeds."""
    import torch

    from bench.mutants.healthy import PLANS, make

    torch.set_num_threads(1)
    models = {
        (name, seed): make(name, _made(folder / f"{name}{seed}"), seed=seed)
        for name in PLANS
        for seed in _SEEDS
    }
    healthy_ok, healthy_text = _false_alarms(models)
    mutants_ok, mutants_text = _mutants({name: models[name, 0] for name in PLANS}, folder)
    return healthy_ok and mutants_ok, f"{mutants_text}\n\n{healthy_text}"


def _mutants(models: dict[str, Healthy], folder: Path) -> tuple[bool, str]:
    from bench.mutants.collection import MUTANTS

    rows: list[tuple[object, ...]] = []
    caught = named = 0
    for number, mutant in enumerate(MUTANTS.values()):
        place = _made(folder / f"mutant{number}")
        verdict = mutant.judge(models[mutant.base], place)
        missed = mutant.missed(verdict)
        caught += not mutant.unseen(verdict)
        named += not missed
        said = [each.text for each in verdict.found if each.check == mutant.check]
        text = "; ".join(filter(None, (*said[:1], verdict.how))).replace(f"{place}/", "")
        by = f"{mutant.check}: {', '.join(mutant.backends)}"
        rows.append(
            (
                f"{mutant.name} ({mutant.base})",
                mutant.breaks,
                f"**{'; '.join(missed)}**" if missed else by,
                _cell(text),
                f"`{verdict.node}`" if verdict.node else "–",
            )
        )
    header = ("mutant", "what is broken", "caught by", "what the report says", "first diverging")
    count = len(MUTANTS)
    text = f"{caught} of {count} mutants are caught, and {named} named as they must be."
    return named == count, f"{text}\n\n{table(header, rows)}"


def _false_alarms(models: dict[tuple[str, int], Healthy]) -> tuple[bool, str]:
    """Run the gate over each model with the seed that it was trained with."""
    from bench.mutants.answers import by_answers
    from marwright.parity.gate import run_gate
    from marwright.recipe.types import Parity

    alarms = 0
    worst: dict[str, float] = {}
    said: list[str] = []
    for (name, seed), model in models.items():
        report = run_gate(model.candidate(), model.subject(), Parity(seed=seed)).report
        answers = by_answers(model, model.recipe, model.checkpoint.meta).found
        texts = [f"{each.check}, {each.backend}: {each.text}" for each in report.problems]
        texts += [f"{each.check}, {each.backend}: {each.text}" for each in answers]
        alarms += bool(texts)
        said += [f"- {name}, seed {seed}: {text}" for text in texts]
        ratio = max(case.ratio for case in report.cases)
        worst[name] = max(worst.get(name, 0.0), ratio)
    rows: list[tuple[object, ...]] = [(name, f"{ratio:.2f}") for name, ratio in worst.items()]
    header = ("healthy model", "largest error over its limit, of all inputs and seeds")
    text = f"{alarms} false alarms in {len(models)} healthy runs, each trained anew."
    return alarms == 0, "\n\n".join(
        [text, *(["\n".join(said)] if said else []), table(header, rows)]
    )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _cell(text: str) -> str:
    """Make a cell of a table of a text: no line breaks, no bars, not too long."""
    # Addresses in memory are other ones each time.
    line = re.sub(r" at 0x\w+", "", " ".join(text.split())).replace("|", "\\|")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
