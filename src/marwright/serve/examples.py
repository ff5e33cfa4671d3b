"""A request that can be copied: a model's first golden sample and the curl line that sends it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import msgspec

from marwright.archive.container.open import open_archive
from marwright.archive.types import GOLDEN_INDEX, GoldenIndex
from marwright.recipe.errors import VerifyError
from marwright.serve.stored import StoredModel

SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "application/json": ".json",
    "text/plain; charset=utf-8": ".txt",
}
# Characters of a JSON body that still belong on a command line.
INLINE = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A request body on disk, and its media type."""

    path: Path
    content_type: str


def write_example(model: StoredModel, folder: Path) -> Example | None:
    """Write the archive's first golden request to `folder`, or return None where it has none."""
    try:
        with open_archive(model.path) as archive:
            index = msgspec.json.decode(archive.read(GOLDEN_INDEX), type=GoldenIndex)
            sample = index.samples[0]
            body = archive.read(sample.request)
    except (OSError, VerifyError, LookupError, msgspec.MsgspecError):
        return None
    path = folder / f"{model.name}{SUFFIXES.get(sample.content_type, '.bin')}"
    path.write_bytes(body)
    return Example(path=path, content_type=sample.content_type)


def curl_line(model: str, url: str, token: str | None, example: Example | None, cwd: Path) -> str:
    """Return a POSIX shell command, for the folder `cwd`, that sends the example to the model."""
    words = ["curl"]
    if token is not None:
        words += ["-H", f"Authorization: Bearer {token}"]
    if example is None:
        words += ["--data-binary", "@FILE"]
    else:
        words += ["-H", f"Content-Type: {example.content_type}", *_body(example, cwd)]
    return shlex.join([*words, f"{url}/predictions/{model}"])


def _body(example: Example, cwd: Path) -> list[str]:
    if example.content_type == "application/json":
        text = example.path.read_text(encoding="utf-8", errors="replace").strip()
        # A leading @ would make curl read a file.
        if len(text) <= INLINE and text.isprintable() and text[:1] in "[{":
            return ["-d", text]
    path = example.path
    if path.is_relative_to(cwd):
        path = path.relative_to(cwd)
    return ["--data-binary", f"@{path}"]
