import os
import shutil
import stat
import subprocess
import sys
import time

import pytest

from marwright.recipe.errors import ServeError
from marwright.serve.folders import (
    LONGEST,
    PID_FILE,
    Home,
    clear_dead,
    require_room,
    shell_server,
    short_folder,
)
from tests.servers import ROOT, write_mar


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_start_finds_clean_folders_and_keeps_the_last_logs(tmp_path):
    home = Home(path=tmp_path / "home")
    home.prepare()
    (home.logs / "ts_log.log").write_text("the run before")
    for left in (home.key_file, home.record, home.stopping):
        left.write_text("old")
    (home.path / "tmp" / "models").mkdir()
    temp = home.prepare()
    assert list(temp.iterdir()) == []
    assert list(home.logs.iterdir()) == []
    assert (home.path / "logs.before" / "ts_log.log").read_text() == "the run before"
    assert not any(left.exists() for left in (home.key_file, home.record, home.stopping))
    assert [mode(path) for path in (temp, home.logs, home.examples)] == [0o700] * 3


def test_a_folder_whose_sockets_would_be_too_long_gets_a_stand_in(tmp_path):
    wanted = tmp_path / ("x" * 100)
    folder = short_folder(wanted)
    try:
        assert len(os.fsencode(folder)) <= LONGEST
        assert mode(folder) == 0o700
        assert short_folder(wanted) == folder
        assert short_folder(tmp_path / ("y" * 100)) != folder
        folder.chmod(0o777)
        with pytest.raises(ServeError, match="open to others"):
            short_folder(wanted)
    finally:
        folder.rmdir()
        short_folder(tmp_path / ("y" * 100)).rmdir()


def test_a_stand_in_that_leads_elsewhere_is_refused(tmp_path):
    wanted = tmp_path / ("z" * 100)
    folder = short_folder(wanted)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    try:
        with pytest.raises(ServeError, match="belongs to somebody else"):
            short_folder(wanted)
    finally:
        folder.unlink()


def test_the_module_prints_the_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "marwright.serve.folders", tmp_path / "a"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path / 'a'}\n"
    assert (tmp_path / "a").is_dir()


@pytest.mark.parametrize(
    "number",
    ["", "x", "999999999", pytest.param(str(os.getpid()), id="a process that is no server")],
)
def test_what_a_dead_server_of_the_shell_left_is_cleared(tmp_path, number):
    (tmp_path / PID_FILE).write_text(number)
    (tmp_path / "models" / "0123").mkdir(parents=True)
    (tmp_path / ".ts.sock.9000").touch()
    (tmp_path / "notes").touch()
    assert shell_server(tmp_path) is None
    clear_dead(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_a_living_server_of_the_shell_keeps_its_folder(tmp_path):
    command = [sys.executable, "-c", "input()", f"-Djava.io.tmpdir={tmp_path}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        (tmp_path / PID_FILE).write_text(str(server.pid))
        (tmp_path / "models").mkdir()
        while shell_server(tmp_path) is None:
            time.sleep(0.01)  # Linux shows a command a moment after its process has begun
        clear_dead(tmp_path)
        assert (tmp_path / "models").exists()
        # Another folder's server is none of this one.
        assert shell_server(tmp_path / "models") is None
        server.communicate(b"\n")
    clear_dead(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_room_is_asked_for_before_a_server_fills_its_disk(tmp_path):
    mar = write_mar(tmp_path / "a.mar", extra={"weights": bytes(1 << 20)})
    require_room(tmp_path, [mar, tmp_path / "gone.mar"])
    with pytest.raises(ServeError, match=r"unpack to [\d.]+ MiB there, and its disk has"):
        require_room(tmp_path, [mar] * (shutil.disk_usage(tmp_path).free // (1 << 20) + 2))
