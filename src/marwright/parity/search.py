"""The worst-case search: from real samples towards inputs on which exports disagree.

Two ways, half of the starts each. Margin descent follows the gradient of the checkpoint's margin
between its two best labels, to where a small error flips the label; of a regression, the gradient
of the output, to its extremes. Divergence ascent pushes each output in the direction in which the
worst backend already errs. An ONNX file has no gradients, so the checkpoint's stand for them, in
turns with random directions, and a step is kept only where the true divergence grew.

A text has no gradient: there some of its bytes are replaced at random, and a step is kept where the
margin shrank, or the divergence grew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from marwright.parity.backends import Array, Run, eager_backend
from marwright.parity.inputs import Domain, Group
from marwright.parity.texts import replaced
from marwright.parity.types import BackendName, Search
from marwright.parity.verdict.judge import in_parts
from marwright.parity.verdict.task import flipped_margin
from marwright.parity.verdict.tolerance import Floats
from marwright.training.inference import uncompiled

# The first step, as a part of the valid range; later ones shrink to a tenth of it.
_STEP = 0.1
# Steps without a gradient cost less, and lead less far.
_TEXT_STEPS = 8
# As far as can be.
_BROKEN = 1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Where to search: the checkpoint, the backends, and by how much each of them errs on real
    data, `(outputs,)`, which stands for its limit until the gate judges what was found. Backends
    run at the batch `serving`.
    """

    eager: nn.Module
    backends: Mapping[BackendName, Run]
    noise: Mapping[BackendName, Floats]
    domain: Domain
    classification: bool
    serving: int = 7


def search(
    field: Field, starts: Group, steps: int, seed: int, keep: int = 8
) -> tuple[Group, Search]:
    """Search from real rows; returns the worst inputs found, and what was done.

    Raises `RuntimeError` for a checkpoint that has no gradient.

    At most `keep` diverge the most. Behind them come at most half as many that get another label
    although the checkpoint is the surest, and are not among the first.
    """
    chance = np.random.default_rng(seed)
    rows, of_text = starts.rows.copy(), field.domain.dtype == "int64"
    if of_text:
        steps *= _TEXT_STEPS
    descend = np.arange(len(rows)) % 2 == 0
    ratio, towards, margin, doubt = _look(field, rows)
    first = float(ratio.max())
    best_rows, best = rows.copy(), ratio.copy()
    sure_rows, sure = rows.copy(), margin.copy()
    flips = int((margin > 0).sum())
    span = np.broadcast_to(field.domain.high - field.domain.low, field.domain.shape)
    for step in range(steps):
        size = _STEP * 0.1 ** (step / max(1, steps - 1))
        if of_text:
            moved = replaced(rows, size, chance)
        else:
            gradient = _gradient(field, rows, descend, towards)
            if step % 2:
                # The ascent has no true gradient, so every other step of it looks elsewhere.
                gradient[~descend] = chance.standard_normal(gradient[~descend].shape)
            moved = rows + np.float32(size) * span * np.sign(gradient).astype(np.float32)
            moved = np.clip(moved, field.domain.low, field.domain.high).astype(np.float32)
        ratio, new_towards, margin, new_doubt = _look(field, moved)
        flips += int((margin > 0).sum())
        surer = margin > sure
        sure_rows[surer], sure[surer] = moved[surer], margin[surer]
        better = ratio > best
        best_rows[better], best[better] = moved[better], ratio[better]
        # Descent goes on from wherever it is, but that it knows no way for a text; ascent only from
        # what is worse than before.
        taken = descend & (new_doubt < doubt) | better if of_text else descend | better
        rows[taken], towards[taken] = moved[taken], new_towards[taken]
        doubt[taken] = new_doubt[taken]
    order = np.argsort(best)[::-1][:keep]
    other = [
        place
        for place in np.argsort(sure)[::-1][: keep // 2]
        if sure[place] > 0
        and not (place in order and np.array_equal(sure_rows[place], best_rows[place]))
    ]
    group = Group(
        kind="worst",
        rows=np.concatenate([best_rows[order], sure_rows[other]]),
        names=(
            *(f"found from {starts.names[place]}" for place in order),
            *(f"found from {starts.names[place]}, with another label" for place in other),
        ),
    )
    return group, Search(
        starts=len(rows),
        steps=steps,
        evaluated=len(rows) * (steps + 1),
        first_ratio=first,
        worst_ratio=float(best.max()),
        flips=flips,
        seed=seed,
    )


def _look(field: Field, rows: Array) -> tuple[Floats, Floats, Floats, Floats]:
    """Run every backend on rows.

    Returns by row the largest divergence from the checkpoint in units of the noise, its direction
    `(n, outputs)`, the largest margin over which a label flipped, 0 where none did, and the
    checkpoint's own margin between its two best labels.
    """
    eager = eager_backend(field.eager)(rows)
    ratio, towards, margin = np.zeros(len(rows)), np.zeros_like(eager), np.zeros(len(rows))
    for name, run in field.backends.items():
        try:
            outputs = in_parts(run, rows, field.serving)
        except RuntimeError:
            # The gate will meet it again, and tell of it.
            ratio[:] = _BROKEN
            continue
        same = (outputs == eager) | (np.isnan(outputs) & np.isnan(eager))
        with np.errstate(invalid="ignore"):
            # NaN on one side only is as far as can be.
            difference = np.nan_to_num(
                outputs - eager, nan=_BROKEN, posinf=_BROKEN, neginf=-_BROKEN
            )
        difference[same] = 0.0
        if field.classification:
            margin = np.fmax(margin, flipped_margin(eager, outputs))
        scale = np.maximum(field.noise[name], np.finfo(np.float32).tiny)
        found = (np.abs(difference) / scale).max(axis=1)
        worse = found > ratio
        ratio[worse], towards[worse] = found[worse], np.sign(difference[worse])
    if eager.shape[1] < 2:
        return ratio, towards, margin, np.abs(eager[:, 0])
    ranked = np.sort(eager, axis=1)
    return ratio, towards, margin, ranked[:, -1] - ranked[:, -2]


def _gradient(
    field: Field, rows: Array, descend: NDArray[np.bool_], towards: Floats
) -> NDArray[np.float32]:
    """Return the direction to go for each row: down the margin, or up the divergence."""
    inputs = torch.from_numpy(rows).requires_grad_()
    with torch.enable_grad(), uncompiled():
        # A copy, because a model may write into what it is given.
        outputs = field.eager(inputs.clone())
        outputs = outputs.reshape(len(rows), -1)
        if field.classification and outputs.shape[1] > 1:
            best = outputs.topk(2, dim=1).values
            aim = best[:, 1] - best[:, 0]
        else:
            aim = outputs.abs().sum(dim=1)
        push = (outputs * torch.from_numpy(towards).to(outputs.dtype)).sum(dim=1)
        total = torch.where(torch.from_numpy(descend), aim, push).sum()
        if not total.requires_grad:
            # Indices and counts have no gradient: only the random steps go anywhere.
            return np.zeros_like(rows)
        [gradient] = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)
    return np.asarray(torch.nan_to_num(gradient).numpy(), dtype=np.float32)
