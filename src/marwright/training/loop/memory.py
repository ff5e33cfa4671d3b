"""Out of memory: recognised, told with what helps, or met with smaller parts of a batch."""

from __future__ import annotations

import resource
import sys

import torch

_GIB = 1 << 30
# What torch says on a CPU, where it has no class of its own for it: of its allocator, of oneDNN,
# and of the C++ library.
_SAID = ("can't allocate memory", "could not create a memory object", "std::bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there was not enough memory."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)
    )


def peak(device: torch.device) -> str:
    """Return the most memory that was in use so far, of the device or of this process."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / _GIB:.1f} GiB of GPU memory"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bytes_ = most if sys.platform == "darwin" else most * 1024
    return f"{bytes_ / _GIB:.1f} GiB"


def release(device: torch.device) -> None:
    """Give back what the allocator holds for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
