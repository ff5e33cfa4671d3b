"""What a machine refuses: a sentence with the place and the remedy, code 12, and no traceback."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from marwright.cli.exit_codes import EXIT_CODES
from marwright.files import write_bytes
from marwright.pipeline.machine import machine_error
from marwright.recipe import errors
from marwright.recipe.errors import DataError, ExportError, MarwrightError
from marwright.serve.ports import free_ports
from tests.projects import ROOT, archives, command, edit, pipeline
from tests.servers import write_mar, write_root

# Small disks are mounted in a namespace of their own, which ends with the command.
CANNOT_MOUNT = subprocess.run(
    ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
).returncode
mounts = pytest.mark.skipif(
    CANNOT_MOUNT != 0, reason="a small disk needs `unshare -m` and mount: run the tests as root"
)


def on_disk(
    project: Path, folder: str, options: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line with a disk of its own behind a folder, which keeps its content."""
    place = project / folder
    saved = project.parent / "saved"
    script = f"""
        set -e
        mkdir -p {shlex.quote(str(place))}
        cp -a {shlex.quote(str(place))} {shlex.quote(str(saved))}
        mount -t tmpfs -o size=32m tmpfs {shlex.quote(str(place))}
        cp -a {shlex.quote(str(saved))}/. {shlex.quote(str(place))}
        mount -o remount,{options} {shlex.quote(str(place))}
        set +e
        {shlex.join(command(*arguments))}
        echo "code $?"
    """
    return subprocess.run(
        ["unshare", "-m", "bash", "-c", script],
        cwd=project, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def used(folder: Path) -> int:
    """KiB that a folder takes on a disk of whole pages."""
    return sum(-(-max(p.lstat().st_size, 1) // 4096) * 4 for p in [folder, *folder.rglob("*")])


def stale(project: Path) -> Path:
    edit(project, "archive/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    return project


@mounts
@pytest.mark.torch
@pytest.mark.parametrize("room", [0, 24])
def test_a_disk_that_is_full_under_build(project: Path, room: int) -> None:
    before = archives(stale(project))
    size = f"size={used(project / 'build') + room}k"
    done = on_disk(project, "build", size, "archive", "--model", "tiny_a")
    assert done.stdout.endswith("code 12\n"), done
    assert "No space left on device: free some space and run the same command again" in done.stderr
    assert "build" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert archives(project) == before


@mounts
@pytest.mark.torch
@pytest.mark.parametrize(
    ("options", "said"), [("size={}k", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_store_that_takes_no_archive_keeps_the_old_one(
    project: Path, options: str, said: str
) -> None:
    before = archives(stale(project))
    options = options.format(used(project / "model_store") + 4)
    done = on_disk(project, "model_store", options, "archive", "--model", "tiny_a")
    assert done.stdout.endswith("code 12\n"), done
    assert "tiny_a verify: " in done.stderr
    assert said in done.stderr
    assert "model_store" in done.stderr
    assert "Traceback" not in done.stderr
    assert archives(project) == before


@mounts
@pytest.mark.torch
def test_what_is_current_needs_no_room_and_no_permission(project: Path) -> None:
    assert pipeline(project, "archive").returncode == 0
    for verb in ("archive", "list", "explain"):
        shutil.rmtree(project.parent / "saved", ignore_errors=True)
        done = on_disk(project, "build", "ro", verb)
        assert done.stdout.endswith("code 0\n"), done
        assert done.stderr == ""


@mounts
@pytest.mark.torch
def test_a_disk_without_room_for_what_a_server_unpacks(built_project: Path, tmp_path: Path) -> None:
    big = write_mar(tmp_path / "big.mar", extra={"weights": bytes(3 << 20)})
    # A long path would send what a server unpacks to another disk: see `short_folder`.
    with tempfile.TemporaryDirectory(prefix="room-", dir="/tmp") as short:
        project = Path(shutil.copytree(built_project, Path(short) / "project"))
        shutil.move(big, project / "model_store" / "big.mar")
        write_root(project, free_ports())
        done = on_disk(project, "build/serve", "size=2m", "serve")
    assert done.stdout.endswith("code 11\n"), done
    assert "the archives unpack to 3." in done.stderr
    assert "free some space, or serve fewer" in done.stderr


FILLS = """
import subprocess, sys
from pathlib import Path
from marwright.serve import server
from marwright.recipe.errors import ServeError
root, port = Path(sys.argv[1]), int(sys.argv[2])
home = root / "home"
home.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", home], check=True)
# The disk fills after it was looked at.
server.require_room = lambda *_: None
try:
    with server.Server(store=root / "store", home=home, port=port) as one:
        one.wait_ready()
except ServeError as error:
    sys.exit(f"ServeError: {error}")
"""


@mounts
@pytest.mark.serve
def test_an_extraction_folder_that_is_full_is_told_by_model(tmp_path: Path) -> None:
    write_mar(tmp_path / "store" / "small.mar")
    write_mar(tmp_path / "store" / "zbig.mar", extra={"weights": bytes(6 << 20)})
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", FILLS, str(tmp_path), str(free_ports())],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("ServeError: zbig 1.0: not served, after ")
    assert "No space left on device" in done.stderr
    assert "small" not in done.stderr


@pytest.mark.torch
def test_a_limit_of_file_sizes_is_named(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 3")
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 4; {shlex.join(command('train', '--model', 'tiny_a'))}"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 12, done
    assert "File too large: raise the limit of file sizes (`ulimit -f`)" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_followed_to_its_cause() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/a/model.pt")
    wrapped = ExportError("it cannot be exported")
    wrapped.__context__ = full
    assert str(machine_error(wrapped)) == (
        "/a/model.pt: No space left on device: free some space and run the same command again"
    )
    torchs = RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed")
    assert "No space left on device: free" in str(machine_error(torchs))
    assert "out of memory" in str(machine_error(MemoryError()))
    denied = PermissionError(errno.EACCES, "Permission denied", "/x")
    assert "permissions" in str(machine_error(denied))


def test_what_is_of_another_kind_stays_what_it_is() -> None:
    assert machine_error(RuntimeError("shapes differ")) is None
    assert machine_error(DataError("no rows")) is None
    missing = DataError("load() failed: no such file: a.csv")
    missing.__context__ = FileNotFoundError(errno.ENOENT, "No such file or directory", "a.csv")
    assert machine_error(missing) is None
    loop = RuntimeError("a")
    loop.__context__ = RuntimeError("b")
    loop.__context__.__context__ = loop
    assert machine_error(loop) is None


def test_every_code_has_its_meaning_and_stands_in_the_documents() -> None:
    text = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    table = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    assert f"| code | meaning |\n| --- | --- |\n{table}\n" in text
    ours = [
        one.exit_code
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, MarwrightError)
    ]
    assert len(set(ours)) == len(ours)
    assert set(ours) < EXIT_CODES.keys()


@mounts
@pytest.mark.torch
def test_a_full_temporary_disk_is_no_fault_of_an_archive(
    built_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mar = write_mar(tmp_path / "big.mar", extra={"weights": bytes(3 << 20)})
    (built_project / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(built_project / "tmp"))
    done = on_disk(built_project, "tmp", "size=1m", "verify", str(mar))
    assert done.stdout.endswith("code 12\n"), done
    assert "No space left on device: free some space" in done.stderr
    assert "Traceback" not in done.stderr


SLOW = "import time\nopen(__import__('os').environ['TMPDIR'] + '/up', 'w')\ntime.sleep(60)\n"


@pytest.mark.torch
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 143, "told to end"),
        (signal.SIGHUP, 129, "its terminal was closed"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_verify_that_is_ended_leaves_nothing(
    tmp_path: Path, number: int, code: int, said: str
) -> None:
    temp = tmp_path / "tmp"
    temp.mkdir()
    mar = write_mar(tmp_path / "slow.mar", f"{SLOW}def handle(data, context): ...\n")
    with verifying(mar, temp) as process:
        wait_for(temp, process)
        process.send_signal(number)
        # As an impatient person does.
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors.strip() == f"marwright: {said}; what was complete stays"
    assert [*temp.iterdir()] == []


@pytest.mark.torch
def test_what_a_killed_verify_left_goes_with_the_next(tmp_path: Path) -> None:
    temp = tmp_path / "tmp"
    temp.mkdir()
    slow = write_mar(tmp_path / "slow.mar", f"{SLOW}def handle(data, context): ...\n")
    broken = write_mar(tmp_path / "x.mar", "def nothing(")
    with verifying(slow, temp) as living, verifying(slow, temp) as dying:
        wait_for(temp, living, dying)
        dying.kill()
        dying.wait()
        with verifying(broken, temp) as third:
            third.communicate(timeout=60)
        assert third.returncode == 4
        assert len([*temp.glob("marwright-verify-*")]) == 1
        assert living.poll() is None
        living.terminate()
    assert [*temp.glob("marwright-verify-*")] == []


def verifying(mar: Path, temp: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "marwright", "verify", str(mar)],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(temp)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(temp: Path, *processes: subprocess.Popen[str]) -> None:
    """Wait until the handlers of so many `verify` run."""
    while len([*temp.glob("marwright-verify-*/tmp/up")]) < len(processes):
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_temporary_files_without_a_place_are_a_sentence(tmp_path: Path) -> None:
    mar = write_mar(tmp_path / "x.mar")
    script = (
        "import sys, tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere']; "
        "from marwright.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "verify", str(mar)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 12
    assert "No usable temporary directory found" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_and_a_temporary_folder_that_are_not_there_do_not_matter(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "marwright", "verify", str(write_mar(tmp_path / "x.mar"))],
        cwd=ROOT, env={"PATH": os.environ["PATH"], "TMPDIR": "/nowhere"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_writing_beside_a_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file") as raised:
        write_bytes(tmp_path / "file" / "x", b"")
    assert "move away what lies there" in str(machine_error(raised.value))
