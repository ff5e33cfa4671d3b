"""From whatever tracing and exporting may raise to an error that a person can act on.

It names the line of the network's source, the operator and what to do. torch and its exporter have
no common class of error, and their messages speak of their own internals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from marwright.recipe.errors import ExportError, MarwrightError
from marwright.training.places import frames_in, frames_of, innermost, made_at

if TYPE_CHECKING:
    from marwright.recipe.types import Recipe

# A sentence that helps nobody who did not write the exporter.
_BOILERPLATE = re.compile(
    r"\s*(See the stack trace[^.]*\.|Please file an issue[^.]*\.?|Internal error: |"
    r"If you absolutely need this.*|Please see the following.*|For the potential source.*|"
    r"https?://\S+|Failure message: .*|\(Size-like symbols:.*?\)|\(unhinted:[^)]*\))"
)
_LONGEST = 160
_NAMES_AN_OPERATOR = re.compile(r"\b(?:aten|prims|torchvision|quantized)(?:::|\.)\w+(?:\.\w+)?")
# What can stand for an operator that ONNX has not.
_INSTEAD = {
    "adaptive_max_pool2d": "max_pool2d with a fixed kernel and stride, or adaptive_avg_pool2d",
    "adaptive_max_pool1d": "max_pool1d with a fixed kernel and stride, or adaptive_avg_pool1d",
    "adaptive_max_pool3d": "max_pool3d with a fixed kernel and stride, or adaptive_avg_pool3d",
    "median": "the middle of torch.sort along the axis",
    "nanmedian": "the middle of torch.sort along the axis",
    "kthvalue": "torch.topk with largest=False",
    "mode": "counts of torch.nn.functional.one_hot",
    "cummax": "a maximum over a lower triangle of the axis, by torch.where",
    "cumprod": "the exponential of a cumsum of logarithms",
    "prod": "the exponential of a sum of logarithms",
    "_cdist_forward": "((a[:, None] - b) ** 2).sum(-1).sqrt()",
    "histc": "sums of comparisons with each edge",
    "searchsorted": "torch.bucketize",
    "masked_select": "torch.where, which keeps the shape",
    "linalg_inv_ex": "an inverse that is computed once, outside of forward",
    "rrelu_with_noise_functional": "torch.nn.functional.leaky_relu",
    "fractional_max_pool2d": "max_pool2d, which is not random",
}
_DATA = (
    "data-dependent", "DataDependent", "guard on data", "dynamic_output_shape", "DynamicOutput",
)  # fmt: skip


_DTYPES = (
    "to have the same dtype",
    "must have the same dtype",
    "should be the same",
    "scalar type",
)


@contextmanager
def told_as_export_error(what: str, network: nn.Module) -> Iterator[None]:
    """Raise what is raised within the block as an `ExportError` that begins with `what`.

    The project's own errors pass as they are.
    """
    try:
        yield
    except MarwrightError:
        raise
    # torch, its exporter, onnx and a person's own forward have no other base in common, and a
    # forward may end the process.
    except (Exception, SystemExit) as error:
        raise ExportError(told(what, error, network)) from error


@contextmanager
def of_factory(recipe: Recipe) -> Iterator[None]:
    """Have an `ExportError` of the block name the person's file, where it does not already."""
    try:
        yield
    except ExportError as error:
        file = recipe.model.factory
        if file.endswith(".py") and file not in str(error):
            raise ExportError(f"{file}: {error}") from error
        raise


def told(what: str, error: BaseException, network: nn.Module) -> str:
    """Return in one sentence what failed, where in a person's code, in which operator, and why."""
    chain = _chain(error)
    operator, place, path = _of_node(chain, network)
    place = place or _place(chain) or _made(chain, network)
    operator = operator or _named_operator(chain)
    inside = _inside(path, network) if path else _module_of(chain, network)
    reason = _reason(chain, operator)
    where = ", in ".join(each for each in (place, inside) if each)
    return f"{what}: {where + ': ' if where else ''}{reason}"


