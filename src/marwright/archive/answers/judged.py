"""Whether answers are those of the data set: its labels in order, or its target's own units."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from marwright.runtime.spec import TableSpec
from marwright.training.samples import Samples, TableSamples
from marwright.training.types import Splits

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe
    from marwright.training.types import Meta

# Of a probability or a value in an answer, beside what the handler rounds: a softmax in float32,
# or a product with the target's scale.
_CLOSE = 1e-4
# Characters of an answer that a message shows.
_SHOWN = 120
_NO_RANKING = (
    'the answers are not {"predictions": [{"label": …, "probability": …}, …]}, or a list of such '
    "lists for the rows of a table: labels and "
    "their order are not checked"
)
_NO_VALUES = 'the answers are not {"predictions": [value, …]}: values are not checked'

Ranking = list[tuple[str, float]]
Values = NDArray[np.float64]


def judge_answers(
    answers: Sequence[Any],
    splits: Splits,
    chosen: NDArray[np.int64],
    outputs: NDArray[np.float64],
    meta: Meta,
    recipe: Recipe,
) -> tuple[list[str], list[str]]:
    """Hold the answers to the samples `chosen` against an export's `outputs` for them.

    Where an answer is None there was none, which is told elsewhere. Returns what is wrong, and what
    cannot be judged: answers may have a form of one's own, but then all of them.
    """
    given = np.array([place for place, answer in enumerate(answers) if answer is not None], int)
    if not len(given):
        return [], []
    answers = [answers[place] for place in given]
    chosen, outputs = chosen[given], outputs[given]
    if (samples := splits.samples).labels:
        rankings = [_ranking(answer) for answer in answers]
        known = [ranking for ranking in rankings if ranking is not None]
        if len(known) == len(answers):
            return [*_wrong_rankings(known, samples, chosen, outputs, recipe)], []
        unlike = outputs.argmax(axis=1)
        problems = _of_another_form(answers, [r is None for r in rankings], chosen, unlike)
        return [*problems], [_NO_RANKING]
    assert isinstance(samples, TableSamples)
    expected, close = expected_values(outputs, meta, recipe)
    rows = [values_of(answer) for answer in answers]
    values = [row for row in rows if row is not None]
    if len(values) == len(answers):
        return [*_wrong_values(values, samples.target, chosen, expected, close)], []
    unlike = np.round(expected, recipe.postprocess.decimals)
    problems = _of_another_form(answers, [row is None for row in rows], chosen, unlike)
    return [*problems], [_NO_VALUES]


def _of_another_form(
    answers: Sequence[Any],
    strange: Sequence[bool],
    chosen: NDArray[np.int64],
    expected: NDArray[np.generic],
) -> Iterator[str]:
    """Say what is wrong with answers some of which are not as the shipped handlers make them."""
    first = strange.index(True)
    told = json.dumps(answers[first], ensure_ascii=False)[:_SHOWN]
    where = f"sample {chosen[first]} of the test split"
    if not all(strange):
        other = chosen[strange.index(False)]
        yield f"{where}: answered in another form than sample {other}: {told}"
    elif len(np.unique(expected)) > 1 and all(answer == answers[0] for answer in answers):
        yield f"all {len(answers)} samples get the same answer, and their outputs differ: {told}"


def _wrong_rankings(
    rankings: Sequence[Ranking],
    samples: Samples,
    chosen: NDArray[np.int64],
    outputs: NDArray[np.float64],
    recipe: Recipe,
) -> Iterator[str]:
    """Hold rankings against the softmax, under the names that the data set itself uses."""
    probabilities = softmax(outputs, axis=1)
    expected_count = min(recipe.postprocess.top_k, len(samples.labels))
    for ranking, index, row in zip(rankings, chosen, probabilities, strict=True):
        by_label = dict(zip(samples.labels, row.tolist(), strict=True))
        where = f"sample {index} of the test split"
        labels = [label for label, _ in ranking]
        if unknown := [label for label in labels if label not in by_label]:
            yield f"{where}: {unknown[0]!r} is no label of the data set"
            return
        if len(labels) != expected_count or len(set(labels)) != len(labels):
            yield f"{where}: {len(set(labels))} labels, not the best {expected_count}"
            return
        off = [abs(value - by_label[label]) for label, value in ranking]
        # Written so that NaN does not pass.
        if not np.max(off) <= _CLOSE:
            label, value = ranking[int(np.argmax(off))]
            yield (
                f"{where}: {label!r} has probability {value:.6f}, and the model's outputs say "
                f"{by_label[label]:.6f}: is the label map that of training?"
            )
            return
        best = sorted(by_label.values(), reverse=True)[:expected_count]
        ranked = [by_label[label] for label in labels]
        if not np.allclose(ranked, best, rtol=0, atol=_CLOSE):
            yield f"{where}: the labels are not the most probable ones in falling order: {labels}"
            return


def _ranking(answer: Any) -> Ranking | None:
    rankings = rankings_of(answer)
    return rankings[0] if rankings is not None and len(rankings) == 1 else None


def rankings_of(answer: Any) -> list[Ranking] | None:
    """Return the rankings of an answer, one for each sample; None when it has another form."""
    predictions = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(predictions, list) or not predictions:
        return None
    several = predictions if isinstance(predictions[0], list) else [predictions]
    rankings = [_ranked(one) for one in several]
    return None if None in rankings else [ranking for ranking in rankings if ranking]


def _ranked(predictions: Any) -> Ranking | None:
    try:
        return [(str(p["label"]), float(p["probability"])) for p in predictions]
    except (TypeError, KeyError, ValueError):
        return None


def _wrong_values(
    values: Sequence[Values],
    target: str,
    chosen: NDArray[np.int64],
    expected: Values,
    close: float,
) -> Iterator[str]:
    for given, index, value in zip(values, chosen, expected, strict=True):
        if len(given) != 1 or not abs(given[0] - value) <= close:
            yield (
                f"sample {index} of the test split: answered {given.tolist()}, and the model's "
                f"output says {value:.6g} {target}"
            )
            return


def expected_values(
    outputs: NDArray[np.float64], meta: Meta, recipe: Recipe
) -> tuple[Values, float]:
    """Return outputs in the units of the target, and how close answers must come."""
    spec = meta.spec
    assert isinstance(spec, TableSpec)
    close = _CLOSE * spec.target_std + 0.51 * 10.0**-recipe.postprocess.decimals
    return outputs[:, 0] * spec.target_std + spec.target_mean, close


def values_of(answer: Any) -> Values | None:
    """Return the values of an answer; None when it has another form."""
    predictions = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(predictions, list) or not all(
        isinstance(value, int | float) for value in predictions
    ):
        return None
    return np.array(predictions, dtype=np.float64)
