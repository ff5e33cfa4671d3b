"""`python -m marwright pack`: what it prints, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from marwright.archive.manifest import Runtime
from marwright.archive.write import FORMATS
from marwright.cli import pack as module
from marwright.cli.main import main
from tests.archive.unproven import HANDLE, image, make, members
from tests.projects import ROOT

WORDS = ["pack", "--model-name", "tiny", "--version", "1.0", "--handler", "handler.py"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make({"handler.py": HANDLE, "model.pt": "not a model"})


def test_options_are_spelled_as_the_archive_room_has_them() -> None:
    assert module.FORMATS == FORMATS
    assert get_args(Runtime) == module.RUNTIMES


def test_it_says_what_was_packed_what_was_not_and_what_to_do_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make({"handler.py": f"import util\n{HANDLE}", "util.py": "", "lib/a.txt": "", "lib/.env": ""})
    make({"lib/__pycache__/x": "", "config.yaml": "mine: 1\n"})
    assert main([*WORDS, "--extra-files", "lib", "-c", "config.yaml", "--export-path", "out"]) == 0
    assert capsys.readouterr().out == (
        "out/tiny.mar: 6 members, 2 KiB, unproven\n"
        "  imported: util.py\n"
        "  left out: lib/.env\n"
        "  left out: lib/__pycache__/\n"
        "  config.yaml: read by the handler only: mine\n"
        "`marwright verify out/tiny.mar` loads it as TorchServe would\n"
    )
    assert set(members(Path("out/tiny.mar"))) == {
        "MAR-INF/MANIFEST.json", "MAR-INF/inventory.json", "a.txt", "config.yaml", "handler.py",
        "util.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("format", "export", "shown"),
    [
        ("no-archive", ".", "./tiny"),
        ("default", ".", "./tiny.mar"),
        ("tgz", "my store", "'my store/tiny.tar.gz'"),
        ("no-archive", "out", "out/tiny"),
    ],
)
def test_what_to_do_next_can_be_pasted(
    format: str, export: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--archive-format", format, "--export-path", export]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"`marwright verify {shown}` loads it as TorchServe would"


def test_short_options_and_lists_mean_what_they_mean_to_torch_model_archiver() -> None:
    make({"a.txt": "", "b.txt": "", "c.txt": "", "tree/d.txt": "", "reqs.txt": "torch\n"})
    make({"config.yaml": "minWorkers: 1\nmaxWorkers: 1\n", "src/util.py": ""})
    make({"handler.py": f"import util\nimport gone\nimport missing\n{HANDLE}"})
    words = [
        "pack", "--model-name", "tiny", "-v", "1.0", "--handler", "handler", "--extra-files",
        "a.txt, b.txt", "--extra-files", "c.txt", "--extra-trees", "tree", "-r", "reqs.txt",
        "-c", "config.yaml", "--source-root", "src", "--provided", "gone,missing", "--runtime",
        "python3", "--serialized-file", "model.pt",
    ]  # fmt: skip
    assert main(words) == 0
    assert main([*words, "-f"]) == 0
    assert {"a.txt", "b.txt", "c.txt", "tree/d.txt", "reqs.txt", "config.yaml", "util.py"} < set(
        members(Path("tiny.mar"))
    )


REFUSED = {
    "a file that is not there": (["--serialized-file", "gone.pt"], "--serialized-file gone.pt: no"),
    "a collision": (["--extra-files", "handler.py,x/handler.py"], "handler.py: handler.py and x/"),
    "an import": (["--handler", "lacking.py"], "lacking.py:1: imports gone_gone, which is neither"),
    "a folder that cannot be made": (["--export-path", "model.pt/out"], "model.pt/out: Not a dir"),
    "an archive that is there": ([], "tiny.mar: is there already; --force replaces it"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_error_is_one_message_and_code_9(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    make({"x/handler.py": "", "lacking.py": f"import gone_gone\n{HANDLE}"})
    assert main(WORDS) == 0
    before = image(Path("tiny.mar"))
    capsys.readouterr()
    words, why = REFUSED[what]
    force = ["--force"] if words else []
    assert main([*WORDS, *words, *force]) == 9
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"marwright: {why}")
    assert err.count("\n") == 1
    assert image(Path("tiny.mar")) == before


def test_words_that_are_missing_or_unknown_are_a_wrong_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (WORDS[:-2], [*WORDS, "--archive-format", "rar"], [*WORDS, "--unknown"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2
    err = capsys.readouterr().err
    assert "the following arguments are required: --handler" in err
    assert "choose from" in err
    assert "unrecognized arguments: --unknown" in err


def command(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "marwright", *words],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_command_itself_packs_without_torch_and_fails_without_a_traceback() -> None:
    code = (
        "import sys; from marwright.cli.main import main\n"
        f"assert main({WORDS}) == 0\n"
        "assert not {'torch', 'rich'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    done = command(*WORDS)
    assert (done.returncode, done.stdout) == (9, "")
    assert done.stderr == "marwright: tiny.mar: is there already; --force replaces it\n"
    done = command(*WORDS, "--debug")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("PackError: tiny.mar: is there already; --force replaces it\n")
