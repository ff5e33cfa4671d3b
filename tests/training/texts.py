"""Texts that tests learn from: words of two alphabets, and a recipe for them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from marwright.recipe.types import Recipe
from marwright.training.samples import TextSamples

LABELS = ("greek", "latin")
_LETTERS = ("αβγδεζηθικ", "abcdefghij")


def text_samples(count: int = 80, seed: int = 0) -> TextSamples:
    """Texts of one to six words, each of one alphabet, and so labelled."""
    chance = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int64) % 2

    def word(target: int) -> str:
        return "".join(chance.choice([*_LETTERS[target]], size=int(chance.integers(1, 7))))

    texts = [
        " ".join(word(target) for _ in range(int(chance.integers(1, 7))))
        for target in targets.tolist()
    ]
    return TextSamples(texts=texts, targets=targets, labels=LABELS)


def text_recipe(
    *,
    factory: str = "text_cnn",
    params: dict[str, Any] | None = None,
    max_bytes: int = 40,
    export: dict[str, Any] | None = None,
    **fit: Any,
) -> Recipe:
    """A classification of texts; keyword arguments are `[fit]`."""
    sections = {
        "name": "tiny_text",
        "version": "1.0",
        "task": "classification",
        "data": {"dataset": "tiny"},
        "preprocess": {"kind": "text", "max_bytes": max_bytes},
        "model": {"factory": factory, "params": {"width": 4} | (params or {})},
        "fit": {"device": "cpu", "epochs": 3, "learning_rate": 2e-2} | fit,
        "export": export or {},
        "postprocess": {"top_k": 2},
        "serve": {"handler": "classify_text", "batch_size": 4},
    }
    return msgspec.convert(sections, Recipe)
