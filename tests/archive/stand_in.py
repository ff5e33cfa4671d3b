"""A program in the probe's place: it finds what a test wants to be found, and needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from marwright.archive import probe

_PROGRAM = """
import json, os, struct, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
spec = spec_from_file_location("real_probe", {real!r})
probe = module_from_spec(spec)
sys.modules["real_probe"] = probe
spec.loader.exec_module(probe)
SAID = json.loads({said!r})
folder = Path(sys.argv[3])

def tensor(kind, count=1):
    data = (folder / "MAR-INF/golden/tensors.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + size])[kind + ".0"]
    start, end = (at + 8 + size for at in entry["data_offsets"])
    shape = [entry["shape"][0] * count, *entry["shape"][1:]]
    return {{"dtype": "float32", "shape": shape, "blobs": [data[start:end] * count]}}

class StandIn(probe.Answers):
    def open(self, blobs, name):
        return {{}}
    def load(self, blobs, model, below=""):
{code}
        return SAID
    def outside(self, blobs, below=""):
        return {{}}
    def read(self, blobs):
        return tensor("input")
    def run(self, blobs, dtype, shape):
        return tensor("output")
    def together(self, blobs):
        return tensor("output", len(blobs))
    def answer(self, blobs, dtype, shape):
        return {{"answer": "right"}}
    def ask(self, blobs, types):
        junk = [body == b"\\xff this is no request" for body in blobs]
        return {{"statuses": [400 if no else 200 for no in junk],
                "blobs": [b"no" if no else b'"right"' for no in junk]}}

streams = os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb")
probe.Answers = StandIn
probe.serve(*streams, folder)
"""


def saying(code: str = "pass", **said: Any) -> str:
    """Return a program that finds an archive healthy, but for what it says of its handler.

    It runs `code` in place of the handler.
    """
    lines = "\n".join(f"        {line}" for line in code.splitlines())
    return _PROGRAM.format(real=probe.__file__, said=json.dumps(said), code=lines)


def put(folder: Path, program: str) -> Path:
    """Write a program; returns its path."""
    path = folder / "stand_in.py"
    path.write_text(program)
    return path
