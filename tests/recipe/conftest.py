"""A house to put recipes in: the shipped models, data sets and handlers, and no recipe yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.recipe.errors import RecipeError
from marwright.recipe.load import load_recipe
from marwright.recipe.types import Recipe

IMAGE = """\
version = "1.0"
task = "classification"
description = "Handwritten digits"

[data]
dataset = "digits"
test = 0.2

[preprocess]
kind = "image"
channels = 1
height = 8
width = 8
fit = "stretch"
mean = [0.5]

[model]
factory = "small_cnn"
params = { width = 4, dropout = 0.1 }

[fit]
epochs = 2
learning_rate = 1e-3

[export]
opset = 20

[parity]
floor = 1e-7

[postprocess]
top_k = 3

[serve]
handler = "classify_image"
"""


class House:
    """A project folder of which only what recipes name is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipes = folder / "archive"
        self.recipes.mkdir(parents=True)
        for room in ("handlers", "train"):
            (folder / room).mkdir()

    def load(self, text: str | bytes, name: str = "tiny") -> Recipe:
        path = self.recipes / f"{name}.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_recipe(path)

    def refusal(self, text: str | bytes, name: str = "tiny") -> str:
        """Return what is said of a recipe that is refused, less the file's name before it."""
        with pytest.raises(RecipeError) as caught:
            self.load(text, name)
        message = str(caught.value)
        assert message.startswith(f"archive/{name}.toml: "), message
        assert "\n" not in message
        return message.removeprefix(f"archive/{name}.toml: ")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


def edited(text: str, old: str, new: str) -> str:
    """Replace a piece of a recipe; it must be there."""
    assert old in text, old
    return text.replace(old, new, 1)
