"""What decoding costs is counted first: dear images are refused, ordinary ones are not."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from bench import bombs
from marwright.runtime.images import budget
from marwright.runtime.images.decode import open_image
from marwright.runtime.request import BadRequest
from tests.runtime.images import encoded, noise

pytestmark = pytest.mark.torch

ZEROS = zlib.compress(bytes(60 << 20), 9)


def refused(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        open_image(body)
    return caught.value


@pytest.fixture(autouse=True)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no image be decoded in a test of what is refused before."""
    if "refused" in request.node.name:
        from PIL import ImageFile

        def load(*_: object) -> None:
            raise AssertionError("decoded")

        monkeypatch.setattr(ImageFile.ImageFile, "load", load)


REFUSED = {
    "a JPEG of 30,000 scans": lambda: bombs.jpeg_of_scans(1000, 1000, 30_000),
    "a small one of as many": lambda: bombs.jpeg_of_scans(16, 16, 30_000),
    "a large one of 100 scans": lambda: bombs.jpeg_of_scans(4000, 4000, 100),
    "a PNG of 4 × 16 bits": lambda: bombs.png(5000, 5000, 16, 6),
    "a PNG whose key is of 16 bits": lambda: bombs.png(
        5000, 5000, 16, 2, before=bombs.chunk(b"tRNS", bytes(6))
    ),
    "a PNG of a million chunks": lambda: bombs.png(
        8, 8, 8, 2, before=bombs.chunk(b"tEXt", b"") * 800_000
    ),
    "a PNG of a long side": lambda: bombs.png(70_000, 1, 8, 2),
    "a GIF of millions of blocks": lambda: bombs.gif_of_blocks(5_200_000),
    "a BMP of millions of runs": lambda: bombs.bmp_of_runs(2000, 2000, 4_000_000),
    "a JPEG of 100,000 segments": lambda: bombs.jpeg_of_segments(b"\xe1", 100_000, 80),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_costs_too_much_is_refused_before_it_is_decoded(name: str) -> None:
    body = REFUSED[name]()
    assert len(body) <= bombs.MOST_BYTES
    started = time.process_time()
    bad = refused(body)
    assert time.process_time() - started < 1.0
    assert bad.status == 413


@pytest.mark.parametrize("kind", [b"\xdb", b"\xc4"])
def test_megabytes_of_tables_are_refused_before_they_are_decoded(kind: bytes) -> None:
    assert "tables are too many" in str(refused(bombs.jpeg_of_segments(kind, 40_000, 59)))


READ = {
    "a photograph of 12 megapixels": lambda: encoded(
        bombs.noise(4000, 3000, 3, 4), "JPEG", quality=85
    ),
    "a progressive one": lambda: encoded(
        bombs.noise(4000, 3000, 3, 4), "JPEG", quality=85, progressive=True
    ),
    "one of 24 megapixels": lambda: encoded(
        bombs.noise(6000, 4000, 3, 8), "JPEG", quality=75, progressive=True
    ),
    "a PNG of 20 megapixels": lambda: bombs.png(5000, 4000, 8, 2),
    "a transparent one of 12": lambda: bombs.png(4000, 3000, 8, 6),
    "one of 16 bits of 5": lambda: bombs.png(2500, 2000, 16, 6),
    "a WebP of 12 megapixels": lambda: encoded(
        bombs.noise(4000, 3000, 3, 16), "WEBP", quality=50, method=0
    ),
    "an animated GIF": lambda: encoded(
        noise(60, 60).convert("P"), "GIF", save_all=True, append_images=[noise(60, 60, 1)] * 3
    ),
}


@pytest.mark.parametrize("name", READ)
def test_what_a_person_sends_is_read(name: str) -> None:
    body = READ[name]()
    assert len(body) <= bombs.MOST_BYTES
    with Image.open(io.BytesIO(body)) as image:
        assert open_image(body).size == image.size


PASSED_OVER = {
    "EXIF in 40,000 parts": lambda: bombs.jpeg_of_segments(b"\xe1", 40_000, 240),
    "tags that claim the same bytes": lambda: encoded(
        Image.new("RGB", (8, 8)), "JPEG", exif=bombs.exif_of_tags(3_000, 29_000)
    ),
    "in a PNG": lambda: bombs.png(
        8, 8, 8, 2, before=bombs.chunk(b"eXIf", bombs.exif_of_tags(65_000, 8 << 20)[6:])
    ),
    "profiles that unpack": lambda: bombs.png(
        8, 8, 8, 2, before=bombs.chunk(b"iCCP", b"n\0\0" + ZEROS) * 60
    ),
    "texts that unpack": lambda: bombs.png(
        8, 8, 8, 2, before=bombs.chunk(b"zTXt", b"k\0\0" + ZEROS) * 60
    ),
    "data behind the pixels": lambda: (
        bombs.png(8, 8, 8, 2)[:-12] + bombs.chunk(b"IDAT", ZEROS) * 60 + bombs.chunk(b"IEND", b"")
    ),
    "a comment of 40,000 blocks": lambda: bombs.gif_of_blocks(40_000),
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_makes_no_pixels_costs_nothing(name: str) -> None:
    body = PASSED_OVER[name]()
    started = time.process_time()
    tracemalloc.start()
    try:
        assert max(open_image(body).size) <= 16
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(body) + (8 << 20)
    assert time.process_time() - started < 2.0


def test_a_progressive_jpeg_of_the_usual_scans_keeps_its_pixels() -> None:
    image = noise(40, 40)
    plain = encoded(image, "JPEG", quality=90)
    progressive = encoded(image, "JPEG", quality=90, progressive=True)
    assert np.array_equal(np.array(open_image(plain)), np.array(open_image(progressive)))


def test_the_seeded_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the count the same image is decoded, and takes its time."""
    body = bombs.jpeg_of_scans(1000, 1000, 450)
    monkeypatch.setattr(budget, "MAX_WORK", 1_000)
    assert refused(body).status == 413
    monkeypatch.setattr(budget, "MAX_WORK", 1e12)
    assert open_image(body).size == (1000, 1000)


def test_a_size_that_a_header_claims_is_looked_at_first() -> None:
    extended = struct.pack("<IHBHB", 0, 0xFFFE, 0, 0xFFFE, 0)
    body = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + extended
    assert refused(body + bytes(40)).status == 413
