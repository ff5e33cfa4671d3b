"""What torch and TorchScript write passes, and the list of names is that of their readers."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from marwright.archive.rules import pickle_names
from marwright.archive.rules.pickles import pickle_problems
from tests.archive.rules.pickled import (
    ADVICE,
    CALLS_CWD,
    PROTOCOLS,
    Foreign,
    holds_pickles,
    saved,
    written,
    zipped,
)

if TYPE_CHECKING:
    import torch
# What torch writes, and what its own restricted unpickler says of it.


def network() -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 3))


def checkpoint() -> dict[str, Any]:
    """Return what a training loop keeps, after a step of it."""
    import torch

    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "history": [collections.OrderedDict(epoch=1, loss=0.5), (True, None, 1 << 70, -1.5)],
        "generator": torch.get_rng_state(),
    }


def tensors() -> dict[str, Any]:
    import torch

    sparse = torch.eye(3).to_sparse()
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.note = "an attribute"
    return {
        "empty": torch.zeros(0),
        "scalar": torch.tensor(1.0),
        "view": torch.arange(6).reshape(2, 3)[:, 1:],
        "conjugate": torch.zeros(2, dtype=torch.complex64).conj(),
        "sparse": sparse,
        "meta": torch.zeros(2, device="meta"),
        "parameter": torch.nn.Parameter(torch.zeros(2)),
        "parameter with an attribute": parameter,
        "buffer": torch.nn.Buffer(torch.zeros(2)),
        "begins as a pickle does": torch.tensor([0x80, 2, 0x63, 0x4E] * 8, dtype=torch.uint8),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.bfloat16,
        "layout": torch.strided,
    }


def values() -> Iterator[tuple[str, Any]]:
    """Yield what one might save, things among it that torch will not load."""
    import numpy
    import torch

    yield from tensors().items()
    yield "checkpoint", checkpoint()
    yield "counter", collections.Counter("aab")
    yield "defaultdict", collections.defaultdict(list, a=[1])
    yield "set", {1, 2}
    yield "frozenset", frozenset({1})
    yield "bytes", b"\x80\x02"
    yield "no bytes", b""
    yield "bytearray", bytearray(b"a")
    yield "complex", 1j
    yield "slice", slice(1, 2)
    yield "range", range(3)
    yield "path", Path("a")
    yield "type", int
    yield "function", len
    yield "array", numpy.zeros(2)
    yield "number of numpy's", numpy.float32(1)
    yield "whole module", network()
    yield "foreign", {"a": torch.zeros(2), "b": [Foreign()]}
    yield "optimizer", torch.optim.SGD([torch.zeros(2)])


NAMES = [
    "empty", "scalar", "view", "conjugate", "sparse", "meta", "parameter",
    "parameter with an attribute", "buffer", "begins as a pickle does", "size", "device", "dtype",
    "layout", "checkpoint", "counter", "defaultdict", "set", "frozenset", "bytes",
    "no bytes", "bytearray", "complex", "slice", "range", "path", "type", "function", "array",
    "number of numpy's", "whole module", "foreign", "optimizer",
]  # fmt: skip


@pytest.mark.torch
def test_names_of_values_are_complete() -> None:
    assert [name for name, _ in values()] == NAMES


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")
@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", NAMES)
def test_verdict_is_that_of_weights_only(tmp_path: Path, name: str, zip_file: bool) -> None:
    import torch

    file = saved(tmp_path, dict(values())[name], _use_new_zipfile_serialization=zip_file)
    try:
        torch.load(file, weights_only=True)
    except pickle.UnpicklingError:
        loads = False
    else:
        loads = True
    problems = pickle_problems(file)
    assert (problems == []) == loads, problems
    assert holds_pickles(file)
    assert loads or all(ADVICE in problem for problem in problems)


@pytest.mark.torch
def test_list_is_that_of_weights_only() -> None:
    """A torch that allows more or fewer names shows here."""
    from torch._weights_only_unpickler import _get_allowed_globals
    from torch.jit import _pickle

    ours = {f"{place}.{name}" for place, names in pickle_names._ALLOWED.items() for name in names}
    functions = {f"torch.jit._pickle.{name}" for name in vars(_pickle) if name[0] != "_"}
    old = {name.replace("builtins", "__builtin__") for name in ours if name[:8] == "builtins"}
    assert ours == {*_get_allowed_globals(), *functions, *old}


@pytest.mark.torch
@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_of_torch_is_read(tmp_path: Path, protocol: int, zip_file: bool) -> None:
    options = {"_use_new_zipfile_serialization": zip_file, "pickle_protocol": protocol}
    assert pickle_problems(saved(tmp_path, checkpoint(), **options)) == []
    (problem,) = pickle_problems(saved(tmp_path, Foreign(), **options))
    assert problem.removeprefix("model/data.pkl: ") == CALLS_CWD


@pytest.mark.torch
@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "legacy"])
def test_every_dtype_is_accepted(tmp_path: Path, zip_file: bool) -> None:
    import torch

    dtypes = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    assert len(dtypes) > 30
    whole = {
        torch.float64,
        *torch.storage._new_dtypes(),
        *torch.storage._dtype_to_storage_type_map(),
    }
    # A view of a quantized or of a boolean type is not to be had.
    viewed = [kind for kind in whole if kind in dtypes and kind is not torch.bool
              and not str(kind).startswith(("torch.q", "torch.bits"))]  # fmt: skip
    tensors = {f"{kind} tensor": torch.zeros(16, dtype=torch.uint8).view(kind) for kind in viewed}
    tensors |= {str(kind): kind for kind in dtypes}
    file = saved(tmp_path, tensors, _use_new_zipfile_serialization=zip_file)
    assert pickle_problems(file) == []


@pytest.mark.torch
def test_whole_module_is_told_what_to_do(tmp_path: Path) -> None:
    (problem,) = pickle_problems(saved(tmp_path, network()))
    assert problem == (
        "model/data.pkl: calls torch.nn.modules.batchnorm.BatchNorm2d, "
        "torch.nn.modules.container.Sequential, torch.nn.modules.conv.Conv2d, "
        f"torch.nn.modules.flatten.Flatten and 1 more when it is loaded; {ADVICE}"
    )


@pytest.mark.torch
def test_legacy_file_is_read_to_where_its_storages_begin(tmp_path: Path) -> None:
    import torch

    weights = torch.frombuffer(bytearray(pickle.dumps(Foreign(), 2) * 9), dtype=torch.uint8)
    file = saved(tmp_path, {"a": weights}, _use_new_zipfile_serialization=False)
    assert pickle_problems(file) == []
    whole = file.read_bytes()
    for start in starts(whole):
        changed = whole[:start] + pickle.dumps(Foreign(), 2) + whole[start:]
        assert CALLS_CWD in pickle_problems(written(tmp_path, changed))


def starts(content: bytes) -> Iterator[int]:
    """Yield where each of the five pickles begins."""

    class Unstored(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return collections.OrderedDict if name == "OrderedDict" else lambda *_: None

        def persistent_load(self, pid: Any) -> None: ...

    file = io.BytesIO(content)
    for _ in range(5):
        yield file.tell()
        Unstored(file).load()


# TorchScript.


def scripted(name: str) -> Any:
    """Return a module of TorchScript's, each with other things in its pickles."""
    import torch

    class Attributes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            declare = torch.jit.Attribute
            self.strings = declare(["a"], list[str])
            self.flags = declare([True], list[bool])
            self.numbers = declare([1, 2], list[int])
            self.reals = declare([0.5], list[float])
            self.tensors = declare([torch.zeros(2)], list[torch.Tensor])
            self.table = declare({"a": 1}, dict[str, int])
            self.nested = declare({1: [("a", 0.5)]}, dict[int, list[tuple[str, float]]])
            self.nothing = declare(None, int | None)
            self.complex = 1j
            self.place = torch.device("cpu")
            self.dtype = torch.float16

        def forward(self, x):  # type: ignore[no-untyped-def]
            return x + len(self.strings) + self.table["a"]

    class Quantized(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("a", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))
            scales, points = torch.ones(3), torch.zeros(3)
            self.register_buffer(
                "b", torch.quantize_per_channel(torch.ones(3), scales, points, 0, torch.quint8)
            )

        def forward(self, x):  # type: ignore[no-untyped-def]
            return x + self.a.dequantize() + self.b.dequantize()

    class Constants(torch.nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            return x + torch.tensor([1.0, 2.0]), ["a", "b"], {"c": 1}

    class Dtypes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8,
                          torch.int16, torch.int64, torch.bool, torch.complex64):  # fmt: skip
                self.register_buffer(str(dtype)[6:] + "_", torch.zeros(2).to(dtype))

        def forward(self, x):  # type: ignore[no-untyped-def]
            return x + self.float64_

    network_of_many = network().eval()
    network_of_many(torch.zeros(2, 1, 5, 5))
    if name == "traced":
        return torch.jit.trace(network_of_many, torch.zeros(2, 1, 5, 5))
    if name == "frozen":
        return torch.jit.freeze(torch.jit.script(network_of_many))
    if name == "network":
        return torch.jit.script(network_of_many)
    if name == "lstm":
        return torch.jit.script(torch.nn.LSTM(2, 3))
    kinds = {kind.__name__.lower(): kind for kind in (Attributes, Quantized, Constants, Dtypes)}
    return torch.jit.script(kinds[name]())


