"""Write the JSON Schema of `parity.json`: `python -m marwright.parity.schema`,
in the checkout."""

from __future__ import annotations

from pathlib import Path

import msgspec

from marwright.files import write_bytes
from marwright.parity.types import ParityReport

SCHEMA = Path("docs/reference/parity.schema.json")


def schema() -> bytes:
    """Return the schema, indented and with a final newline."""
    described = msgspec.json.schema(ParityReport)
    encoded = msgspec.json.encode(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}
    )
    return msgspec.json.format(encoded, indent=2) + b"\n"


if __name__ == "__main__":
    write_bytes(SCHEMA, schema())
