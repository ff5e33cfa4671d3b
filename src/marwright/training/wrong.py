"""The test samples that a model does worst on, as a person would look at them."""

from __future__ import annotations

import base64
import io

import torch

from marwright.runtime.preprocess import upright
from marwright.runtime.spec import PreprocessSpec, TableSpec
from marwright.training.metrics import Evaluation
from marwright.training.record import Wrong
from marwright.training.samples import ImageSamples, Samples, TableSamples, TextSamples
from marwright.training.types import Splits

COUNT = 24
# Characters of a text that are shown.
_LONGEST = 500
# Pixels of a picture's longer side.
_SIDE = 112


def most_wrong(tested: Evaluation, splits: Splits, spec: PreprocessSpec) -> list[Wrong]:
    """Return the samples with the largest losses, the worst first.

    Of a classifier only those whose label is not the answer.
    """
    losses, samples = tested.losses, splits.samples
    if samples.labels:
        losses = losses.masked_fill(tested.outputs.argmax(dim=1) == tested.targets, -1.0)
    order = torch.argsort(losses, descending=True, stable=True)[:COUNT]
    return [
        _shown(tested, place, int(splits.test[place]), samples, spec)
        for place in order.tolist()
        if losses[place] >= 0
    ]


def _shown(
    tested: Evaluation, place: int, index: int, samples: Samples, spec: PreprocessSpec
) -> Wrong:
    outputs, target = tested.outputs[place].double(), tested.targets[place]
    probability = difference = None
    if samples.labels:
        shares = torch.softmax(outputs, dim=0)
        answered = int(shares.argmax())
        truth, answer = samples.labels[int(target)], samples.labels[answered]
        probability = round(float(shares[answered]), 4)
    else:
        assert isinstance(spec, TableSpec)
        truth, answer = (
            f"{float(value) * spec.target_std + spec.target_mean:.6g}"
            for value in (target[0], outputs[0])
        )
        # Not of those: what they have been rounded to may be the same.
        difference = float(outputs[0] - target[0].double()) * spec.target_std
    return Wrong(
        name=samples.name(index),
        loss=round(float(tested.losses[place]), 6),
        truth=truth,
        answer=answer,
        probability=probability,
        difference=difference,
        picture=_picture(samples, index) if isinstance(samples, ImageSamples) else "",
        text=_shortened(samples.texts[index]) if isinstance(samples, TextSamples) else "",
        row=samples.row(index) if isinstance(samples, TableSamples) else {},
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _picture(samples: ImageSamples, index: int) -> str:
    """Return a PNG in base64; what is small stays as it is, for the page to enlarge."""
    image = upright(samples.image(index), 3)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
