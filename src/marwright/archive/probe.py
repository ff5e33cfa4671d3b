"""Run an unpacked archive as a worker of TorchServe does, and answer what is asked of it.

`verify` starts this file as TorchServe starts its worker, and asks by a pipe, as in
`archive/probing.py`: it alone knows what is right. This imports nothing of the project, so that a
handler finds what the archive holds or fails. What a handler does here spoils its own answers only.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import struct
import sys
import traceback
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, Any

# Before a message: the bytes of its JSON.
LENGTH = struct.Struct(">I")
# What packs archives: this file's own package.
PACKER = "marwright"
# Where our handlers batch, now and in archives that were made before.
_PREPROCESS = ("marwright.runtime.preprocess", "handlers.preprocess")
_CODE = (".py", ".pyc", ".so", ".pyd")
# What a worker runs on, and what opens payloads.
_WORKERS, _OPENERS = ("ts", "torch"), ("torch", "onnx")
# Seconds before its time is up, at which a process says where it is.
EARLY = 0.3


@dataclass
class Result:
    """What was found."""

    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    # Modules that are not installed, without which it could not be looked for.
    lacks: list[str] = field(default_factory=list)


class Answers:
    """Answers one request after another; each is a method, its reply JSON and tensors or bodies."""

    def __init__(self, folder: Path, lacks: Sequence[str] = ()) -> None:
        self.folder = folder
        self.lacks = lacks
        self.service: Any = None
        self.module: Any = None
        self.payload: Path | None = None
        self.model: Any = None
        # Archives that were made before `read` and `answer` exchanged arrays.
        self.in_tensors = False
        # What went into `inference`, and what came out of it.
        self.inferred: list[Any] = []

    def ready(self, blobs: list[bytes]) -> dict[str, Any]:
        """Say that Python runs, and what of the worker's it has not."""
        return {"lacks": [*self.lacks]}

    def open(self, blobs: list[bytes], name: str) -> dict[str, Any]:
        """Open the payload."""
        result, self.payload = Result(), self.folder / name
        open_payload(self.payload, result)
        return {"problems": result.problems, "unchecked": result.unchecked, "lacks": result.lacks}

    def load(self, blobs: list[bytes], model: dict[str, Any], below: str = "") -> dict[str, Any]:
        """Load a handler, or a workflow's function, which lies `below`."""
        result, folder = Result(), self.folder / below
        enter(folder)
        if (loaded := load_handler(folder, model, result)) is not None:
            self.service, self.module = loaded
        return {"problems": result.problems}

    def outside(self, blobs: list[bytes], below: str = "") -> dict[str, Any]:
        """Name modules that came from elsewhere although the archive has them."""
        return {"names": outside(self.folder / below)}

    def read(self, blobs: list[bytes]) -> dict[str, Any]:
        """Make a tensor of requests."""
        return {"tensor": self._read(blobs)}

    def _read(self, blobs: list[bytes]) -> Any:
        import torch

        loaded = self.module.service.loaded
        read = [self.module.service.read(body, loaded.spec) for body in blobs]
        self.in_tensors = isinstance(read[0], torch.Tensor)
        # Texts are of many lengths; archives that were made before there were any need not know.
        modules = [sys.modules[name] for name in _PREPROCESS if name in sys.modules]
        join = getattr(next(iter(modules), None), "batched", torch.cat)
        made = read[0] if len(read) == 1 else join(read)
        return made if self.in_tensors else torch.from_numpy(made)

    def run(self, blobs: list[bytes], dtype: str, shape: list[int]) -> dict[str, Any]:
        """Put a tensor through the payload."""
        return {"tensor": self._run(tensor_of(blobs[0], dtype, shape))}

    def forward(self, blobs: list[bytes], dtype: str, shape: list[int]) -> dict[str, Any]:
        """Put a tensor through the payload itself, which is TorchScript."""
        import torch

        if self.model is None:
            self.model = torch.jit.load(  # type: ignore[no-untyped-call]
                str(self.payload), map_location="cpu"
            ).eval()
        with torch.inference_mode():
            return {"tensor": self.model(tensor_of(blobs[0], dtype, shape))}

    def together(self, blobs: list[bytes]) -> dict[str, Any]:
        """Put requests through the payload as one batch."""
        return {"tensor": self._run(self._read(blobs))}

    def _run(self, inputs: Any) -> Any:
        import torch

        loaded = self.module.service.loaded
        with torch.inference_mode():
            return loaded.model(inputs.to(loaded.device)).cpu()

    def answer(self, blobs: list[bytes], dtype: str, shape: list[int]) -> dict[str, Any]:
        """Make an answer of an output."""
        outputs = tensor_of(blobs[0], dtype, shape)
        outputs = outputs if self.in_tensors else outputs.numpy()
        return {"answer": self.module.service.answer(outputs, self.module.service.loaded)}

    def watch(self, blobs: list[bytes]) -> dict[str, Any]:
        """Keep what goes into the handler's `inference`, and what comes out of it, from now on."""
        return {"watches": watch(self.service, self.module, self.inferred)}

    def seen(self, blobs: list[bytes]) -> dict[str, Any]:
        """Return the oldest value that was kept: a tensor, what else it is, or nothing."""
        if not self.inferred:
            return {"nothing": True}
        value = self.inferred.pop(0)
        return {"kind": value} if isinstance(value, str) else {"tensor": value}

    def ask(self, blobs: list[bytes], types: list[str]) -> dict[str, Any]:
        """Send requests as one batch."""
        answers = ask(self.service, list(zip(blobs, types, strict=True)))
        if isinstance(answers, str):
            return {"refused": answers}
        return {"statuses": [status for status, _ in answers], "blobs": [b for _, b in answers]}


