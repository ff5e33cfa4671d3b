"""Workflows of two real models through a real TorchServe, as clients see them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from marwright.archive.pack import pack
from marwright.archive.types import Packed
from marwright.archive.verify import verify
from marwright.archive.workflow import pack_workflow
from marwright.serve.ports import free_ports
from marwright.serve.server import Server
from tests.servers import write_root

pytestmark = [pytest.mark.torch, pytest.mark.serve]

# Takes the JSON of a client, which TorchServe has parsed, or of a node before, which it has not.
MODEL = """
import json
from pathlib import Path

import torch

model = None

def handle(data, context):
    global model
    if data is None:
        folder = Path(context.system_properties["model_dir"])
        model = torch.jit.load(folder / context.manifest["model"]["serializedFile"])
        return None
    bodies = [row["body"] for row in data]
    lists = [body if isinstance(body, list) else json.loads(body) for body in bodies]
    return [json.dumps(model(torch.tensor(numbers)).tolist()) for numbers in lists]
"""
STEPS = """
import json

from texts import words

def numbers(data, context):
    if data is None:
        return None
    return [json.dumps([float(word) for word in words(row["body"])]) for row in data]

def answer(data, context):
    if data is None:
        return None
    return [json.dumps({"answer": json.loads(row["body"])}) for row in data]

def together(data, context):
    if data is None:
        return None
    return [json.dumps({name: json.loads(value) for name, value in row.items()}) for row in data]
"""
CHAIN = """
models:
  max-workers: 1
  double: {url: double.mar}
  shift: {url: shift.mar, timeout-ms: 20000}
dag:
  numbers: [double]
  double: [shift]
  shift: [answer]
"""
# Both models get what the first function makes, and the last one gets both answers, by name.
SIDES = """
models:
  double: {url: double.mar}
  shift: {url: shift.mar}
dag:
  numbers: [double, shift]
  double: [together]
  shift: [together]
"""


class Double(torch.nn.Module):
    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers * 2


class Shift(torch.nn.Module):
    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers + 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to be served: two models in its model store, and a store for workflows."""
    root = write_root(tmp_path_factory.mktemp("served"), free_ports())
    (root / "model.py").write_text(MODEL)
    (root / "shift.yaml").write_text("minWorkers: 2\nmaxWorkers: 2\nbatchSize: 4\n")
    for model, config in ((Double(), None), (Shift(), root / "shift.yaml")):
        name = type(model).__name__.lower()
        payload = root / f"{name}.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.jit.save(torch.jit.script(model), payload)
        pack(
            model_name=name, version="1.0", serialized_file=payload, handler=str(root / "model.py"),
            config_file=config, export_path=root / "model_store",
        )  # fmt: skip
    (root / "workflow_store").mkdir()
    with (root / "config.properties").open("a") as config_file:
        config_file.write(f"\nworkflow_store={root / 'workflow_store'}\n")
    return root


@pytest.fixture(scope="module")
def packed(root: Path) -> dict[str, Packed]:
    """The workflows, by their names."""
    (root / "steps.py").write_text(STEPS)
    (root / "texts.py").write_text("def words(body):\n    return body.decode().split()\n")
    workflows = {}
    for name, spec in (("chain", CHAIN), ("sides", SIDES)):
        (root / f"{name}.yaml").write_text(spec)
        workflows[name] = pack_workflow(
            workflow_name=name, spec_file=root / f"{name}.yaml", handler=root / "steps.py",
            export_path=root / "workflow_store", model_store=root / "model_store",
        )  # fmt: skip
    return workflows


@pytest.fixture(scope="module")
def server(root: Path, packed: dict[str, Packed]) -> Iterator[Server]:
    """A server with both workflows; of the models by themselves it serves one only."""
    server = Server(
        store=root / "model_store", home=root / "home", config=root / "config.properties",
        models=("double",),
    )  # fmt: skip
    with server:
        server.wait_ready()
        for name in packed:
            answer = managed(server, "POST", "/workflows", params={"url": f"{name}.war"})
            assert answer.status_code == 200, answer.text
        yield server


def managed(server: Server, method: str, path: str, **request: Any) -> httpx.Response:
    tokens = server.tokens
    assert tokens is not None
    return httpx.request(
        method, f"{server.management_url}{path}", headers=tokens.header("management"),
        trust_env=False, timeout=180.0, **request,
    )  # fmt: skip


def asked(server: Server, workflow: str, body: bytes) -> httpx.Response:
    tokens = server.tokens
    assert tokens is not None
    return httpx.post(
        f"{server.url}/wfpredict/{workflow}", content=body, headers=tokens.header("inference"),
        trust_env=False, timeout=60.0,
    )  # fmt: skip


def described(server: Server, model: str) -> dict[str, Any]:
    answer = managed(server, "GET", f"/models/{model}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()[0]
    return found


def test_what_is_packed_passes_verify(packed: dict[str, Packed]) -> None:
    for workflow in packed.values():
        assert "texts.py" in workflow.members
        report = verify(workflow.path)
        assert report.problems == []
        assert report.unchecked == [
            f"model {name}: {name}.mar is not in here, and was not looked for"
            for name in ("double", "shift")
        ]


def test_models_answer_one_after_the_other(server: Server) -> None:
    answer = asked(server, "chain", b"1 2 -4")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"answer": [5.0, 7.0, -5.0]}


def test_models_answer_side_by_side(server: Server) -> None:
    answer = asked(server, "sides", b"1 2 -4")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"double": [2.0, 4.0, -8.0], "shift": [4.0, 5.0, -1.0]}


def test_the_graph_is_the_one_that_was_packed(server: Server) -> None:
    [described] = managed(server, "GET", "/workflows/chain").json()
    assert described["workflowDag"] == "{numbers=[double], double=[shift], shift=[answer]}"
    assert described["workflowUrl"] == "chain.war"


def test_nodes_are_models_called_after_workflow_and_node(server: Server) -> None:
    names = {model["modelName"] for model in managed(server, "GET", "/models").json()["models"]}
    models = {f"{flow}__{name}" for flow in ("chain", "sides") for name in ("double", "shift")}
    # Functions are left out of the list, and described all the same.
    assert names == {"double"} | models
    for flow, functions in (("chain", ("numbers", "answer")), ("sides", ("numbers", "together"))):
        for name in functions:
            found = described(server, f"{flow}__{name}")
            assert [worker["status"] for worker in found["workers"]] == ["READY"]


def test_notes_of_packing_tell_what_the_server_takes(
    server: Server, packed: dict[str, Packed]
) -> None:
    assert packed["chain"].notes == (
        "models.shift: batch-size is 1 in this workflow, not 4, the batchSize in shift.mar",
        "models.shift: has 2 workers, the minWorkers in shift.mar, not 1",
    )
    shift = described(server, "chain__shift")
    assert (shift["batchSize"], shift["minWorkers"], len(shift["workers"])) == (1, 2, 2)
    assert described(server, "chain__double")["maxWorkers"] == 1


def test_a_node_that_fails_fails_the_workflow(server: Server) -> None:
    answer = asked(server, "chain", b"one two")
    assert answer.status_code == 500
    assert json.loads(answer.text)["message"] == "Error executing numbers"
