"""The Makefile's own work: folding verbs, passing values on untouched, ordering, exit status.

`.venv/bin/python` is a fake here that writes down how it was called: what is tested is what Make
and the shell do before the real one starts.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci.workflows import ROOT, make_targets

FAKE_PYTHON = """#!/bin/sh
case "$2" in *marwright.cli.clean) exit 1 ;; esac
[ "$1" != -c ] || exit 0
sleep "${FAKE_SECONDS:-0}"
{ printf '%s\\0' "$#" "$@"; } >>"$HOUSE/calls"
[ ! -e "$HOUSE/build" ] || echo "$3" >>"$HOUSE/saw-build"
exit "${FAKE_STATUS:-0}"
"""
OURS = ("MODEL", "JOBS", "PORT", "INPUT", "VERSION", "TORCH", "UPGRADE", "PYTHON", "QUICK", "ISA",
        "THREADS", "WHOLE")  # fmt: skip


class House:
    """A folder with our Makefile and an environment that only writes down its calls."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "ci").mkdir()
        shutil.copy(ROOT / "Makefile", folder)
        shutil.copy(ROOT / "ci/publish.sh", folder / "ci")
        (folder / "ci/setup.sh").write_text('echo set up >>"$HOUSE/set-ups"\n')
        (folder / "requirements.lock").write_text("uv==1\n")
        self.command(".venv/bin/python", FAKE_PYTHON)
        (folder / ".venv/.installed").write_text("uv==1\n")

    def command(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755)

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        # The make that may have started these tests passes its own goals' flags and values down.
        outer = {k: v for k, v in os.environ.items() if k not in OURS and "MAKE" not in k}
        path = f"{self.folder / 'bin'}{os.pathsep}{outer['PATH']}"
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env={**outer, "PATH": path, "HOUSE": str(self.folder), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[list[str]]:
        """How the fake Python was called, each call as its arguments."""
        log = self.folder / "calls"
        words = log.read_text().split("\0")[:-1] if log.exists() else []
        found = []
        while words:
            count = int(words.pop(0))
            found.append(words[:count])
            del words[:count]
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.parametrize(
    ("goals", "verbs"),
    [
        (["train"], ["train"]),
        (["train", "archive"], ["train", "archive"]),
        (["archive", "train"], ["train", "archive"]),
        (["train", "train"], ["train"]),
        (["-j", "train", "archive"], ["train", "archive"]),
        (
            ["-j8", "verify", "archive", "parity", "onnx", "train"],
            ["train", "onnx", "parity", "archive", "verify"],
        ),
    ],
)
def test_verbs_are_one_call(house, goals, verbs):
    done = house.make(*goals)
    assert done.returncode == 0, done.stderr
    assert house.calls() == [["-m", "marwright", *verbs]]


@pytest.mark.parametrize(
    "value",
    [
        "digits,diabetes",
        "digits,some/file.mar",
        "two words",
        "it's",
        'say "a"',
        "$(touch harm)",
        "$(shell touch harm)",
        "`touch harm`",
        "a;touch harm",
        "$HOME ${HOME} $$",
        "back\\slash\\",
        "*",
        "#not a comment",
        "-x",
        "a=b:=c",
        "two\nlines",
        "  edges  ",
        "modèle",
    ],
)
@pytest.mark.parametrize("by_environment", [False, True])
def test_values_arrive_as_typed(house, value, by_environment):
    if by_environment:
        done = house.make("train", MARWRIGHT_MODEL=value)
    else:
        done = house.make("train", f"MODEL={value}")
    assert done.returncode == 0, done.stderr
    if not by_environment:
        # Make itself takes the blanks after the `=` for its own.
        value = value.lstrip(" ")
    assert house.calls() == [["-m", "marwright", "train", f"--model={value}"]]
    assert not (house.folder / "harm").exists()


def test_what_was_exported_for_another_program_changes_nothing(house):
    names = dict.fromkeys(OURS, "9.9")
    assert house.make("train", "archive", **names).returncode == 0
    assert house.calls() == [["-m", "marwright", "train", "archive"]]
    assert not (house.folder / "set-ups").exists()
    # What is typed comes before what is exported for us.
    assert house.make("train", "MODEL=a", MARWRIGHT_MODEL="b").returncode == 0
    assert house.calls()[1:] == [["-m", "marwright", "train", "--model=a"]]


@pytest.mark.parametrize("typed", ["MODLE=digits", "model=digits", "MARWRIGHT_MODEL=digits"])
def test_a_variable_that_there_is_not_is_refused(house, typed):
    done = house.make("train", typed)
    assert done.returncode == 2
    name = typed.partition("=")[0]
    assert f"{name}: no such variable; there are MODEL JOBS PORT " in done.stderr
    assert house.calls() == []


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ("archive MODEL=a,b JOBS=2", "archive --model=a,b --jobs=2"),
        ("archive MODEL= JOBS=", "archive"),
        ("verify MODEL=a,b/c.mar", "verify --model=a,b/c.mar"),
        ("explain MODEL=a", "explain --model=a"),
        ("list MODEL=a", "list --model=a"),
        ("serve", "serve"),
        ("serve MODEL=a PORT=9000", "serve --model=a --port=9000"),
        ("stop", "stop"),
        ("predict MODEL=a INPUT=- PORT=9000", "predict --model=a --input=- --port=9000"),
        ("release VERSION=1.2.0 JOBS=2", "release --version=1.2.0 --jobs=2"),
        ("release VERSION=v1.2.0", "release --version=1.2.0"),
    ],
)
def test_options(house, arguments, call):
    assert house.make(*arguments.split()).returncode == 0
    assert house.calls() == [["-m", "marwright", *call.split()]]


