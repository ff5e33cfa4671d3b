"""What the served models answer."""

from __future__ import annotations

import json
from pathlib import Path

from bench.project import run
from marwright.recipe.load import load_recipe
from marwright.serve.ports import free_ports
from marwright.serve.server import Server
from marwright.training.data import open_dataset

TITLE = "REST answers"


def prove(root: Path, folder: Path) -> tuple[bool, str]:
    """Serve the shipped models and send each a held-out sample, and something bad."""
    run(root, "archive")
    parts, statuses = [], []
    with Server(store=root / "model_store", home=folder / "server", port=free_ports()) as server:
        server.wait_ready()
        for model in ("digits", "diabetes"):
            recipe = load_recipe(root / "archive" / f"{model}.toml")
            splits = open_dataset(recipe, root).splits
            sample = int(splits.test[0])
            body, content_type = splits.samples.request(sample)
            truth = splits.samples.targets[sample]
            for what, content in ((f"test sample {sample}, truth {truth}", body), ("bad", b"?")):
                headers = {"Content-Type": content_type}
                answer = server.predict(model, content=content, headers=headers)
                statuses.append(answer.status_code)
                shown = json.dumps(answer.json(), ensure_ascii=False, separators=(",", ":"))
                parts.append(f"`{model}`, {what}: {answer.status_code}\n\n```json\n{shown}\n```")
    return statuses == [200, 400, 200, 400], "\n\n".join(parts)