SCRIPTED = [
    "traced", "frozen", "network", "lstm", "attributes", "quantized", "constants", "dtypes",
]  # fmt: skip


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("name", SCRIPTED)
def test_torchscript_is_accepted(tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.pt"
    scripted(name).save(str(file), _extra_files={"labels.txt": "cat\ndog\n"})
    assert pickle_problems(file) == []
    assert holds_pickles(file)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_packed_weights_of_quantized_layers_are_accepted(tmp_path: Path) -> None:
    import torch

    layers = torch.nn.Sequential(torch.nn.Linear(3, 2))
    quantized = torch.ao.quantization.quantize_dynamic(layers, {torch.nn.Linear})
    torch.jit.script(quantized).save(str(tmp_path / "model.pt"))
    assert pickle_problems(tmp_path / "model.pt") == []


@pytest.mark.torch
def test_foreign_name_in_torchscript_is_refused(tmp_path: Path) -> None:
    import torch

    file = tmp_path / "model.pt"
    scripted("traced").save(str(file))
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for name in ("model/data.pkl", "model/constants.pkl", "model/extra/weights.bin"):
        changed = zipped({**members, name: pickle.dumps(Foreign(), 2)})
        assert pickle_problems(written(tmp_path, changed)) == [f"{name}: {CALLS_CWD}"]
    assert torch.jit.load(str(file)) is not None


@pytest.mark.torch
def test_exported_program_is_looked_into(tmp_path: Path) -> None:
    import torch

    file = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(1, 3),)), file)
    assert pickle_problems(file) == []
    assert holds_pickles(file)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    (inside,) = (name for name in members if name.endswith("sample_inputs/model.pt"))
    bad = saved(tmp_path, [Foreign()]).read_bytes()
    assert pickle_problems(written(tmp_path, zipped({**members, inside: bad}))) == [
        f"{inside}: model/data.pkl: {CALLS_CWD}"
    ]
