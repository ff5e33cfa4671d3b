"""Run an unpacked archive through TorchServe's own loader: `python -I probe.py FOLDER`.

`verify` starts this file in a clean process; of a workflow it names the functions behind the
folder, as in `handler.py:preprocess`. It imports nothing of the project, so that a handler finds
what the archive holds or fails. What it prints is one line of JSON, the fields of `Result`; what
the handler prints goes to standard error.
"""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import sys
import threading
import time
import traceback
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

GOLDEN = "MAR-INF/golden"
# No image, no JSON, and no text in UTF-8.
JUNK = b"\xff this is no request"


@dataclass
class Result:
    """What was found; `seconds` by stage: the payload opened, the handler loaded, samples sent."""

    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    golden_samples: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def probe(folder: Path) -> Result:
    """Open the payload, load the archive, and send its golden samples."""
    result = Result()
    manifest = json.loads((folder / "MAR-INF/MANIFEST.json").read_text())
    model = manifest["model"]
    # First of all, because what an archive holds may hide what torch itself imports.
    enter(folder)
    started = time.monotonic()
    if name := model.get("serializedFile"):
        open_payload(folder / name, result)
    result.seconds["open"] = time.monotonic() - started
    if manifest["runtime"] == "LSP":
        result.unchecked.append("handler: only TorchServe's C++ backend can run it")
        return result
    if result.problems:
        return result
    started = time.monotonic()
    loaded = load_handler(folder, model, result)
    result.seconds["load"] = time.monotonic() - started
    index = folder / GOLDEN / "index.json"
    if loaded is not None and index.exists():
        started = time.monotonic()
        compare(folder, json.loads(index.read_text()), *loaded, result)
        result.seconds["golden"] = time.monotonic() - started
    return result


def probe_functions(folder: Path, functions: Sequence[str]) -> Result:
    """Load a workflow's functions, each as the worker of a node does."""
    result = Result()
    started = time.monotonic()
    for function in functions:
        file, _, name = function.partition(":")
        model = {"modelName": name, "handler": function}
        enter((folder / file).parent)
        if load_handler((folder / file).parent, model, result) is None:
            result.problems[-1] += f" ({name} is called once with None for data when it is loaded)"
    result.seconds["load"] = time.monotonic() - started
    return result


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


def compare(
    folder: Path, golden: dict[str, Any], service: Any, module: Any, result: Result
) -> None:
    """Hold tensors, outputs and answers of the golden samples against the recorded ones.

    What is right of each alone is then looked at in one batch.
    """
    from safetensors.torch import load_file

    tensors = load_file(folder / GOLDEN / "tensors.safetensors")
    for number, sample in enumerate(golden["samples"]):
        pair = tensors[f"input.{number}"], tensors[f"output.{number}"]
        body = (folder / sample["request"]).read_bytes()
        try:
            found = differences(golden, sample, body, pair, service, module)
        # A handler may raise anything; the next sample may say more.
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            found = [f"the handler fails: {type(error).__name__}: {first_line(error)}"]
        result.problems += [f"{sample['request']}: {problem}" for problem in found]
    if not result.problems:
        try:
            found = together(folder, golden, tensors, service, module)
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            found = [f"the handler fails: {type(error).__name__}: {first_line(error)}"]
        result.problems += [f"golden samples in one batch: {problem}" for problem in found]
    result.golden_samples = len(golden["samples"])


def differences(
    golden: dict[str, Any],
    sample: dict[str, Any],
    body: bytes,
    recorded: tuple[Any, Any],
    service: Any,
    module: Any,
) -> list[str]:
    """Walk one sample through the archive, stage by stage: tensor, output, answer, response."""
    import torch

    problems = []
    inputs, outputs = recorded
    loaded = module.service.loaded
    read = module.service.read(body, loaded.spec)
    if read.dtype != inputs.dtype or not torch.equal(read, inputs):
        problems.append("preprocessing gives another tensor than training's")
    with torch.inference_mode():
        made = loaded.model(inputs.to(loaded.device)).cpu()
    close = {"atol": golden["atol"], "rtol": golden["rtol"]}
    if made.shape != outputs.shape or not torch.allclose(made, outputs, **close):
        problems.append("the payload's output is not the checkpoint's")
    expected = sample["answer"]
    answer = json.loads(json.dumps(module.service.answer(outputs, loaded)))
    # From the very outputs of the checkpoint, so nothing but a last digit may differ.
    if not same(answer, expected, 2e-6):
        problems.append(
            f"postprocessing makes {answer} of the checkpoint's output, recorded is {expected}"
        )
    answers = ask(service, [(body, sample["content_type"])])
    if isinstance(answers, str):
        return [*problems, answers]
    [(status, text)] = answers
    answer = json.loads(text)
    if status != 200:
        problems.append(f"answered with status {status}: {answer!r}")
    elif not same(answer, expected, 1e-3):
        problems.append(f"the answer is {answer}, recorded is {expected}")
    return problems


def together(
    folder: Path, golden: dict[str, Any], tensors: dict[str, Any], service: Any, module: Any
) -> list[str]:
    """Send all samples as one batch, behind what is no request, and look at their outputs."""
    import torch

    samples = golden["samples"]
    requests = [((folder / each["request"]).read_bytes(), each["content_type"]) for each in samples]
    answers = ask(service, [(JUNK, "application/octet-stream"), *requests])
    if isinstance(answers, str):
        return [answers]
    problems, (refused, *statuses) = [], [status for status, _ in answers]
    if not 400 <= refused < 500:
        problems.append(f"what is no request is answered with status {refused}, not with a 4xx")
    if any(status != 200 for status in statuses):
        problems.append(f"answered with status {', '.join(map(str, statuses))}")
    loaded = module.service.loaded
    # Texts are of many lengths; archives that were made before there were any need not know that.
    join = getattr(sys.modules.get("handlers.preprocess"), "batched", torch.cat)
    inputs = join([module.service.read(body, loaded.spec) for body, _ in requests])
    recorded = torch.cat([tensors[f"output.{number}"] for number in range(len(samples))])
    with torch.inference_mode():
        made = loaded.model(inputs.to(loaded.device)).cpu()
    # Both may be as far from float64 as the gate allows.
    close = {"atol": 2 * golden["atol"], "rtol": 2 * golden["rtol"]}
    if made.shape != recorded.shape or not torch.allclose(made, recorded, **close):
        problems.append("the payload's output is not the checkpoint's")
    return problems


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


def same(answer: Any, expected: Any, tolerance: float) -> bool:
    """Compare two answers: equal in form and text, numbers within `tolerance` of 1 + their size."""
    if isinstance(expected, dict):
        return (
            isinstance(answer, dict)
            and answer.keys() == expected.keys()
            and all(same(answer[key], expected[key], tolerance) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(answer, list)
            and len(answer) == len(expected)
            and all(same(a, e, tolerance) for a, e in zip(answer, expected, strict=True))
        )
    if isinstance(expected, float) and isinstance(answer, (int, float)):
        return bool(abs(answer - expected) <= tolerance * (1 + abs(expected)))
    return bool(answer == expected)


def end_with_parent() -> None:
    """End when whoever started us does: the other end of our stdin closes with it."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    # Started by hand, stdin may be anything, and its end means nothing.
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    result = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever the archive's code prints, in Python or below it, is not the result.
    os.dup2(2, 1)
    unpacked = Path(sys.argv[1]).resolve()
    found = probe_functions(unpacked, sys.argv[2:]) if sys.argv[2:] else probe(unpacked)
    result.write(json.dumps(asdict(found)) + "\n")
    result.close()
