"""What of a valid configuration is told: unlike what anybody means, or not to be run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from marwright.archive.rules.config import read_config
from marwright.archive.rules.config_notes import config_notes, server_notes, server_problems


def read(text: str) -> dict[str, object]:
    config, problems = read_config(text.encode())
    assert problems == []
    return config.values


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("minWorkers: 5000\nmaxWorkers: 5000\n", "minWorkers: 5000"),
        ("batchSize: 1000000\n", "batchSize: 1000000"),
        ("maxBatchDelay: 2000000000\n", "maxBatchDelay: 2000000000"),
        ("jobQueueSize: 1000000\n", "jobQueueSize: 1000000"),
        ("responseTimeout: 100000\n", "responseTimeout: 100000"),
        ("deviceType: gpu\n", "deviceType: gpu: this machine has none"),
        ("deviceIds: [0, 77]\n", "deviceIds: "),
        ("parallelType: pp\n", "parallelType: TorchServe ignores it without"),
        ("parallelType: custom\nparallelLevel: 5000\n", "parallelLevel: 5000"),
        ("parallelLevel: 2\n", "parallelLevel: TorchServe ignores it"),
        ("useVenv: true\n", "useVenv: an environment of its own"),
        ("asyncCommunication: true\n", "asyncCommunication: "),
    ],
)
def test_setting_that_nobody_means_is_noted(
    text: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert any(note.startswith(key) for note in config_notes(read(text)))


def test_common_settings_have_no_notes() -> None:
    text = "minWorkers: 2\nmaxWorkers: 4\nbatchSize: 32\nmaxBatchDelay: 100\ndeviceType: cpu\n"
    assert [*config_notes(read(text))] == []


PARALLEL = "parallelType: pp\nparallelLevel: 1\ntorchrun:\n  nproc-per-node: 1\n"


def test_workers_by_torchrun_need_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [problem] = server_problems(read(PARALLEL))
    assert "there is none on the PATH here" in problem
    (tmp_path / "torchrun").touch(mode=0o755)
    assert [*server_problems(read(PARALLEL))] == []
    assert [*server_notes(read(PARALLEL))] != []


@pytest.mark.parametrize("kind", ["pp", "tp", "pptp", "PP"])
def test_workers_by_torchrun_need_its_settings(kind: str) -> None:
    """TorchServe 0.12 ends each start of such a worker with a NullPointerException."""
    _, problems = read_config(f"parallelType: {kind}\nparallelLevel: 2\n".encode())
    [problem] = problems
    assert "fails without its settings: write torchrun:" in problem


def test_workers_of_the_handlers_own_kind_need_no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert [*server_problems(read("parallelType: custom\nparallelLevel: 2\n"))] == []
