"""Run an unpacked archive through TorchServe's own loader: `python -I probe.py FOLDER`.

`verify` starts this file in a clean process. It imports nothing of the project, so that a
handler finds what the archive holds or fails; the last line it prints is JSON:
`{"problems": […], "golden_samples": N}`.
"""

from __future__ import annotations

import json
import os
import sys
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
        return [f"{handler}: TorchServe cannot load it: {type(error).__name__}: {error}"], 0
    module = sys.modules.get(handler.partition(":")[0].removesuffix(".py").split("/")[-1])
    if module is None or not str(module.__file__).startswith(str(folder)):
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
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / GOLDEN / "tensors.safetensors")
    atol, rtol = golden["atol"], golden["rtol"]
    problems = []
    for number, sample in enumerate(golden["samples"]):
        name = sample["request"]
        body = (folder / name).read_bytes()
        loaded = module.service.loaded
        read = module.service.read(body, loaded.spec)
        if not torch.equal(read, tensors[f"input.{number}"]):
            problems.append(f"{name}: preprocessing gives another tensor than training's")
        with torch.inference_mode():
            output = loaded.model(tensors[f"input.{number}"].to(loaded.device)).cpu()
        expected = tensors[f"output.{number}"]
        if output.shape != expected.shape or not torch.allclose(
            output, expected, atol=atol, rtol=rtol
        ):
            problems.append(f"{name}: the payload's output is not the checkpoint's")
        status, answer = ask(service, body, sample["content_type"])
        if status != 200:
            problems.append(f"{name}: answered with status {status}: {answer!r}")
        elif not same(answer, sample["answer"]):
            problems.append(f"{name}: the answer is {answer}, recorded is {sample['answer']}")
    return problems, len(golden["samples"])


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


def same(answer: Any, expected: Any) -> bool:
    """Compare two answers: equal in form and text, numbers within a thousandth."""
    if isinstance(expected, dict):
        return (
            isinstance(answer, dict)
            and answer.keys() == expected.keys()
            and all(same(answer[key], expected[key]) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(answer, list)
            and len(answer) == len(expected)
            and all(same(a, e) for a, e in zip(answer, expected, strict=True))
        )
    if isinstance(expected, float) and isinstance(answer, (int, float)):
        return bool(abs(answer - expected) <= 1e-3 + 1e-3 * abs(expected))
    return bool(answer == expected)


if __name__ == "__main__":
    found, count = probe(Path(sys.argv[1]).resolve())
    print(json.dumps({"problems": found, "golden_samples": count}))  # noqa: T201
