"""TorchServe handler of one class, as its manual has them: a photographed digit in, labels out.

Dark ink on paper is inverted; what is not ink is cut away, as it is in training. A picture without
ink is answered 422. Answer: `{"predictions":[{"label":"7","probability":0.9981},…]}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from handlers.ink import centred, white_on_black
from marwright.runtime.images.decode import open_image
from marwright.runtime.preprocess import image_array, upright
from marwright.runtime.ranked import ranked
from marwright.runtime.request import BadRequest, body_of, json_answer, json_error
from marwright.runtime.service import Loaded, load
from marwright.runtime.spec import ImageSpec


class DigitsHandler:
    """Four methods; what one request does wrong is its own answer, and nobody else's."""

    def initialize(self, context: Any) -> None:
        """Load the model and what belongs to it."""
        self.loaded: Loaded = load(context)

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch of requests, each with its own status."""
        headers = [context.get_all_request_header(place) for place in range(len(data))]
        inputs, refused = self.preprocess(data, headers)
        outputs = self.inference(inputs) if len(inputs) else torch.empty(0)
        answers = iter(self.postprocess(outputs))
        replies = []
        for place in range(len(data)):
            context.set_response_content_type(place, "application/json")
            if (bad := refused.get(place)) is not None:
                context.set_response_status(bad.status, "Refused", place)
            replies.append(next(answers) if bad is None else json_error(bad.status, str(bad)))
        return replies

    def preprocess(
        self, data: Sequence[Mapping[str, Any]], headers: Sequence[Mapping[str, Any]]
    ) -> tuple[torch.Tensor, dict[int, BadRequest]]:
        """Return the images that can be read `(n, 1, H, W)`, and why the others cannot."""
        images: list[NDArray[np.float32]] = []
        refused: dict[int, BadRequest] = {}
        for place, fields in enumerate(data):
            try:
                images.append(self._read(body_of(fields, headers[place])))
            except BadRequest as bad:
                refused[place] = bad
        return torch.from_numpy(np.stack(images)) if images else torch.empty(0), refused

    def inference(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits `(n, 10)`."""
        with torch.inference_mode():
            return self.loaded.model(inputs.to(self.loaded.device)).float().cpu()

    def postprocess(self, outputs: torch.Tensor) -> list[bytes]:
        """Rank the labels of each image."""
        return [json_answer({"predictions": ranked(row, self.loaded)}) for row in outputs.numpy()]

    def _read(self, body: object) -> NDArray[np.float32]:
        if not isinstance(body, (bytes, bytearray)) or not body:
            raise BadRequest("send the image's bytes as the body; it is empty, or no image")
        spec = self.loaded.spec
        assert isinstance(spec, ImageSpec)
        grey = np.asarray(upright(open_image(bytes(body)), 1))
        try:
            digit = centred(white_on_black(grey))
        except ValueError as error:
            raise BadRequest(str(error), 422) from None
        return image_array(Image.fromarray(digit), spec)