def place_of(error: BaseException) -> str:
    """Return the line of a person's code in which an error arose; empty where it is in none."""
    return _place(_chain(error))


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and what it came of, the root cause last."""
    chain = [error]
    while True:
        last = chain[-1]
        cause = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if cause is None or cause in chain:
            return chain
        chain.append(cause)


def _of_node(chain: list[BaseException], network: nn.Module) -> tuple[str, str, str]:
    """Return the operator, its line and the path of its module, of the node that was at work.

    The exporter works on a graph: the line of the source is kept with each node of it.
    """
    for frame in _frames(chain):
        node = next((v for v in frame.f_locals.values() if isinstance(v, torch.fx.Node)), None)
        if node is None or node.op != "call_function":
            continue
        stack = node.meta.get("nn_module_stack") or {}
        path = next((str(each[0]) for each in reversed(stack.values())), "")
        path = path.removeprefix("L['self'].")
        place = innermost(frames_in(str(node.meta.get("stack_trace") or "")))
        # A decomposition's parts are nothing that a person wrote.
        written = node.meta.get("original_aten") or node.target
        return _shown(written), place or _made_at(path, network), path
    for frame in _frames(chain):
        for value in frame.f_locals.values():
            if isinstance(value, torch._ops.OpOverload):
                return _shown(value), "", ""
    return "", "", ""


def _frames(chain: list[BaseException]) -> Iterator[FrameType]:
    """Yield the frames of all errors of a chain, the innermost of the root cause first."""
    for error in reversed(chain):
        frames, walked = [], error.__traceback__
        while walked is not None:
            frames.append(walked.tb_frame)
            walked = walked.tb_next
        yield from reversed(frames)


def _shown(target: Any) -> str:
    return str(target).removesuffix(".default")


def _place(chain: list[BaseException]) -> str:
    of_library = ""
    for error in reversed(chain):
        for frames in (frames_of(error), frames_in(str(error))):
            if place := innermost(frames, own_only=True):
                return place
            of_library = of_library or innermost(frames)
    return of_library


def _made(chain: list[BaseException], network: nn.Module) -> str:
    """Return where the module that was at work was made: its forward is torch's own."""
    for frame in _frames(chain):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and (place := made_at(module)):
            return place
    return ""


def _made_at(path: str, network: nn.Module) -> str:
    """Return where a module was made, or else the one around it."""
    while path:
        try:
            if place := made_at(network.get_submodule(path)):
                return place
        except AttributeError:
            pass
        path = path.rpartition(".")[0]
    return ""


def _module_of(chain: list[BaseException], network: nn.Module) -> str:
    paths = {module: path for path, module in network.named_modules()}
    for frame in _frames(chain):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and paths.get(module):
            return f"{paths[module]} ({type(module).__name__})"
    return ""


def _inside(path: str, network: nn.Module) -> str:
    try:
        return f"{path} ({type(network.get_submodule(path)).__name__})"
    except AttributeError:
        return path


def _named_operator(chain: list[BaseException]) -> str:
    for error in reversed(chain):
        if found := _NAMES_AN_OPERATOR.search(str(error)):
            return found[0].replace("::", ".").removesuffix(".default")
    return ""


def _reason(chain: list[BaseException], operator: str) -> str:
    """Return what is wrong and what to do about it."""
    said = " ".join(str(error) for error in chain)
    root = chain[-1]
    for applies, sentence in _KNOWN:
        if applies(said, root):
            return sentence.format(operator=operator or "this", error=plain(root))
    name = operator.removeprefix("aten.").removeprefix("prims.").partition(".")[0]
    instead = _INSTEAD.get(name, "")
    if "No ONNX function found" in said or "No decompositions registered" in said:
        return f"{operator} has no ONNX operator: {_use(instead)}"
    if any("when calling function" in str(each) or "translating node" in str(each)
           for each in chain):  # fmt: skip
        return f"{operator} cannot be translated to ONNX ({plain(root)}): {_use(instead)}"
    if not operator and _is_own(root):
        return f"{plain(root)}: forward must do the same for every batch, traced or not"
    cause = f"{operator}: {plain(root)}" if operator and operator not in str(root) else plain(root)
    return f"{cause}: {_use(instead)}"


