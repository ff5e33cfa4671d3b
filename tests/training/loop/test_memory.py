"""Memory that really ends: a process that may take no more of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.projects import ROOT

pytestmark = pytest.mark.torch

# The limit is what the process takes after one small step, and what a batch of 64 needs of it
# twice over: one of 512 does not fit, and a quarter of it does.
PROGRAM = """
import resource, sys
import torch
from torch import nn
from tests.training.conftest import image_recipe
from tests.training.test_fit import quiet
from marwright.training.fit import fit
from marwright.training.loop.batches import Tensors
from marwright.recipe.errors import TrainError

torch.set_num_threads(1)
wide = nn.Sequential(*(
    layer for _ in range(8) for layer in (nn.Conv2d(1 if not _ else 8, 8, 3, padding=1), nn.ReLU())
), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
images = torch.rand(512, 1, 64, 64)
split = Tensors(images, torch.arange(512) % 2)
small = Tensors(images[:8], torch.arange(8) % 2)
# Everything that is loaded or kept for later is there before the limit is.
fit(wide, small, small, image_recipe(epochs=1, batch_size=8), quiet)
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
one = 64 * 64 * 8 * 4 * 16
resource.setrlimit(resource.RLIMIT_AS, (now + 200 * one, resource.RLIM_INFINITY))
recipe = image_recipe(epochs=1, batch_size=512, out_of_memory=sys.argv[1])
try:
    fitted = fit(wide, split, small, recipe, quiet)
except TrainError as error:
    print("stopped:", error)
else:
    print("\\n".join(fitted.events))
"""


def said(choice: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, choice], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_batch_that_does_not_fit_is_told() -> None:
    text = said("stop")
    assert text.startswith("stopped: out of memory with 512 samples at a time (peak ")
    assert "set [fit] accumulate = 2, or out_of_memory" in text


def test_a_batch_that_does_not_fit_goes_through_in_parts() -> None:
    first, *others = said("halve").splitlines()
    assert first.startswith("out of memory with 512 samples at a time (peak ")
    assert (others or [first])[-1].endswith("parts from then on")
