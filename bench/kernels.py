"""Which kernels the libraries compute with: `python -m bench.kernels`, a JSON object by library.

oneDNN and MKL tell it only in what they print when they are told to be verbose, so a process of
its own works a little, and what it printed is read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping

# What has no variable to choose its kernels by, or none that is documented.
FIXED = ("onnxruntime (MLAS)", "FBGEMM", "NNPACK", "glibc's libm", "Pillow")

_WORK = """
import json, numpy, threadpoolctl, torch
torch.nn.Conv2d(16, 32, 3)(torch.zeros(8, 16, 32, 32))
torch.zeros(64, 64) @ torch.zeros(64, 64)
pools = threadpoolctl.threadpool_info()
features = numpy._core._multiarray_umath.__cpu_features__
print("kernels", json.dumps({
    "torch": torch.backends.cpu.get_cpu_capability(),
    "OpenBLAS": " ".join(p["architecture"] for p in pools if p["internal_api"] == "openblas"),
    "numpy": max((f for f in ("X86_V2", "X86_V3", "X86_V4") if features.get(f)), default=""),
}))
"""


def kernels(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what each library that can be asked computes with in this environment."""
    done = subprocess.run(
        [sys.executable, "-c", _WORK],
        env={**os.environ, **environment, "ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(re.search(r"^kernels (.*)$", done.stdout, re.M)[1])  # type: ignore[index]
    for library, said in (
        ("oneDNN", r"^onednn_verbose,.*,cpu,isa:(.*)$"),
        ("MKL", r"^MKL_VERBOSE oneMKL.*architecture (.*) enabled processors"),
    ):
        match = re.search(said, done.stdout, re.M)
        found[library] = match[1] if match else ""
    return found


if __name__ == "__main__":
    print(json.dumps(kernels({}), indent=2))
