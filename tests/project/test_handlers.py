"""What the handlers of this project make of outputs."""

from __future__ import annotations

import numpy as np
import pytest

from handlers.ink import centred, white_on_black
from marwright.runtime.service import Loaded
from marwright.runtime.spec import TextSpec
from tests.project.conftest import load

# Loading a handler imports torch.
pytestmark = pytest.mark.torch


def test_what_is_centred_stays_as_it_is() -> None:
    image = np.zeros((9, 7), dtype=np.uint8)
    image[2:7, 3] = 200
    once = centred(image)
    assert once.shape == (5, 5) and once[:, 2].tolist() == [200] * 5
    assert np.array_equal(centred(once), once)
    with pytest.raises(ValueError, match="the image is blank"):
        centred(np.full((4, 4), 20, dtype=np.uint8))


def test_only_ink_on_bright_paper_is_inverted() -> None:
    dark = np.zeros((5, 5), dtype=np.uint8)
    dark[2, 2] = 255
    assert np.array_equal(white_on_black(dark), dark)
    assert np.array_equal(white_on_black(255 - dark), dark)


def test_every_language_has_a_name() -> None:
    assert {*load("train/languages.py").LANGUAGES} == {*load("handlers/languages.py").NAMES}


@pytest.mark.parametrize(("least", "language"), [(0.5, "French"), (0.9, "unknown")])
def test_an_improbable_language_is_unknown(least: float, language: str) -> None:
    handler = load("handlers/languages.py")
    loaded = Loaded(
        model=abs, spec=TextSpec(max_bytes=8), labels=("de", "fr"), options={"least": least}
    )
    answer = handler.named(np.array([[0.0, 1.0]], dtype=np.float32), loaded)
    assert answer["language"] == language
    assert [one["name"] for one in answer["predictions"]] == ["French", "German"]