@pytest.mark.parametrize("by_environment", [False, True])
@pytest.mark.parametrize(
    ("goals", "value", "call"),
    [
        ("parity", "1", "parity --quick"),
        ("parity", "yes", "parity --quick"),
        ("parity", "true", "parity --quick"),
        ("parity parity", "1", "parity --quick"),
        ("parity", "0", "parity"),
        ("parity", "no", "parity"),
        ("parity", "false", "parity"),
        ("parity", "", "parity"),
        ("parity", "$(shell touch harm)", "parity"),
        ("parity archive", "1", "parity archive"),
        ("onnx parity", "1", "onnx parity"),
        *((verb, "1", verb) for verb in ("train", "onnx", "report", "archive", "verify", "list")),
    ],
)
def test_quick_is_for_parity_alone(house, goals, value, call, by_environment):
    if by_environment:
        done = house.make(*goals.split(), MARWRIGHT_QUICK=value)
    else:
        done = house.make(*goals.split(), f"QUICK={value}")
    assert done.returncode == 0, done.stderr
    assert house.calls() == [["-m", "marwright", *call.split()]]
    assert not (house.folder / "harm").exists()


def test_the_real_command_line_knows_every_option():
    recipes = re.findall(r"-m marwright (\S+) (.*)", (ROOT / "Makefile").read_text())
    assert {"explain", "serve", "predict", "release"} <= {verb for verb, _ in recipes}
    for verb, options in recipes:
        done = subprocess.run(
            [sys.executable, "-m", "marwright", verb.replace("$(WANTED)", "parity"), "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for option in re.findall(r"\$\((\w+)_OPTION\)", options):
            assert f"--{option.lower()} " in done.stdout, (verb, option)


def test_a_failure_is_kept_and_stops_what_follows(house):
    done = house.make("train", "archive", "list", FAKE_STATUS="7")
    assert done.returncode == 2  # the only status that make has for a failed recipe
    assert "Error 7" in done.stderr
    assert house.calls() == [["-m", "marwright", "train", "archive"]]


@pytest.mark.parametrize(
    ("goals", "seen"), [(["clean", "train"], False), (["train", "clean"], True)]
)
def test_goals_run_in_the_order_typed(house, goals, seen):
    (house.folder / "build").mkdir()
    assert house.make("-j8", *goals).returncode == 0
    assert (house.folder / "saw-build").exists() is seen
    assert not (house.folder / "build").exists()


def test_clean_removes_what_was_built_and_says_so(house):
    for name in ("build", "model_store", "dist", "archive"):
        (house.folder / name).mkdir()
    done = house.make("clean")
    assert "build/, model_store/ and dist/" in done.stdout
    left = {path.name for path in house.folder.iterdir()}
    assert left == {".venv", "Makefile", "ci", "archive", "requirements.lock"}


def test_help_is_the_default_and_names_every_target(house):
    done = house.make()
    assert done.stdout == house.make("help").stdout
    listed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("  make ")}
    assert listed == make_targets(ROOT / "Makefile") - {"help", "style"}


def test_a_finished_setup_starts_nothing(house):
    assert house.make("setup").returncode == 0
    assert house.make("train").returncode == 0
    assert not (house.folder / "set-ups").exists()


@pytest.mark.parametrize("what", ["lock is newer", "TORCH", "PYTHON", "no python"])
def test_setup_is_looked_into(house, what):
    arguments = []
    if what == "lock is newer":
        later = (house.folder / ".venv/.installed").stat().st_mtime + 5
        os.utime(house.folder / "requirements.lock", (later, later))
    elif what == "no python":
        (house.folder / ".venv/bin/python").unlink()
        (house.folder / ".venv/bin/python").symlink_to("nowhere")
    else:
        arguments = [f"{what}=cpu"]
    assert house.make("setup", *arguments).returncode == 0
    assert (house.folder / "set-ups").read_text() == "set up\n"


def test_every_verb_sets_up_first(house):
    needing = make_targets(ROOT / "Makefile") - {"help", "doctor", "publish", "lock", "clean"}
    (house.folder / ".venv/.installed").unlink()
    for target in needing:
        assert "ci/setup.sh" in house.make("-n", target).stdout, target


def test_a_missing_lock_is_said(house):
    (house.folder / "requirements.lock").unlink()
    done = house.make("train")
    assert done.returncode != 0
    assert "requirements.lock is missing: git checkout" in done.stderr
    assert house.calls() == []


def test_lint_leaves_out_what_test_runs(house):
    marks = "not torch and not onnx and not serve and not slow"
    lint, test = (house.make("-n", goal).stdout.splitlines() for goal in ("lint", "test"))
    assert lint[:-1] == test[:-1]
    assert lint[-1] == test[-1].removesuffix("-rs") + f'-m "{marks}"'
    assert " -m pytest --numprocesses=" in test[-1]


def test_doctor_falls_back_to_the_systems_python(house):
    house.command("bin/other", FAKE_PYTHON)
    (house.folder / ".venv/bin/python").write_text("#!/bin/sh\nexit 1\n")
    assert house.make("doctor", "PYTHON=other").returncode == 0
    assert house.calls() == [["-m", "marwright.cli.doctor"]]


@pytest.fixture
def dist(house: House) -> Path:
    """A release that is ready, and a `gh` that writes down its arguments."""
    house.command("bin/gh", '#!/bin/sh\nprintf "%s\\n" "$@" >"$HOUSE/gh"\n')
    folder = house.folder / "dist"
    folder.mkdir()
    (folder / "a-1.mar").write_bytes(b"archive")
    digest = hashlib.sha256(b"archive").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  a-1.mar\n")
    return folder


@pytest.mark.parametrize("version", ["1.2.0", "v1.2.0"])
def test_publish_attaches_dist_to_the_tag(house, dist, version):
    done = house.make("publish", MARWRIGHT_VERSION=version)
    assert done.returncode == 0, done.stderr
    arguments = (house.folder / "gh").read_text().split()
    assert arguments[:3] == ["release", "create", "v1.2.0"]
    assert arguments[-2:] == ["dist/SHA256SUMS", "dist/a-1.mar"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no version", "which version?"),
        ("option", "is not a version"),
        ("injection", "is not a version"),
        ("no sums", "SHA256SUMS is missing"),
        ("changed", "not what SHA256SUMS says"),
        ("gone", "not what SHA256SUMS says"),
        ("stray", "dist/stray.mar is not in SHA256SUMS"),
    ],
)
def test_publish_refuses(house, dist, fault, message):
    version = {"no version": "", "option": "--draft", "injection": "1$(touch harm)"}.get(fault, "1")
    if fault == "no sums":
        (dist / "SHA256SUMS").unlink()
    elif fault == "changed":
        (dist / "a-1.mar").write_bytes(b"archivf")
    elif fault == "gone":
        (dist / "a-1.mar").unlink()
    elif fault == "stray":
        (dist / "stray.mar").write_bytes(b"")
    done = house.make("publish", MARWRIGHT_VERSION=version)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (house.folder / "gh").exists()
    assert not (house.folder / "harm").exists()