def watch(service: Any, module: Any, kept: list[Any]) -> bool:
    """Put a watch before each `inference` that the handler may call; whether there is one."""
    owner = getattr(service._entry_point, "__self__", None)
    owners = [owner] if owner is not None else [module, *vars(module).values()]
    found = False
    for one in owners:
        # Of a module only its own function, and of classes what is made of them.
        if isinstance(one, type) or (isinstance(one, ModuleType) and one is not module):
            continue
        if callable(inference := getattr(one, "inference", None)):
            one.inference = _watched(inference, kept)
            found = True
    return found


def _watched(inference: Any, kept: list[Any]) -> Any:
    def watched(data: Any, *more: Any, **named: Any) -> Any:
        # As it comes: a network may write into what it is given.
        before = _kept(data)
        made = inference(data, *more, **named)
        kept.extend([before, _kept(made)])
        return made

    return watched


def _kept(value: Any) -> Any:
    """Return a copy of a tensor or an array; of anything else what it is."""
    import numpy as np
    import torch

    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(value.copy())
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        value = value.detach().cpu().clone()
        # NumPy has no such numbers.
        return value.float() if value.dtype == torch.bfloat16 else value
    return type(value).__name__


def outside(folder: Path) -> list[str]:
    """Return the top-level modules that came from elsewhere although the archive has them.

    And `PACKER`, which is installed where archives are made, and on no server.
    """
    names = {PACKER}
    for path in folder.iterdir():
        # In a folder without an `__init__.py`, what is below it counts.
        if path.suffix in _CODE or (path.is_dir() and any(path.rglob("*.py"))):
            names.add(path.name.partition(".")[0])
    found = []
    for name in sorted(names - {"__main__"}):
        if (module := sys.modules.get(name)) is not None:
            places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
            if not any(place and Path(place).is_relative_to(folder) for place in places):
                found.append(name)
    return found


def tensor_of(data: bytes, dtype: str, shape: list[int]) -> Any:
    """Return a tensor of its bytes."""
    import torch

    kind = getattr(torch, dtype)
    if not data:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(bytearray(data), dtype=kind).reshape(shape)


