"""What TorchServe's own handlers cannot load is told before anything is packed."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.archive.rules.handler import STOCK
from marwright.archive.rules.stock import stock_problems

ONE = "import torch\nclass Model(torch.nn.Module):\n    pass\n"
NEED_A_MODEL = sorted(STOCK - {"trt_llm_handler", "vllm_handler"})


@pytest.mark.parametrize("handler", NEED_A_MODEL)
@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (None, "--handler {}: needs --serialized-file, or --model-file, or both"),
        ("a/model.pt", None),
        ("model.onnx", None),
        ("model.so", None),
        ("a/model.pth", "--serialized-file a/model.pth: without --model-file, {} loads TorchScript "
                        "that is called .pt, or one of .onnx, .so"),
        ("model.bin", "--serialized-file model.bin: without --model-file, {} loads TorchScript "
                      "that is called .pt, or one of .onnx, .so"),
    ],
)  # fmt: skip
def test_payload_alone_must_be_of_a_known_kind(
    handler: str, payload: str | None, problem: str | None
) -> None:
    found = stock_problems(handler, None, Path(payload) if payload else None)
    assert found == ([problem.format(handler)] if problem else [])


@pytest.mark.parametrize("payload", [None, "weights.pth", "weights.bin"])
@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("model.py", ONE, None),
        ("model.py", f"from x import Other\n{ONE}", None),
        ("model.py", "try:\n    class A: pass\nexcept ValueError:\n    class A: pass\n", None),
        ("model.py", "x = 1\n", "base_handler needs exactly one class in it; it has none"),
        ("model.py", f"{ONE}class B: pass\n",
         "base_handler needs exactly one class in it; it has B, Model"),
        ("my.model.py", ONE, "base_handler imports it by its name, up to the first dot"),
    ],
)  # fmt: skip
def test_model_file_has_one_class_and_a_name_without_dots(
    tmp_path: Path, name: str, source: str, problem: str | None, payload: str | None
) -> None:
    file = tmp_path / name
    file.write_text(source)
    found = stock_problems("base_handler", file, Path(payload) if payload else None)
    assert found == ([f"--model-file {file}: {problem}"] if problem else [])


@pytest.mark.parametrize("handler", ["trt_llm_handler", "vllm_handler", "own.py", "pkg.own:handle"])
def test_other_handlers_load_as_they_like(tmp_path: Path, handler: str) -> None:
    (tmp_path / "model.py").write_text("x = 1\n")
    for file in (None, tmp_path / "model.py"):
        for payload in (None, Path("weights.bin")):
            assert stock_problems(handler, file, payload) == []
