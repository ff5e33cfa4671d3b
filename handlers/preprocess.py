"""From raw inputs to tensors: the one implementation that training and serving share.

Training's evaluation transform calls `image_tensor` and `table_tensor` on its samples; a
handler calls `read_image` and `read_table` on request bodies, which end in the same two.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from handlers.request import BadRequest
from handlers.spec import MAX_PIXELS, MAX_ROWS, ImageSpec, TableSpec

# What a person may send. Pillow knows many more formats; each is code that a stranger's bytes
# could reach.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def read_image(body: object, spec: ImageSpec) -> torch.Tensor:
    """Decode a request's image bytes; returns float32 `(1, C, H, W)`.

    Raises `BadRequest` for anything that is not a readable image within `MAX_PIXELS`.
    """
    if not isinstance(body, (bytes, bytearray)):
        raise BadRequest("send the image's bytes as the body or as a form field")
    if not body:
        raise BadRequest("the request is empty: send the image's bytes")
    try:
        image = Image.open(io.BytesIO(body), formats=IMAGE_FORMATS)
        width, height = image.size
        # Before decoding: a file of kilobytes can unpack to gigabytes.
        if width * height > MAX_PIXELS:
            raise BadRequest(
                f"the image has {width}×{height} pixels; at most {MAX_PIXELS} are accepted", 413
            )
        image.load()
    except UnidentifiedImageError:
        raise BadRequest(f"not an image of a known format ({', '.join(IMAGE_FORMATS)})") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BadRequest(f"the image cannot be decoded: {error}") from None
    return image_tensor(image, spec)[None]


def image_tensor(image: Image.Image, spec: ImageSpec) -> torch.Tensor:
    """Turn an image into a normalised float32 tensor `(C, H, W)`."""
    image = _as_channels(ImageOps.exif_transpose(image), spec.channels)
    if image.size != (spec.width, spec.height):
        resampling = _RESAMPLING[spec.interpolation]
        size = (spec.width, spec.height)
        if spec.fit == "crop":
            image = ImageOps.fit(image, size, resampling)
        else:
            image = image.resize(size, resampling)
    # A copy, because torch wants memory that it may write to.
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).reshape(
        spec.height, spec.width, spec.channels
    )
    scaled = pixels.permute(2, 0, 1) / 255.0
    mean = torch.tensor(spec.mean, dtype=torch.float32)[:, None, None]
    std = torch.tensor(spec.std, dtype=torch.float32)[:, None, None]
    return ((scaled - mean) / std).contiguous()


def _as_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Sixteen bits a pixel: Pillow's own conversion clips at 255 instead of scaling.
        high = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        image = Image.fromarray(high)
    if "A" in image.getbands() or "transparency" in image.info:
        # What is transparent shows the page behind it, and pages are white.
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("L" if channels == 1 else "RGB")


def read_table(body: object, spec: TableSpec) -> torch.Tensor:
    """Read a request's rows; returns standardised float32 `(N, len(columns))`.

    `body` is JSON, decoded or not: an object of columns, a list of numbers in the order of the
    columns, or a list of such rows. Raises `BadRequest` naming the row and the column.
    """
    if isinstance(body, (bytes, bytearray, str)):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON: {error}") from None
    rows = _as_rows(body)
    if not rows:
        raise BadRequest("no rows: send an object of columns, or a list of them")
    if len(rows) > MAX_ROWS:
        raise BadRequest(f"{len(rows)} rows in one request; at most {MAX_ROWS} are accepted", 413)
    values = [_row_values(row, spec.columns, number) for number, row in enumerate(rows)]
    return table_tensor(np.array(values, dtype=np.float64), spec)


def table_tensor(rows: np.ndarray, spec: TableSpec) -> torch.Tensor:
    """Standardise float64 rows `(N, F)`; returns float32 `(N, F)`."""
    mean, std = np.array(spec.mean), np.array(spec.std)
    return torch.from_numpy(((rows - mean) / std).astype(np.float32))


def _as_rows(body: object) -> Sequence[object]:
    if isinstance(body, Mapping):
        return [body]
    if not isinstance(body, list):
        raise BadRequest("send a JSON object of columns, or a list of rows")
    if body and not isinstance(body[0], (Mapping, list)):
        return [body]
    return body


def _row_values(row: object, columns: tuple[str, ...], number: int) -> list[float]:
    if isinstance(row, Mapping):
        missing = [c for c in columns if c not in row]
        unknown = [str(c)[:80] for c in row if c not in columns]
        if missing or unknown:
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"unknown {', '.join(unknown)}"] if unknown else []
            raise BadRequest(f"row {number}: {'; '.join(parts)}; columns: {', '.join(columns)}")
        row = [row[c] for c in columns]
    if not isinstance(row, list) or len(row) != len(columns):
        got = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
        raise BadRequest(f"row {number}: expected {len(columns)} numbers, got {got}")
    return [_number(v, number, c) for v, c in zip(row, columns, strict=True)]


def _number(value: Any, row: int, column: str) -> float:
    where = f"row {row}, column {column}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest(f"{where}: expected a number, got {json.dumps(value)[:80]}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    # Float32 is what the model computes in: what overflows there is infinite to it.
    if not math.isfinite(number) or abs(number) > np.finfo(np.float32).max:
        raise BadRequest(f"{where}: the number is not finite")
    return number
