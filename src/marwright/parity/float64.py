"""Real float64: whatever an operation, a constant or a cast asks for."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_LIFTED = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}


class Float64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is on, torch computes in float64.

    Constants are lifted as they are used, casts to a lower precision are casts to float64, and
    integers stay. Parameters must be float64 already: torch holds some operations' arguments
    against each other before it asks a mode. The default dtype, which is the process's, is
    float64 meanwhile, so that numbers in the source are not rounded first.
    """

    def __enter__(self) -> Float64:
        self._before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        torch.set_default_dtype(self._before)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map(lifted, (args, kwargs or {}))
        return tree_map(lifted, function(*args, **kwargs))


def lifted(value: Any) -> Any:
    """Return a tensor or a dtype of lower precision as float64, and anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(_LIFTED[value.dtype]) if value.dtype in _LIFTED else value
    return _LIFTED.get(value, value) if isinstance(value, torch.dtype) else value
