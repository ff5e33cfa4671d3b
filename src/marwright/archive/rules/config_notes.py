"""What of a `model-config.yaml` is valid, and unlike what anybody means, or cannot be run here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from marwright.archive.rules.plain_yaml import shown

# Above these a server is stopped by its own settings, or a client waits for nothing.
_MOST = {
    "minWorkers": (64, "each is a Python with torch in it, half a GiB of memory and more"),
    "maxWorkers": (64, "each is a Python with torch in it, half a GiB of memory and more"),
    "batchSize": (1024, "so many requests are held, and answered together, late"),
    "maxBatchDelay": (10_000, "milliseconds; each request waits so long for others to come"),
    "jobQueueSize": (10_000, "so many bodies may wait in the server's memory"),
    "responseTimeout": (3600, "seconds; a worker that hangs is not noticed before"),
    "startupTimeout": (3600, "seconds; a worker that hangs is not noticed before"),
}
_UNTRIED = {
    "continuousBatching": "answers in pieces, which `verify` does not try",
    "sequenceBatching": "sequences of requests, which `verify` does not try",
    "asyncCommunication": "another way to talk to the worker, which `verify` does not try",
    "useVenv": "an environment of its own, made when the model is loaded and only where "
    "install_py_dep_per_model=true; `verify` tries this one",
}
_MOST_PROCESSES = 64
_BY_TORCHRUN = ("pp", "tp", "pptp")


def config_notes(values: Mapping[str, Any]) -> Iterator[str]:
    """Say of values that TorchServe takes what comes of them, as they begin with the key."""
    for key, (most, why) in _MOST.items():
        value = values.get(key)
        if type(value) is int and value > most:
            yield f"{key}: {value}: {why}"
    for key, what in _UNTRIED.items():
        if values.get(key) is True:
            yield f"{key}: {what}"
    kind, level = values.get("parallelType"), _level(values)
    if level > _MOST_PROCESSES:
        yield f"parallelLevel: {level}: each worker is so many processes, with torch in each"
    if kind is not None and level <= 0:
        yield "parallelType: TorchServe ignores it without parallelLevel or torchrun"
    if level > 0 and kind is None:
        yield "parallelLevel: TorchServe ignores it, and torchrun, without parallelType"
    yield from _device_notes(values)


def _device_notes(values: Mapping[str, Any]) -> Iterator[str]:
    gpus = count_gpus()
    if str(values.get("deviceType")).lower() == "gpu" and not gpus:
        yield "deviceType: gpu: this machine has none, and TorchServe takes the CPU then"
    ids = values.get("deviceIds")
    missing = [n for n in ids if type(n) is int and n >= gpus] if isinstance(ids, list) else []
    if missing:
        yield (
            f"deviceIds: {shown(missing[0])}: this machine has {gpus or 'no'} GPUs, and "
            "TorchServe ignores the whole list where one of them is not there"
        )


def parallel_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say when TorchServe could start no worker anywhere, under the key."""
    if _by_torchrun(values) and not isinstance(values.get("torchrun"), dict):
        yield "parallelType", (f"{values['parallelType']}: TorchServe starts such workers by "
                               "torchrun, and fails without its settings: write torchrun: with "
                               "nproc-per-node: under it")  # fmt: skip


def server_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """Say when TorchServe could start no worker on this machine."""
    if _by_torchrun(values) and shutil.which("torchrun") is None:
        yield (
            f"parallelType: {values['parallelType']}: TorchServe starts such workers by torchrun, "
            "and there is none on the PATH here: every start of a worker would fail"
        )


def server_notes(values: Mapping[str, Any]) -> Iterator[str]:
    """Say what loading in one process, as `verify` does, does not show."""
    if _by_torchrun(values):
        yield "parallelType: loaded in one process here, not in those that torchrun would start"


def _by_torchrun(values: Mapping[str, Any]) -> bool:
    return str(values.get("parallelType")).lower() in _BY_TORCHRUN and _level(values) > 0


def _level(values: Mapping[str, Any]) -> int:
    """Return how many processes one worker has: the last of two keys tells."""
    level = 0
    for key, value in values.items():
        if key == "torchrun" and isinstance(value, dict):
            value, key = value.get("nproc-per-node", 1), "parallelLevel"
        if key == "parallelLevel" and type(value) is int:
            level = value
    return level


def count_gpus() -> int:
    """Return how many GPUs TorchServe would find: those of NVIDIA, whose tool it asks."""
    if shutil.which("nvidia-smi") is None:
        return 0
    return sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
