"""Processes that train one model together: what one process would have made, or one clear error."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.project import copy_project
from marwright.pipeline.step import Job
from marwright.pipeline.torchrun import OPTIONS, ProcessError, train_together
from marwright.recipe.errors import DataError, MachineError, MarwrightError, TrainError
from marwright.recipe.load import load_recipe
from marwright.recipe.types import Recipe, varied
from marwright.training.record import TrainReport
from tests.projects import ROOT

pytestmark = pytest.mark.torch

# No chance but the order of the samples, which does not depend on the number of processes.
PLAIN = {
    "fit.optimizer": "sgd", "fit.learning_rate": 1e-2, "fit.epochs": 4, "fit.clip": 1.0,
    "fit.ema": 0.9, "fit.accumulate": 2, "fit.minimum_metric": "any",
    "transfer.freeze": "body", "transfer.unfreeze_every": 2,
}  # fmt: skip


def diabetes(**settings: Any) -> Recipe:
    """Return a recipe of the engine's own loop, with settings whose dots are written as `__`."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    recipe = load_recipe(ROOT / "archive" / "diabetes.toml")
    own = {
        "train": None, "model.factory": "mlp", "model.params": {"hidden": 16, "dropout": 0.0},
        "serve.handler": "predict_table",
    }  # fmt: skip
    return varied(recipe, own | PLAIN | named)


def job(recipe: Recipe, folder: Path, root: Path = ROOT) -> Job:
    out = folder / "out"
    out.mkdir(parents=True)
    return Job(
        recipe=recipe, root=root, inputs={}, out=out, failed=folder / "failed",
        resume=folder / "resume", key="key", progress=lambda *_: None,
    )  # fmt: skip


def report(made: Job) -> TrainReport:
    return msgspec.json.decode((made.out / "train.json").read_bytes(), type=TrainReport)


def weights(made: Job) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(made.out / "weights.safetensors")


def test_two_processes_make_what_one_does(tmp_path: Path) -> None:
    one, two = job(diabetes(), tmp_path / "1"), job(diabetes(fit__processes=2), tmp_path / "2")
    shown: list[int] = []
    object.__setattr__(two, "progress", lambda done, *_: shown.append(done))
    for made in (one, two):
        train_together(made)
    assert shown == [0, 1, 2, 3, 4]
    alone, together = weights(one), weights(two)
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        assert value.allclose(together[name], rtol=1e-4, atol=1e-6), name
    reports = [report(one), report(two)]
    assert [found.environment["processes"] for found in reports] == ["1", "2"]
    assert [epoch.stages for epoch in reports[1].epochs] == [1, 1, 2, 2]
    assert reports[0].metrics == pytest.approx(reports[1].metrics, rel=1e-4)
    # Everything that was to be shared is: an epoch's loss is that of all of its samples.
    losses = [[epoch.train_loss for epoch in found.epochs] for found in reports]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_two_machines_meet_as_torchrun_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setenv(
        OPTIONS,
        "--nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-conf=store_type=file "
        f"--rdzv-endpoint='{tmp_path / 'where they meet'}'",
    )
    machines = [job(diabetes(fit__processes=2), tmp_path / name) for name in ("a", "b")]
    threads = [threading.Thread(target=train_together, args=(machine,)) for machine in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    a, b = (
        {file.name: file.read_bytes() for file in machine.out.glob("[!.]*")} for machine in machines
    )
    assert {"weights.safetensors", "meta.json", "train.json"} <= a.keys()
    assert a == b


def test_another_number_of_processes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPTIONS, "--standalone --nproc-per-node=1 --local-addr=127.0.0.1")
    with pytest.raises(ProcessError, match="processes = 2, and torchrun was told to start 1"):
        train_together(job(diabetes(fit__processes=2), tmp_path))


@pytest.mark.parametrize(
    ("fault", "said", "kind"),
    [
        ("raise KeyError('seeded fault')", "process 1 .* KeyError: 'seeded", TrainError),
        ("raise OSError('seeded fault')", "^process 1: OSError: seeded fault", MachineError),
        ("raise OSError(28, 'No space left')", "^process 1: No space left", MachineError),
        ("os._exit(9)", "no process said why|Connection (closed|reset) by peer", TrainError),
        ("from marwright.recipe import errors; raise errors.DataError('mend me')", "^mend me$",
         DataError),
    ],
)  # fmt: skip
def test_one_that_fails_ends_all(
    tmp_path: Path, fault: str, said: str, kind: type[MarwrightError]
) -> None:
    root = tmp_path / "project"
    copy_project(ROOT, root, models=())
    (root / "user").mkdir(exist_ok=True)
    (root / "user" / "net.py").write_text(
        "import os\n"
        "from torch import nn\n"
        "from marwright.training.models.mlp import build as mlp\n\n\n"
        "class Faulty(nn.Module):\n"
        "    def __init__(self, inner):\n"
        "        super().__init__()\n"
        "        self.inner = inner\n\n"
        "    def forward(self, inputs):\n"
        "        if self.training and os.environ['RANK'] == '1':\n"
        f"            {fault}\n"
        "        return self.inner(inputs)\n\n\n"
        "def build(shape, outputs):\n"
        "    return Faulty(mlp(shape, outputs))\n",
        encoding="utf-8",
    )
    recipe = diabetes(fit__processes=2, model__factory="user/net.py", model__params={})
    with pytest.raises(ProcessError, match=said) as raised:
        train_together(job(recipe, tmp_path, root))
    assert raised.value.exit_code == kind.exit_code


def test_they_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    """A build that is killed leaves no process behind."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, '.')\n"
        "from tests.pipeline.test_torchrun import diabetes, job, train_together\n"
        f"made = job(diabetes(fit__processes=2, fit__epochs=100000), Path({str(tmp_path)!r}))\n"
        "object.__setattr__(made, 'progress', lambda *_: print('epoch', flush=True))\n"
        "train_together(made)\n"
    )
    build = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert build.stdout is not None
    with build:
        assert build.stdout.readline() == b"epoch\n"
        build.kill()
    # Each holds the events open, and what torchrun runs names the task: nobody does any more.
    task = str(tmp_path / "out" / ".task.json")
    for _ in range(100):
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        if task not in listed.stdout:
            return
        threading.Event().wait(0.1)
    pytest.fail("processes are left")