def _is_own(error: BaseException) -> bool:
    """Return whether a person's own code raised an error, and not what it called."""
    return bool(innermost(frames_of(error)[-1:], own_only=True))


def _use(instead: str) -> str:
    return f"use {instead}" if instead else "compute it from other operators"


# What torch says badly, by how it can be told.
_KNOWN: tuple[tuple[Callable[[str, BaseException], bool], str], ...] = (
    (
        lambda _, root: isinstance(root, SystemExit),
        "{error}: forward must not end the process",
    ),
    (
        lambda said, _: any(text in said for text in _DTYPES),
        "its tensors are not of one dtype ({error}), and the gate computes in float64: keep layers "
        "in an nn.ModuleList, not in a list, and other tensors in buffers",
    ),
    (
        lambda said, _: any(text in said for text in _DATA),
        "data-dependent: the model decides by values of its data, which an export cannot follow: "
        "use torch.where in place of a branch, and shapes that no value decides",
    ),
    (
        lambda said, _: "Python function call" in said or "unordered_map::at" in said,
        "TorchScript cannot keep a function that is written in Python, as a "
        "torch.autograd.Function or a reentrant checkpoint is: call plain operators in eval mode "
        "(checkpoint: use_reentrant=False)",
    ),
    (
        lambda said, _: "dynamo-optimized" in said,
        "a compiled function or torch.cond cannot be traced: without torch.compile, and with "
        "torch.where in place of torch.cond, it can",
    ),
    (
        lambda _, root: isinstance(root, RecursionError),
        "RecursionError: calls are nested too deeply: write them as a loop",
    ),
    (
        lambda said, _: "NestedTensor" in said or "_nested_tensor" in said,
        "{operator}: nested tensors cannot be exported: pad to one length and mask",
    ),
    (
        lambda said, _: "packed_padded" in said or "pack_padded" in said,
        "packed sequences depend on their lengths, which an export cannot follow: give padded "
        "sequences to the layer, and mask what comes of the padding",
    ),
    (
        lambda said, _: "requires grad as a constant" in said,
        "a weight that is no part of the network cannot be exported, nor is it trained and saved: "
        "keep layers as attributes or in an nn.ModuleList, not in a list, and weights as "
        "nn.Parameter",
    ),
    (
        lambda said, _: "functorch" in said or "doesn't have storage" in said
        or "has no attribute 'constant'" in said or "fake tensor in the exported program" in said
        or "Cannot access data pointer" in said,
        "gradients, copies of modules and other values that are made in forward by tools of "
        "training cannot be exported ({error}): compute them from plain operators",
    ),
    (
        lambda said, _: "numpy" in said.lower(),
        "numpy in forward cannot be followed ({error}): compute with torch",
    ),
    (
        lambda said, _: "PackedParams" in said or "quantized" in said,
        "quantised modules cannot be exported ({error}): train and export the float32 network, and "
        'set [export] precision = "int8"',
    ),
    (
        lambda said, _: "a dict at the output" in said,
        "the model gives a dict, not a tensor: return the tensor alone",
    ),
    (
        lambda said, _: "didn't return any values" in said,
        "the model returns nothing: return a tensor",
    ),
    (
        lambda said, _: "sparse" in said.lower(),
        "{operator}: sparse tensors cannot be exported ({error}): make them dense",
    ),
)  # fmt: skip


def plain(error: BaseException) -> str:
    """Return what an error says: one line without its exporter's advice, its kind where that tells.

    A dictionary's or an assertion's error says nothing without its kind.
    """
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    text = " ".join(_BOILERPLATE.sub("", lines[0]).split()) if lines else ""
    if len(text) > _LONGEST:
        text = text.partition(". ")[0]
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()} …"
    kind = type(error).__name__
    if type(error) in (RuntimeError, ValueError, TypeError) and text:
        return text.rstrip(".:")
    return f"{kind}: {text}".rstrip(".: ")
