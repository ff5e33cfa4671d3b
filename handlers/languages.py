"""TorchServe handler: a text in, the language that it is in out, by its name, or "unknown".

Answer: `{"language":"French","predictions":[{"label":"fr","name":"French","probability":0.99},…]}`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marwright.runtime.ranked import ranked
from marwright.runtime.read import read_text
from marwright.runtime.service import Loaded, Service

NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "fi": "Finnish", "fr": "French", "hi": "Hindi",
    "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean",
    "nb": "Norwegian", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sk": "Slovak", "sv": "Swedish", "tr": "Turkish", "uk": "Ukrainian",
    "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
UNKNOWN = "unknown"


def named(logits: NDArray[np.float32], loaded: Loaded) -> dict[str, object]:
    """Rank the languages of one text `(1, labels)`; one less probable than `least` is unknown."""
    best = ranked(logits[0], loaded)
    predictions = [{"name": NAMES[str(one["label"])], **one} for one in best]
    is_known = float(str(best[0]["probability"])) >= float(loaded.options["least"])
    language = predictions[0]["name"] if is_known else UNKNOWN
    return {"language": language, "predictions": predictions}


service = Service(read=read_text, answer=named)
handle = service.handle
