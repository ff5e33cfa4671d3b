"""TorchServe's `model-config.yaml`, read strictly: what the server would pass over is a problem.

Keys, types and fallbacks are those of `ModelConfig` and `Model` in the jar of TorchServe 0.12.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from marwright.archive.rules.config_notes import parallel_problems
from marwright.archive.rules.plain_yaml import (
    MOST,
    Problem,
    RefusedError,
    plain,
    read_plain_yaml,
    shown,
    whole_problem,
)
from marwright.recipe.suggest import suggestion

TIMEOUTS = {"responseTimeout": 120, "startupTimeout": 120, "maxRetryTimeoutInSec": 300}
_WHY = (
    "# TorchServe's own defaults: with this file here, it does not ask config.properties for these."
)


@dataclass(frozen=True, slots=True)
class _Whole:
    """A whole number: the least that counts; what TorchServe takes for less, and for no int."""

    least: int
    less: str
    other: str
    most: int = MOST


_OWN_WORKERS = "the server's own number of workers"
_OWN_QUEUE = "job_queue_size of config.properties"
# What each key of TorchServe may be: a number, one of some words, or something of a type.
_RULES: dict[str, _Whole | tuple[str, ...] | type] = {
    "minWorkers": _Whole(1, "1", _OWN_WORKERS),
    "maxWorkers": _Whole(1, _OWN_WORKERS, _OWN_WORKERS),
    "batchSize": _Whole(1, "1", "1"),
    "maxBatchDelay": _Whole(1, "100", "100"),
    "responseTimeout": _Whole(1, "120", "120"),
    "startupTimeout": _Whole(1, "120", "120"),
    "deviceType": ("cpu", "gpu"),
    "deviceIds": list,
    "parallelType": ("pp", "tp", "pptp", "custom"),
    "parallelLevel": _Whole(0, "0", "0"),
    "torchrun": dict,
    "torchrun.nnodes": _Whole(1, "1", "1"),
    "torchrun.nproc-per-node": _Whole(1, "1", "1"),
    "torchrun.monitor-interval": _Whole(1, "5", "5"),
    "torchrun.node-rank": _Whole(0, "0", "0"),
    "torchrun.OMP_NUMBER_THREADS": _Whole(1, "1", "1"),
    "torchrun.rdzv-backend": str,
    "torchrun.rdzv-endpoint": str,
    "torchrun.rdzv-conf": str,
    # TorchServe multiplies it by 1000 in 32 bits.
    "maxRetryTimeoutInSec": _Whole(0, "0", "300", most=(2**31 - 1) // 1000),
    "clientTimeoutInMills": _Whole(0, "0", "0"),
    "jobQueueSize": _Whole(1, _OWN_QUEUE, _OWN_QUEUE),
    "useJobTicket": bool,
    "sequenceMaxIdleMSec": _Whole(0, "0", "0"),
    "sequenceTimeoutMSec": _Whole(0, "0", "0"),
    "maxSequenceJobQueueSize": _Whole(1, "1", "1"),
    "maxNumSequence": _Whole(1, "1", "1"),
    "continuousBatching": bool,
    "sequenceBatching": bool,
    "asyncCommunication": bool,
    "useVenv": bool,
}
_DEVICE_ID = _Whole(0, "no device of the list", "no device of the list")
# What each is called, what TorchServe does with anything else, and what to write.
_WORDS = {
    bool: ("true or false", "takes false", "one of them, without quotes"),
    str: ("text", "ignores it", "it in quotes"),
    list: ("a list", "ignores it", "a list of numbers, as `[0]`"),
    dict: ("a mapping", "ignores it", "keys under it, as `nproc-per-node: 1`"),
}
_KEYS = {key for key in _RULES if "." not in key}
_TORCHRUN_KEYS = {key.partition(".")[2] for key in _RULES.keys() - _KEYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A `model-config.yaml`: all of it, and the keys that only the handler can read, sorted."""

    values: dict[str, Any]
    handler_keys: tuple[str, ...]


def read_config(data: bytes) -> tuple[ModelConfig, list[str]]:
    """Read a `model-config.yaml`; also return its problems, a line each, as they stand in it.

    Never raises for bad data: values that cannot be read are left out.
    """
    try:
        file = read_plain_yaml(data, strict=("", "torchrun"))
    except RefusedError as refusal:
        return ModelConfig(values={}, handler_keys=()), [str(refusal)]
    values, problems = file.values, [*file.problems]
    for key, value in values.items():
        problems += [*_setting_problems(key, value), *_worker_problems(key, values)]
    if not problems:
        problems += parallel_problems(values)
    handler_keys = sorted(key for key in values.keys() - _KEYS if not _near(key))
    config = ModelConfig(values=values, handler_keys=tuple(handler_keys))
    return config, file.lines(problems)


