"""Handlers of TorchServe's own style, with four methods, as people have them."""

from __future__ import annotations

# Derives from nothing. Each request that is none gets its own answer.
PLAIN = """
import json
from pathlib import Path

import torch

from marwright.runtime.read import read_image
from marwright.runtime.request import BadRequest
from marwright.runtime.spec import load_spec


class Shapes:
    def initialize(self, context):
        folder = Path(context.system_properties["model_dir"])
        self.spec = load_spec(folder / "preprocess.json")
        self.names = json.loads((folder / "index_to_name.json").read_text())
        self.top_k = context.model_yaml_config["handler"]["top_k"]
        payload = str(folder / context.manifest["model"]["serializedFile"])
        self.model = torch.jit.load(payload).eval()

    def preprocess(self, data):
        rows, self.refused = [], {}
        for number, row in enumerate(data):
            try:
                rows.append(read_image(row["body"], self.spec))
            except BadRequest as refusal:
                self.refused[number] = str(refusal)
        return torch.cat([torch.from_numpy(row) for row in rows])

    def inference(self, data):
        with torch.inference_mode():
            return self.model(data)

    def postprocess(self, outputs):
        answers = []
        for row in outputs.softmax(dim=1):
            best = row.topk(self.top_k)
            answers.append({"predictions": [
                {"label": self.names[str(i)], "probability": round(p, 6)}
                for p, i in zip(best.values.tolist(), best.indices.tolist())
            ]})
        return answers

    def handle(self, data, context):
        answers = iter(self.postprocess(self.inference(self.preprocess(data))))
        found = []
        for number in range(len(data)):
            if number in self.refused:
                context.set_response_status(400, "Bad Request", number)
                found.append({"error": self.refused[number]})
            else:
                found.append(next(answers))
        return found
"""

# The same over TorchServe's own class, which loads the payload and the names.
DERIVED = """
from pathlib import Path

import torch
from ts.torch_handler.base_handler import BaseHandler

from marwright.runtime.read import read_image
from marwright.runtime.request import BadRequest
from marwright.runtime.spec import load_spec


class Shapes(BaseHandler):
    def initialize(self, context):
        super().initialize(context)
        folder = Path(context.system_properties["model_dir"])
        self.spec = load_spec(folder / "preprocess.json")

    def preprocess(self, data):
        rows, self.bad = [], []
        for number, row in enumerate(data):
            try:
                rows.append(torch.from_numpy(read_image(row["body"], self.spec)))
                self.bad.append(False)
            except BadRequest:
                self.context.set_response_status(400, "Bad Request", number)
                self.bad.append(True)
        return torch.cat(rows)

    def postprocess(self, data):
        best = iter(data.argmax(dim=1).tolist())
        return ["no image" if bad else self.mapping[str(next(best))] for bad in self.bad]
"""

# Rows of a table, which a worker decodes; without anything of ours.
ROWS = """
import json
from pathlib import Path

import numpy as np
import torch


class Rows:
    def initialize(self, context):
        folder = Path(context.system_properties["model_dir"])
        self.spec = json.loads((folder / "preprocess.json").read_text())
        self.model = torch.jit.load(str(folder / "model.pt")).eval()

    def preprocess(self, data):
        columns, center, scale = (self.spec[key] for key in ("columns", "center", "scale"))
        rows = np.array([[row["body"][column] for column in columns] for row in data])
        return torch.from_numpy((rows - center) / scale).float()

    def inference(self, data):
        with torch.inference_mode():
            return self.model(data)

    def handle(self, data, context):
        good = [row for row in data if isinstance(row["body"], dict)]
        outputs = iter(self.inference(self.preprocess(good))[:, 0].double().tolist())
        answers = []
        for number, row in enumerate(data):
            if row not in good:
                context.set_response_status(400, "Bad Request", number)
                answers.append("no row")
            else:
                value = next(outputs) * self.spec["target_std"] + self.spec["target_mean"]
                answers.append({"predictions": [round(value, 4)]})
        return answers
"""
