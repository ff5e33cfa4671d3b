"""Tiny real models for TorchServe's own handlers and for handlers of one's own."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper

# Six, because TorchServe's image_classifier always asks for the best five.
LABELS = ("zero", "one", "two", "three", "four", "five")
IMAGES = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, stride=8)

    def forward(self, images):
        return self.convolution(images).mean((2, 3))
"""
TEXTS = """
from torch import nn

class Texts(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(8, 4)
        self.linear = nn.Linear(4, 2)

    def forward(self, text, offsets):
        return self.linear(self.embedding(text, offsets))
"""
OWN_CLASS = """
from ts.torch_handler.base_handler import BaseHandler

class Sums(BaseHandler):
    def preprocess(self, data):
        import torch
        return torch.tensor([row["body"] for row in data], dtype=torch.float32)

    def inference(self, data):
        [rows] = self.model.run(None, {"rows": data.numpy()})
        return rows

    def postprocess(self, data):
        return [{"sum": value} for value in data.sum(1).tolist()]
"""
OWN_FUNCTION = """
import json
from pathlib import Path

model = None

def start(data, context):
    global model
    if data is None:
        import torch
        folder = Path(context.system_properties["model_dir"])
        model = torch.jit.load(folder / context.manifest["model"]["serializedFile"])
        return None
    import torch
    rows = torch.tensor([row["body"] for row in data], dtype=torch.float32)
    return [json.dumps({"sum": value}) for value in model(rows).sum(1).tolist()]
"""


def write_models(folder: Path) -> None:
    """Write sources, weights, TorchScript and ONNX, each untrained and each with seed 0."""
    for name, source in (
        ("images.py", IMAGES), ("texts.py", TEXTS), ("own_class.py", OWN_CLASS),
        ("own_function.py", OWN_FUNCTION),
    ):  # fmt: skip
        (folder / name).write_text(source)
    torch.manual_seed(0)
    images = _class(folder / "images.py")()
    torch.save(images.state_dict(), folder / "images.pth")
    torch.save(_class(folder / "texts.py")().state_dict(), folder / "texts.pth")
    torch.save({"a": 1, "good": 2, "bad": 3}, folder / "source_vocab.pt")
    _script(images, torch.zeros(1, 3, 224, 224), folder / "images.pt")
    _script(torch.nn.Identity(), torch.zeros(1, 2), folder / "identity.pt")
    labels = {str(number): name for number, name in enumerate(LABELS)}
    (folder / "index_to_name.json").write_text(json.dumps(labels))
    onnx.save(_identity(), folder / "identity.onnx")


def _class(file: Path) -> type[torch.nn.Module]:
    spec = importlib.util.spec_from_file_location(f"tiny_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    [found] = [kind for kind in vars(module).values() if isinstance(kind, type)]
    return found


def _script(model: torch.nn.Module, example: torch.Tensor, file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.trace(model.eval(), example), file)


def _identity() -> onnx.ModelProto:
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 2])
    same = helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["rows"], ["same"])], "identity", [rows], [same]
    )
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)
