"""TorchServe's configuration files: read the repository's, write the one that a server runs on."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path

from marwright.recipe.errors import ServeError


def read_settings(path: Path) -> dict[str, str]:
    """Read the keys and values of a `config.properties`.

    Understands what TorchServe's own launcher does: one `key=value` a line and `#` comments.
    Raises `ServeError` for a file that is missing, or a line or a repetition that the launcher
    and the server would each read in another way.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ServeError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ServeError(f"{path}: byte {error.start} is not UTF-8: save it as UTF-8") from None
    if lines and lines[0].encode().startswith(codecs.BOM_UTF8):
        raise ServeError(
            f"{path}:1: begins with a byte order mark, which Java takes for a key: save it without"
        )
    settings: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not key or text.endswith("\\"):
            raise ServeError(f"{path}:{number}: {text!r}: write it as key=value, on one line")
        if key in settings:
            raise ServeError(f"{path}:{number}: {key} is there twice; keep one")
        settings[key] = value
    return settings


def write_settings(path: Path, settings: Mapping[str, str]) -> None:
    """Write a configuration that Java reads back as given, whatever characters are in it."""
    lines = ["# Written at each start from the repository's config.properties: change that one."]
    lines += [f"{key}={_escaped(value)}" for key, value in sorted(settings.items())]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _escaped(value: str) -> str:
    # Java reads the file as Latin-1 and takes a backslash for an escape.
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < 0x7F else f"\\u{code:04x}" for code in codes)
