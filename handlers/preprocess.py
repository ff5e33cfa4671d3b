"""From raw inputs to tensors: the one implementation that training and serving share.

Training's evaluation transform calls `image_tensor` and `table_tensor` on its samples; a
handler calls `read_image` and `read_table` on request bodies, which end in the same two.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from handlers.request import BadRequest
from handlers.spec import MAX_PIXELS, MAX_ROWS, ImageSpec, TableSpec

# What a person may send. Pillow knows many more formats; each is code that a stranger's bytes
# could reach.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_FEW_PIXELS = f"at most {MAX_PIXELS} are accepted"

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# What turns an image upright that was stored in this orientation (Exif 2.3, section 4.6.4).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_JSON_NAMES = {list: "a list", dict: "an object", bool: "true or false", type(None): "null"}


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
            raise BadRequest(f"the image has {width}×{height} pixels; {_FEW_PIXELS}", 413)
        image.load()
    except UnidentifiedImageError:
        raise BadRequest(f"not an image of a known format ({', '.join(IMAGE_FORMATS)})") from None
    # Pillow has a limit of its own, above ours; where warnings are errors, it has two.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadRequest(f"the image has too many pixels; {_FEW_PIXELS}", 413) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadRequest(f"the image cannot be decoded: {error}") from None
    return image_tensor(image, spec)[None]


def image_tensor(image: Image.Image, spec: ImageSpec) -> torch.Tensor:
    """Turn an image into a normalised float32 tensor `(C, H, W)`."""
    image = _as_channels(_upright(image), spec.channels)
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


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image by its EXIF orientation; damaged EXIF says nothing, as in any viewer.

    Not `ImageOps.exif_transpose`, which fails on damaged EXIF, and on some that it cannot rewrite.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, LookupError, OSError, struct.error):
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _as_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Sixteen bits a pixel: Pillow's own conversion clips at 255 instead of scaling.
        image = Image.fromarray(np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8))
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
    tensor = table_tensor(np.array(values, dtype=np.float64), spec)
    if len(infinite := torch.nonzero(~torch.isfinite(tensor))):
        number, column = infinite[0].tolist()
        raise BadRequest(f"row {number}, column {spec.columns[column]}: the number is too large")
    return tensor


def table_tensor(rows: np.ndarray, spec: TableSpec) -> torch.Tensor:
    """Standardise float64 rows `(N, F)`; returns float32 `(N, F)`, infinite where it overflows."""
    mean, std = np.array(spec.mean), np.array(spec.std)
    with np.errstate(over="ignore"):
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
        unknown = [str(c)[:40] for c in row if c not in columns]
        if missing or unknown:
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"unknown {', '.join(unknown[:5])}"] if unknown else []
            raise BadRequest(f"row {number}: {'; '.join(parts)}; columns: {', '.join(columns)}")
        row = [row[c] for c in columns]
    if not isinstance(row, list) or len(row) != len(columns):
        got = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
        raise BadRequest(f"row {number}: expected {len(columns)} numbers, got {got}")
    return [_number(v, number, c) for v, c in zip(row, columns, strict=True)]


def _number(value: Any, row: int, column: str) -> float:
    where = f"row {row}, column {column}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest(f"{where}: expected a number, got {_named(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadRequest(f"{where}: the number is not finite")
    return number


def _named(value: object) -> str:
    """Say what stands where a number belongs, however large or deep it is."""
    if isinstance(value, str):
        return json.dumps(value[:40])
    return _JSON_NAMES.get(type(value), type(value).__name__)
