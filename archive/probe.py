"""Run an unpacked archive through TorchServe's own loader: `python -I probe.py FOLDER`.

`verify` starts this file in a clean process. It imports nothing of the project, so that a
handler finds what the archive holds or fails. What it prints is one line of JSON,
`{"problems": […], "golden_samples": N}`; what the handler prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

GOLDEN = "MAR-INF/golden"


def probe(folder: Path) -> tuple[list[str], int]:
    """Load the archive and send its golden samples; returns the problems and the sample count."""
    # As the server does: the archive's folder first on the path, and as working folder.
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    manifest = json.loads((folder / "MAR-INF/MANIFEST.json").read_text())["model"]
    handler = manifest["handler"]
    try:
        service = load(folder, manifest)
    # Whatever a stranger's handler raises is the finding.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        cause = error
        if isinstance(error, ImportError) and isinstance(error.__context__, ImportError):
            # The loader hides it: it goes on to look for a handler of its own of that name.
            cause = error.__context__
        return [f"{handler}: TorchServe cannot load it: {type(cause).__name__}: {cause}"], 0
    module = sys.modules.get(handler.partition(":")[0].removesuffix(".py").split("/")[-1])
    if module is None or not Path(str(module.__file__)).is_relative_to(folder):
        return [f"{handler}: loaded from outside the archive"], 0
    index = folder / GOLDEN / "index.json"
    if not index.exists():
        return [], 0
    return compare(folder, json.loads(index.read_text()), service, module)


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
    folder: Path, golden: dict[str, Any], service: Any, module: Any
) -> tuple[list[str], int]:
    """Hold tensors, outputs and answers of the golden samples against the recorded ones."""
    from safetensors.torch import load_file

    tensors = load_file(folder / GOLDEN / "tensors.safetensors")
    problems = []
    for number, sample in enumerate(golden["samples"]):
        pair = tensors[f"input.{number}"], tensors[f"output.{number}"]
        body = (folder / sample["request"]).read_bytes()
        try:
            found = differences(golden, sample, body, pair, service, module)
        # A handler may raise anything; the next sample may say more.
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            found = [f"the handler fails: {type(error).__name__}: {error}"]
        problems += [f"{sample['request']}: {problem}" for problem in found]
    return problems, len(golden["samples"])


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
    status, answer = ask(service, body, sample["content_type"])
    if status != 200:
        problems.append(f"answered with status {status}: {answer!r}")
    elif not same(answer, expected, 1e-3):
        problems.append(f"the answer is {answer}, recorded is {expected}")
    return problems


def ask(service: Any, body: bytes, content_type: str) -> tuple[int, Any]:
    """Send one request the way TorchServe's worker does; returns the status and the answer."""
    value = json.loads(body) if content_type == "application/json" else bytearray(body)
    parameter = {"name": "body", "contentType": content_type, "value": value}
    request = {"requestId": b"0", "headers": [], "parameters": [parameter]}
    headers, inputs, ids = service.retrieve_data_for_inference([request])
    context = service.context
    context.request_ids, context.request_processor = ids, headers
    answers = service._entry_point(inputs, context)
    return context.get_response_status(0)[0], json.loads(answers[0])


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
    found, count = probe(Path(sys.argv[1]).resolve())
    result.write(json.dumps({"problems": found, "golden_samples": count}) + "\n")
    result.close()