def serve(asked: IO[bytes], replies: IO[bytes], folder: Path, lacks: Sequence[str] = ()) -> None:
    """Answer requests until there are no more."""
    answers = Answers(folder, lacks)
    while (request := receive(asked)) is not None:
        header, blobs = request
        token, seconds = header.pop("token"), header.pop("seconds")
        faulthandler.dump_traceback_later(max(seconds - EARLY, 0.1), file=2)
        try:
            reply = getattr(answers, header.pop("do"))(blobs, **header)
        except SystemExit as ended:
            traceback.print_exc()
            reply = {"ends": f"sys.exit({'' if ended.code is None else repr(ended.code)})"}
        # Whatever a stranger's handler raises is the finding.
        except BaseException as error:  # noqa: BLE001
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {first_line(error)}"}
        faulthandler.cancel_dump_traceback_later()
        send(replies, {**reply, "token": token})


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]] | None:
    """Read one message; None at the end."""
    if len(start := stream.read(LENGTH.size)) < LENGTH.size:
        return None
    header = json.loads(stream.read(LENGTH.unpack(start)[0]))
    return header, [stream.read(size) for size in header.pop("sizes")]


def send(stream: IO[bytes], reply: dict[str, Any]) -> None:
    """Write one message: a tensor goes as its bytes."""
    blobs = reply.pop("blobs", [])
    if "tensor" in reply:
        tensor = reply.pop("tensor").detach().cpu().contiguous()
        reply |= {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
        blobs = [as_bytes(tensor)]
    try:
        header = json.dumps({**reply, "sizes": [len(blob) for blob in blobs]}).encode()
    except (TypeError, ValueError, RecursionError) as error:
        kept = {"token": reply["token"], "error": f"no JSON: {first_line(error)}", "sizes": []}
        header, blobs = json.dumps(kept).encode(), []
    stream.write(LENGTH.pack(len(header)) + header)
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def as_bytes(tensor: Any) -> bytes:
    """Return what a tensor on the CPU, without gaps, holds."""
    import torch

    data: bytes = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return data


def enter(folder: Path) -> None:
    """Do as the server does: the archive's folder first on the path, and as working folder."""
    if sys.path[0] != str(folder):
        sys.path.insert(0, str(folder))
    os.chdir(folder)


def open_payload(path: Path, result: Result) -> None:
    """Open a payload of a known kind without running anything of it."""
    try:
        kind = payload_kind(path)
        if kind == "TorchScript":
            import torch

            torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        elif kind == "weights":
            import torch

            torch.load(path, map_location="cpu", weights_only=True)
        elif kind == "ONNX":
            import onnx

            # By path, because models above 2 GiB have a file beside them.
            onnx.checker.check_model(str(path))
        elif kind == "safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="np") as tensors:
                tensors.keys()
        else:
            result.unchecked.append(f"{path.name}: a payload of a kind that cannot be opened here")
    # Each library raises its own.
    except Exception as error:  # noqa: BLE001
        if isinstance(error, ModuleNotFoundError) and error.name in _OPENERS:
            result.lacks.append(error.name)
            return
        traceback.print_exc()
        result.problems.append(
            f"{path.name}: cannot be opened as {kind}: {type(error).__name__}: {first_line(error)}"
        )


def first_line(error: BaseException) -> str:
    """Return what an error says first; the rest is on standard error."""
    return (str(error).strip().splitlines() or [""])[0]


def payload_kind(path: Path) -> str:
    """Tell what a payload is: by what is in it, and by its name where that says nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    # No zip, or one that is none: its end record may have come about by accident.
    except (zipfile.BadZipFile, struct.error, EOFError, OSError, RuntimeError, ValueError):
        pass
    else:
        if "constants.pkl" in names:
            return "TorchScript"
        return "weights" if "data.pkl" in names else "unknown"
    kinds = {".onnx": "ONNX", ".safetensors": "safetensors", ".pt": "weights", ".pth": "weights"}
    return kinds.get(path.suffix.lower(), "unknown")


def load_handler(folder: Path, model: dict[str, Any], result: Result) -> tuple[Any, Any] | None:
    """Return TorchServe's service for the archive and the handler's module."""
    handler = model["handler"]
    try:
        service = load(folder, model)
    # Whatever a stranger's handler raises is the finding.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        cause: BaseException = error
        if isinstance(error, ImportError) and isinstance(error.__context__, ImportError):
            # The loader hides it: it goes on to look for a handler of its own of that name.
            cause = error.__context__
        result.problems.append(
            f"{handler}: TorchServe cannot load it: {type(cause).__name__}: {first_line(cause)}"
        )
        return None
    name = handler.partition(":")[0].removesuffix(".py").split("/")[-1]
    module = sys.modules.get(name) or sys.modules.get(f"ts.torch_handler.{name}")
    file = folder / f"{name.replace('.', '/')}.py"
    # Without a file of its name, it is one of TorchServe's own.
    if file.exists() and (module is None or Path(str(module.__file__)) != file):
        result.problems.append(f"{handler}: loaded from outside the archive")
        return None
    return service, module


def load(folder: Path, manifest: dict[str, Any]) -> Any:
    """Return TorchServe's service for the archive, with what its worker would have given it."""
    import ts
    from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
    from ts.model_loader import ModelLoaderFactory

    metrics = MetricsCacheYamlImpl(str(Path(ts.__file__).parent / "configs" / "metrics.yaml"))
    metrics.initialize_cache()
    metrics.model_name = manifest["modelName"]
    service = ModelLoaderFactory.get_model_loader().load(
        manifest["modelName"], str(folder), manifest["handler"], None, 1, None, True, metrics
    )
    service.set_cl_socket(None)
    return service


def ask(service: Any, requests: Sequence[tuple[bytes, str]]) -> list[tuple[int, bytes]] | str:
    """Send requests, bodies with content types, as one batch, the way TorchServe's worker does.

    Returns statuses and bodies, or what the worker would refuse of the handler's answer.
    """
    from ts.service import PredictionException

    batch = []
    for number, (body, content_type) in enumerate(requests):
        value = decoded(body, content_type)
        parameter = {"name": "body", "contentType": content_type, "value": value}
        request = {"requestId": str(number).encode(), "headers": [], "parameters": [parameter]}
        batch.append(request)
    headers, inputs, ids = service.retrieve_data_for_inference(batch)
    context = service.context
    context.request_ids, context.request_processor = ids, headers
    context.metrics.request_ids, context.cl_socket = ids, service.cl_socket
    try:
        answers = service._entry_point(inputs, context)
    except PredictionException as error:
        # What a handler raises to answer the whole batch.
        return [(error.error_code, error.message.encode())] * len(batch)
    if not isinstance(answers, list):
        return f"the handler returned {type(answers).__name__}; TorchServe wants a list"
    if len(answers) != len(batch):
        return f"the handler returned {len(answers)} answers to {len(batch)} requests"
    try:
        bodies = [encoded(answer) for answer in answers]
    except (TypeError, ValueError) as error:
        return f"the handler returned what TorchServe cannot send: {error}"
    statuses = [context.get_response_status(number)[0] or 200 for number in range(len(batch))]
    return list(zip(statuses, bodies, strict=True))


def decoded(body: bytes, content_type: str) -> Any:
    """Return what the worker makes of a body: JSON and text if they are, bytes otherwise."""
    try:
        if content_type == "application/json":
            return json.loads(body.decode())
        if content_type.startswith("text"):
            return body.decode()
    except (ValueError, RecursionError):
        # The worker logs it and hands on what came.
        pass
    return bytearray(body)


def encoded(answer: Any) -> bytes:
    """Return an answer's bytes as the worker sends them; raises `TypeError` for what it cannot."""
    import torch

    if isinstance(answer, (bytes, bytearray)):
        return bytes(answer)
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, torch.Tensor):
        buffer = io.BytesIO()
        torch.save(answer, buffer)
        return buffer.getvalue()
    return json.dumps(answer, indent=2).encode()


def as_worker() -> None:
    """Look like the worker: its arguments, and no folder of ours on the path."""
    import ts

    home = Path(ts.__file__).parent
    sys.argv[:] = [
        str(home / "model_service_worker.py"), "--sock-type", "unix", "--sock-name",
        f"{os.environ.get('TMPDIR', '/tmp')}/.ts.sock.9000",
        "--metrics-config", str(home / "configs/metrics.yaml"),
    ]  # fmt: skip


if __name__ == "__main__":
    asked, replies = os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb")
    unpacked = Path(sys.argv[3])
    lacking: list[str] = []
    try:
        # What the worker has imported before it is told to load anything.
        import ts.model_loader  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in _WORKERS:
            raise
        lacking.append(error.name)
    else:
        as_worker()
    serve(asked, replies, unpacked, lacking)
    # Whatever the handler wanted to do at the end, the worker is killed before.
    os._exit(0)
