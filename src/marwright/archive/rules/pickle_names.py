"""The names that a pickle of weights may ask for: nothing else may be imported or called.

The list rests on two readers: `torch.load(weights_only=True)` of torch 2.15, whose defaults these
are, and TorchScript's unpickler, which is C++ and knows besides them the functions of
`torch.jit._pickle` and the classes of `__torch__`: code of the same file, and no module that
Python could import.
"""

from __future__ import annotations

import re


def _words(text: str, suffix: str = "") -> frozenset[str]:
    return frozenset(word + suffix for word in text.split())


_TORCHSCRIPT = re.compile(r"__torch__(\.[A-Za-z_]\w*)*", re.ASCII)
_KINDS = "BFloat16 Byte Char Double Float Half Int Long Short"
_SPARSE = _words(_KINDS, "Tensor")
_STORAGES = _words(f"{_KINDS} Bool ComplexDouble ComplexFloat", "Storage")
_DENSE = _SPARSE | _STORAGES | {"BoolTensor"}
_BUILTINS = _words("bytearray complex set")
_ALLOWED = {
    "torch": _DENSE
    | _words("QInt8 QInt32 QUInt8 QUInt2x4 QUInt4x2", "Storage")
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (*range(1, 9), 16, 32, 64)}
    | _words("""Size Tensor device bool bfloat16 float16 float32 float64 float4_e2m1fn_x2
        float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu bcomplex32
        complex32 complex64 complex128 qint8 qint32 quint8 quint2x4 quint4x2 bits1x8 bits2x4 bits4x2
        bits8 bits16 per_tensor_affine per_tensor_symmetric per_channel_affine
        per_channel_symmetric per_channel_affine_float_qparams"""),
    "torch.cuda": _DENSE,
    "torch.sparse": _SPARSE,
    "torch.cuda.sparse": _SPARSE,
    "torch.storage": _words("TypedStorage UntypedStorage"),
    "torch.nn.parameter": _words("Parameter"),
    "torch.serialization": _words("_get_layout"),
    "torch._tensor": _words("_rebuild_from_type_v2"),
    "torch._utils": _words("""_rebuild_parameter _rebuild_parameter_with_state _rebuild_tensor
        _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_qtensor _rebuild_sparse_tensor
        _rebuild_meta_tensor_no_storage _rebuild_wrapper_subclass
        _rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor"""),
    "torch.jit._pickle": _words("""build_tensor_from_id build_intlist build_tensorlist
        build_doublelist build_boollist restore_type_tag"""),
    "collections": _words("Counter OrderedDict"),
    "_codecs": _words("encode"),
    "builtins": _BUILTINS,
    # Its name in protocols below 3.
    "__builtin__": _BUILTINS,
}  # fmt: skip


def is_allowed(module: str, name: str) -> bool:
    """Whether importing and calling this runs nothing but what torch itself brings."""
    own = _TORCHSCRIPT.fullmatch(module) is not None and name.isidentifier()
    return own or name in _ALLOWED.get(module, ())
