"""What is wrong with a model as a whole, whichever inputs it is compared on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from marwright.parity.verdict.case import Fault
from marwright.parity.verdict.judge import Judge
from marwright.parity.verdict.origin import origin_of_onnx, origin_of_traced
from marwright.parity.verdict.tolerance import Floats, rms
from marwright.recipe.errors import ParityError

# Outputs must vary over real inputs so many times as much as float32 errs; an export that
# ignores its input would otherwise agree.
POWER = 100.0


def checkpoint_faults(judge: Judge) -> Iterator[Fault]:
    """Find what makes any comparison worthless, as far as a judge has seen: outputs that hardly
    depend on the input, or on more than it, and declared shapes that the checkpoint does not take.
    """
    calibration = judge.calibrations["onnx"]
    # Written so that an output that never varies does not pass, however exact float32 is.
    if not calibration.signal > POWER * calibration.mean_noise:
        yield Fault(
            check="power",
            backend="checkpoint",
            text=f"the output hardly depends on the input: over real inputs it varies by "
            f"{calibration.signal:.1e} (root mean square), and float32 alone errs by "
            f"{calibration.mean_noise:.1e}; below {POWER:g} times that, to agree proves nothing",
        )
    if judge.random:
        yield Fault(
            check="invariance",
            backend="checkpoint",
            text="two runs on the same rows differ: the checkpoint draws at random, as dropout "
            "does that does not look at eval mode",
        )
    elif judge.padded:
        yield Fault(
            check="invariance",
            backend="checkpoint",
            text="a text's output depends on the padding behind it, so that its answer is another "
            "one beside longer texts: look for a mean or a maximum that has no mask",
        )
    elif judge.dependent:
        yield Fault(
            check="invariance",
            backend="checkpoint",
            text="a row's output depends on its neighbours in the batch, so no answer of the "
            "model is its own: look for statistics over the batch axis",
        )
    for what, error in judge.failing.items():
        if what.startswith("shapes"):
            text = f"{what}: fails to run: {error}"
            yield Fault(check="runs", backend="checkpoint", text=text)


def origin_faults(files: Mapping[str, Path], wanted: str) -> Iterator[Fault]:
    """Find files, by backend, that were made from other weights, however close their answers are.

    `wanted` is the SHA-256 of the checkpoint's weights; where it is empty nothing is asked.
    """
    for backend, path in files.items() if wanted else ():
        try:
            said = (origin_of_traced if backend == "torchscript" else origin_of_onnx)(path)
        except ParityError:
            # Its library cannot load it either, and that is told.
            continue
        if said != wanted:
            found = f"weights {said[:12]}…" if said else "weights that it does not name"
            text = f"made from {found}, not from this checkpoint's {wanted[:12]}…"
            yield Fault(check="origin", backend=backend, text=text)


def precision_faults(judge: Judge, outputs: Floats) -> Iterator[Fault]:
    """Find a traced module that should compute in bfloat16 and is as exact as float32, and so as
    large and as slow. `outputs` are those for the real rows.
    """
    usual = judge.calibrations["onnx"].usual
    error = rms(np.nan_to_num(outputs[usual] - judge.calibrated.reference[usual]))
    single, half = (judge.calibrations[name].mean_noise for name in ("onnx", "torchscript"))
    # Halfway between the two, in powers of ten.
    if error < (single * half) ** 0.5:
        text = f"errs by {error:.1e}, as float32 does ({single:.1e}), not bfloat16 ({half:.1e})"
        yield Fault(check="precision", backend="torchscript", text=text)
