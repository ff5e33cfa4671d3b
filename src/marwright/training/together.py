"""Several processes that train one network, as torchrun starts them: gloo on CPUs, nccl on GPUs.

Without a group of processes, all of this is about one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from marwright.recipe.errors import TrainError

T = TypeVar("T")


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, for as long as the block lasts."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield
    # After an error it could wait for the others for ever; torchrun ends those.
    dist.destroy_process_group()


def size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this is; the first is 0, and it alone selects, tells and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first_here() -> bool:
    """Return whether it is the first on its machine, which writes what there is to write."""
    return not dist.is_initialized() or _local_rank() == 0


@contextmanager
def one_before_others() -> Iterator[None]:
    """Let the first of each machine pass the block alone, so that it alone fills caches."""
    if size() > 1 and not is_first_here():
        dist.barrier()
    yield
    if size() > 1 and is_first_here():
        dist.barrier()


def own_gpu(device: torch.device) -> torch.device:
    """Return this process's own GPU, where there are several. Raises `TrainError` without one."""
    if device.type != "cuda" or not dist.is_torchelastic_launched():
        return device
    if _local_rank() >= torch.cuda.device_count():
        raise TrainError(
            f"[fit] processes: each takes a GPU of its own, and here are "
            f"{torch.cuda.device_count()}"
        )
    return torch.device("cuda", _local_rank())


def _local_rank() -> int:
    return int(os.environ["LOCAL_RANK"])


def shared(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose gradients are the mean over all processes.

    Its weights become those of the first one. To be called again when other parameters train.
    """
    if size() == 1:
        return network
    own = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=own)


def with_synchronised_norms(network: nn.Module, device: torch.device) -> tuple[nn.Module, str]:
    """Return a network whose batch norms see the whole batch, where that can be; and a note."""
    norms = any(isinstance(module, _BatchNorm) for module in network.modules())
    if size() == 1 or not norms:
        return network, ""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network), ""  # type: ignore[no-untyped-call]
    return network, (
        "batch norms took their statistics from each process's own part of a batch: on CPUs torch "
        "cannot synchronise them"
    )


def unshared(network: Callable[..., object]) -> AbstractContextManager[None]:
    """Keep the gradients of what is computed in the block to this process, to be added to."""
    if isinstance(network, DistributedDataParallel):
        alone: AbstractContextManager[None] = network.no_sync()
        return alone
    return nullcontext()


def of_first(value: T) -> T:
    """Return what the first process gives; what the others give does not matter."""
    if size() == 1:
        return value
    told: list[Any] = [value]
    dist.broadcast_object_list(told, src=0)
    first: T = told[0]
    return first


def mean(value: float) -> float:
    """Return the mean of a number over all processes."""
    if size() == 1:
        return value
    backend_device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = torch.tensor(value, dtype=torch.float64, device=backend_device)
    dist.all_reduce(total)
    return float(total) / size()