def completed(data: bytes) -> bytes:
    """Return a file that has no problems with its missing timeouts, at TorchServe's own values.

    Text and comments stay, unless nothing can be appended to them, as to `{batchSize: 8}`.
    """
    config, problems = read_config(data)
    assert not problems, problems
    missing = {key: value for key, value in TIMEOUTS.items() if key not in config.values}
    if not missing:
        return data
    line_end = "" if data.endswith(b"\n") else "\n"
    longer = data + f"{line_end}{_WHY}\n{_dumped(missing)}".encode()
    again, problems = read_config(longer)
    whole = _dumped({**config.values, **missing})
    # Compared as text, because NaN is not equal to itself, and 1 is to True.
    return longer if not problems and _dumped(again.values) == whole else whole.encode()


def _dumped(values: Mapping[str, Any]) -> str:
    # In ASCII: PyYAML writes some of Unicode's line ends so that it reads them as spaces.
    return yaml.safe_dump(values, sort_keys=False)


def _normal(key: str) -> str:
    return re.sub("[-_ ]", "", key).lower()


_NORMAL_KEYS = {_normal(key): key for key in _KEYS}


def _near(key: str) -> str:
    """Return the key of TorchServe that another key seems to be meant as, or nothing."""
    close = difflib.get_close_matches(_normal(key), _NORMAL_KEYS, n=1, cutoff=0.88)
    return _NORMAL_KEYS[close[0]] if close else ""


def _setting_problems(key: str, value: Any) -> Iterator[Problem]:
    """Yield what TorchServe would not take as it stands, with what it takes instead."""
    if key not in _KEYS:
        if near := _near(key):
            yield plain(key), (f"TorchServe knows {near}, and ignores this spelling: write "
                                f"{near}, or move a handler's key under `handler`")  # fmt: skip
        return
    yield from _unfit(key, value, _RULES[key])
    if key == "deviceIds" and isinstance(value, list):
        for item in value:
            yield from _unfit(key, item, _DEVICE_ID)
    if key == "torchrun" and isinstance(value, dict):
        for name, inner in value.items():
            if name in _TORCHRUN_KEYS:
                yield from _unfit(f"torchrun.{name}", inner, _RULES[f"torchrun.{name}"])
            elif isinstance(name, str):
                hint = suggestion(name, _TORCHRUN_KEYS)
                yield f"torchrun.{plain(name)}", f"TorchServe ignores it{hint}"


def _unfit(name: str, value: Any, rule: _Whole | tuple[str, ...] | type) -> Iterator[Problem]:
    if isinstance(rule, _Whole):
        # What is below 32 bits is no int to TorchServe.
        no_int = isinstance(value, int) and value < -MOST - 1
        less = f"takes {rule.other if no_int else rule.less}"
        if problem := whole_problem(value, rule.least, f"takes {rule.other}", less, rule.most):
            yield name, problem
    elif isinstance(rule, tuple):
        # In capitals too: TorchServe makes them small.
        if str(value).lower() not in rule:
            yield name, (f"{shown(value)} is none of {', '.join(rule)}, and TorchServe ignores "
                         "it: write one of them")  # fmt: skip
    elif not isinstance(value, rule):
        noun, does, instead = _WORDS[rule]
        yield name, f"{shown(value)} is not {noun}, and TorchServe {does}: write {instead}"


def _worker_problems(key: str, values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield why TorchServe ignores the numbers of workers: it takes both or neither."""
    pair = {name: values[name] for name in ("minWorkers", "maxWorkers") if name in values}
    if key in pair and len(pair) == 1:
        other = "maxWorkers" if key == "minWorkers" else "minWorkers"
        yield key, f"TorchServe ignores it without {other}: write {other} as well"
    elif key == "minWorkers" and all(type(number) is int for number in pair.values()):
        low, high = pair.values()
        if low > high > 0:
            yield key, (f"{low} is more than maxWorkers, {high}, and TorchServe ignores both: "
                        f"write maxWorkers: {low} or more")  # fmt: skip
