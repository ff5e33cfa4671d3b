"""How a network is prepared wherever it is traced, exported or judged: one way for all of them.

A training may leave on a network what its exports must not have, or have otherwise: modes,
gradients, hooks for gradients, weights that are computed from other weights, compiled functions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

# Of all batch norms; torch exports no public name for it.
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from marwright.recipe.errors import ExportError
from marwright.training.places import made_at


def without_fast_paths() -> None:
    """Have this process compute attention as exports do: one way, in training and in eval mode.

    In eval mode torch would take other kernels for `nn.MultiheadAttention`, and for a masked
    `nn.TransformerEncoder` nested tensors, which give zeros where padding is, and which neither
    TorchScript nor ONNX can follow.
    """
    torch.backends.mha.set_fastpath_enabled(False)


def for_inference(network: nn.Module) -> nn.Module:
    """Prepare a network in place and return it: in eval mode, without gradients, of plain weights.

    Wrappers (`torch.compile`, `nn.DataParallel`) are taken off, hooks for gradients removed, and
    weights that are computed from other weights (parametrisations, weight and spectral norm,
    pruning) become what they amount to. What is returned is the network inside where it is wrapped
    itself. To be called after weights are loaded: names in `state_dict()` change. A second time
    changes nothing.

    Raises `ExportError` for what cannot be prepared: a scripted module, one that stays in training
    mode, a batch norm without statistics, weights that are computed otherwise each time.
    """
    without_fast_paths()
    network = _unwrapped(network)
    network.eval()
    for path, module in network.named_modules():
        _refuse(path, module)
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = _unwrapped(child)
        _without_compiled(module)
        _without_gradient_hooks(module)
    network.eval()
    for path, module in network.named_modules():
        _refuse(path, module)
        _with_plain_weights(path, module)
    return network.requires_grad_(False)


def uncompiled() -> AbstractContextManager[Any]:
    """Run what a network calls through `torch.compile` as it was written, within the block."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    # `torch.compiler.set_stance` comes too late: a compiled function refuses to be traced first.
    from torch._dynamo.eval_frame import _use_eager_on_nested_compile

    return _use_eager_on_nested_compile()


@contextmanager
def inference() -> Iterator[None]:
    """Compute within the block as every export is made and judged: no gradients, no compiling."""
    without_fast_paths()
    with torch.no_grad(), uncompiled():
        yield


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside of `torch.compile`, `nn.DataParallel` and its distributed kin."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(
            module, (nn.DataParallel, nn.parallel.DistributedDataParallel)
        ):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def _without_compiled(module: nn.Module) -> None:
    # What `module.compile()` left, and functions that are kept as attributes.
    if module._compiled_call_impl is not None:
        module._compiled_call_impl = None
    for name, value in vars(module).items():
        if callable(value) and not isinstance(value, nn.Module):
            original = getattr(value, "_torchdynamo_orig_callable", None)
            if original is not None:
                vars(module)[name] = original


def _without_gradient_hooks(module: nn.Module) -> None:
    # They change nothing of what is computed, and TorchScript refuses modules that have them.
    module._backward_hooks.clear()
    module._backward_pre_hooks.clear()


def _refuse(path: str, module: nn.Module) -> None:
    where = named_module(path, module)
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportError(
            f"{where} is made by torch.jit.script or torch.jit.trace, which cannot be exported to "
            "ONNX: give the module itself; tracing it is this project's work"
        )
    if module.training:
        raise ExportError(
            f"{where} stays in training mode after eval(): let its train(mode) pass the mode on "
            "to super().train(mode)"
        )
    if isinstance(module, _BatchNorm) and module.running_mean is None:
        raise ExportError(
            f"{where} keeps no running statistics, so that a sample's answer depends on the others "
            "of its batch: set track_running_stats=True, or take a norm of single samples, as "
            "nn.GroupNorm and nn.LayerNorm are"
        )


def named_module(path: str, module: nn.Module) -> str:
    """Return what a message calls a module: where it was made, its path, its class."""
    place = made_at(module)
    kind = getattr(module, "original_name", None) or type(module).__name__
    return f"{place + ': ' if place else ''}{path or 'the network'} ({kind})"


def _with_plain_weights(path: str, module: nn.Module) -> None:
    """Replace weights that are computed from others by what they amount to."""
    with torch.no_grad():
        _without_parametrisations(path, module)
        for hook in [*module._forward_pre_hooks.values()]:
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]


def _without_parametrisations(path: str, module: nn.Module) -> None:
    if not parametrize.is_parametrized(module):
        return
    parametrisations = module.parametrizations
    assert isinstance(parametrisations, nn.ModuleDict)
    for name, listed in [*parametrisations.items()]:
        value = getattr(module, name)
        if not torch.equal(value.nan_to_num(), getattr(module, name).nan_to_num()):
            raise ExportError(
                f"{named_module(path, module)}: the parametrisation of {name} gives another "
                "tensor each time: let it be random in training mode only"
            )
        if getattr(listed, "is_tensor", False):
            # A tensor of its own: torch writes into this one, which others may share.
            original = listed.original
            assert isinstance(original, torch.Tensor)
            listed.original = nn.Parameter(original.detach().clone())
        parametrize.remove_parametrizations(module, name, leave_parametrized=True)
