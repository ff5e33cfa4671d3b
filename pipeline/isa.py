"""Compute as another x86-64 processor would: `MARWRIGHT_ISA=avx2`.

Libraries choose kernels by what the processor can do, and other kernels round otherwise. Each has
a variable of its own that keeps it from using newer instructions.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from dataclasses import dataclass

from recipes.errors import MarwrightError

VARIABLE = "MARWRIGHT_ISA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """An instruction set: the processor flags that it needs, and what selects it."""

    flags: frozenset[str]
    environment: dict[str, str]


def _level(flags: str, torch: str, onednn: str, mkl: str, openblas: str, numpy: str) -> Level:
    return Level(
        flags=frozenset(flags.split()),
        environment={
            "ATEN_CPU_CAPABILITY": torch,
            "ONEDNN_MAX_CPU_ISA": onednn,
            "MKL_ENABLE_INSTRUCTIONS": mkl,
            "OPENBLAS_CORETYPE": openblas,
            "NPY_DISABLE_CPU_FEATURES": numpy,
        },
    )


# numpy wants each group of features by its name, and ignores those that the processor lacks.
_NUMPY_512 = "X86_V4 AVX512_ICL AVX512_SPR"
LEVELS = {
    "default": _level("sse4_2", "default", "SSE41", "SSE4_2", "Nehalem", f"X86_V3 {_NUMPY_512}"),
    "avx2": _level("avx2 fma", "avx2", "AVX2", "AVX2", "Haswell", _NUMPY_512),
    # Without VNNI, BF16, FP16 and AMX, which newer processors add one by one.
    "avx512": _level(
        "avx512f avx512bw avx512vl avx512dq", "avx512", "AVX512_CORE", "AVX512", "SkylakeX",
        "AVX512_ICL AVX512_SPR",
    ),
}  # fmt: skip


def level_asked_for() -> str:
    """Return the level that the environment asks for, "" without one. Raises `MarwrightError`."""
    name = os.environ.get(VARIABLE, "")
    if name and name not in LEVELS:
        raise MarwrightError(f"{VARIABLE}={name}: no such level; there are {', '.join(LEVELS)}")
    return name


def level_environment() -> dict[str, str]:
    """Return the variables that select the level asked for; none without one."""
    if not (name := level_asked_for()):
        return {}
    # What inductor compiled at one level, it would take for another, and not be able to build.
    cache = f"{tempfile.gettempdir()}/torchinductor_{getpass.getuser()}_{name}"
    return {**LEVELS[name].environment, "TORCHINDUCTOR_CACHE_DIR": cache}
