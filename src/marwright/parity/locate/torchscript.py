"""Where a traced module begins to differ from the checkpoint.

A trace keeps the tree of modules. Each traced module gets the inputs that the checkpoint's own
got, so that an error shows where it is made; those inside a module are asked before it is.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_map

from marwright.parity.float64 import Float64, lifted
from marwright.parity.locate.deviation import NONE, Deviation, deviation
from marwright.parity.locate.differences import weights_difference
from marwright.parity.locate.traced_call import (
    Answer,
    array,
    ask,
    in_training,
    repeats,
    tensors_of,
    unasked,
)
from marwright.parity.types import Divergence
from marwright.recipe.errors import ParityError
from marwright.training.inference import for_inference, inference

# What a report calls the outermost module, which has no path.
ROOT = "(root)"
# Differing weights that are named; there may be as many as a model has.
_MOST_WEIGHTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """The first call of a traced module that is not the checkpoint's.

    `call` counts from 0. `skipped` says of modules why they were not asked.
    """

    path: str
    module: nn.Module
    call: int
    method: Any
    answer: Answer
    noise: Deviation
    skipped: dict[str, str]


def locate_torchscript(
    eager: nn.Module, traced: Path, inputs: NDArray[Any], *, k: float, floor: float
) -> Divergence | None:
    """Return the first module whose error is above `k` times the checkpoint's plus `floor`.

    `eager` is the network that was traced, in its own precision, and `inputs` are a few rows
    `(n, *shape)`. A module that has others inside is named when those are right, or could not be
    asked alone, which `how` says. `before` is 0: each gets the checkpoint's own inputs. None
    where all is within. Raises `ParityError` when the file cannot be read.
    """
    loaded = load_traced(traced)
    wrong = first_wrong(eager, loaded, inputs, k=k, floor=floor)
    if wrong is None:
        return None
    answer, how = wrong.answer, []
    if wrong.call:
        how.append(f"in call {wrong.call + 1} of it")
    if any(True for _ in wrong.module.children()):
        how.append(_inside(wrong))
    if answer.says:
        how.append(f"the trace fails: {answer.says}")
    elif answer.error.reported() < 0:
        how.append("NaN or infinity stand at other places than the checkpoint's")
    how += [f"the trace has {each} in training mode" for each in in_training(wrong.method)]
    if answer.varies:
        how.append("two calls differ")
    # Loaded again: what is left in training mode has changed its own statistics by now.
    how += differing_weights(eager, load_traced(traced), wrong.path)
    return Divergence(
        backend="torchscript",
        node=wrong.path or ROOT,
        op=type(wrong.module).__name__,
        inputs=[list(each.shape) for each in answer.arguments],
        output=list(answer.references[0].shape),
        before=0.0,
        after=answer.error.reported(),
        how="; ".join(how) or "it alone, on the checkpoint's own inputs",
    )


def load_traced(path: Path) -> Any:
    """Load a traced module in eval mode. Raises `ParityError`."""
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise ParityError(f"{path.name}: torch cannot load it: {error}") from error


def first_wrong(
    eager: nn.Module, loaded: Any, inputs: NDArray[Any], *, k: float, floor: float
) -> Wrong | None:
    """Run the checkpoint, and ask the trace about each call of each module as it ends.

    To compile each traced module takes longer than all else, so that is done only if the trace is
    right without.
    """
    for compiled in (False, True):
        with torch.jit.optimized_execution(compiled):  # type: ignore[attr-defined]
            wrong = _watched(eager, _Watch(for_inference(eager), loaded, k, floor), inputs)
        if wrong is not None:
            return wrong
    return None


def _watched(eager: nn.Module, watch: _Watch, inputs: NDArray[Any]) -> Wrong | None:
    hooks = []
    for module in eager.modules():
        hooks.append(module.register_forward_pre_hook(watch.enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(watch.leave, with_kwargs=True))
    try:
        with inference():
            eager(torch.from_numpy(inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return watch.wrong


def method_of(call: int) -> str:
    """Return TorchScript's name of a module's n-th call, each of which it keeps by itself."""
    return f"forward{call or ''}"


def differing_weights(eager: nn.Module, loaded: Any, path: str) -> list[str]:
    """Return in words which weights below a path are not the checkpoint's, the first few."""
    own, prefix = eager.state_dict(), f"{path}." if path else ""
    found = [
        difference
        for name, value in loaded.state_dict().items()
        if name in own and name.startswith(prefix)
        if (difference := weights_difference(name, array(value), array(own[name])))
    ]
    more = [f"and {len(found) - _MOST_WEIGHTS} more weights"] if len(found) > _MOST_WEIGHTS else []
    return found[:_MOST_WEIGHTS] + more


class _Watch:
    """Hooks for the checkpoint's modules. Calls end in the order from inside to outside."""

    def __init__(self, eager: nn.Module, loaded: Any, k: float, floor: float) -> None:
        self.wrong: Wrong | None = None
        self._k, self._floor = k, floor
        self._paths = {module: path for path, module in eager.named_modules()}
        self._exact = dict(copy.deepcopy(eager).double().named_modules())
        self._traces = dict(loaded.named_modules(remove_duplicate=False))
        self._calls = Counter[str]()
        self._entered: list[tuple[Any, Any]] = []
        self._skipped: dict[str, str] = {}

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        # A module may change its inputs in place.
        self._entered.append(_copied((args, kwargs)))

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        args, kwargs = self._entered.pop()
        path = self._paths[module]
        call, self._calls[path] = self._calls[path], self._calls[path] + 1
        if self.wrong is None:
            self.wrong = self._judge(module, path, call, args, kwargs, output)

    def _judge(
        self, module: nn.Module, path: str, call: int, args: Any, kwargs: Any, output: Any
    ) -> Wrong | None:
        method = getattr(self._traces.get(path), method_of(call), None)
        arguments = list({id(each): each for each in tensors_of((args, kwargs))}.values())
        if why := unasked(method, arguments):
            self._skipped[path] = why
            return None
        given = [array(each) for each in tensors_of(output)]
        if repeats(method, arguments, given):
            return None
        with Float64():  # type: ignore[no-untyped-call]
            args, kwargs = tree_map(lifted, _copied((args, kwargs)))
            expected = [array(each) for each in tensors_of(self._exact[path](*args, **kwargs))]
        noise = NONE
        for value, reference in zip(given, expected, strict=True):
            noise = noise.largest_of(deviation(value, reference))
        limit = noise.limit(self._k, self._floor)
        answer = ask(method, arguments, expected, limit)
        if answer.error.within(limit):
            return None
        return Wrong(
            path=path, module=module, call=call, method=method, answer=answer, noise=noise,
            skipped=self._skipped,
        )  # fmt: skip


def _inside(wrong: Wrong) -> str:
    prefix = f"{wrong.path}." if wrong.path else ""
    skipped = [f"{path} ({why})" for path, why in wrong.skipped.items() if path.startswith(prefix)]
    but = f", but for those that cannot be asked alone: {', '.join(skipped)}" if skipped else ""
    return f"in its own forward, for the modules inside it are right{but}"


def _copied(values: Any) -> Any:
    """Copy tensors; one that stands at several places stays one."""
    copies: dict[int, torch.Tensor] = {}

    def copied(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return copies.setdefault(id(value), value.clone())
        return value

    return tree_map(copied, values)
