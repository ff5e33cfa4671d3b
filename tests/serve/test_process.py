import contextlib
import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from marwright.recipe.errors import ServeError
from marwright.serve.folders import Home
from marwright.serve.ports import Ports
from marwright.serve.process import Birth, Record, end, read_record

# A server in small: a leader with a child, in a session of their own.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
print(child.pid, flush=True)
time.sleep(600)
"""
SLEEPS = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "open(__import__('sys').argv[1] + '/up', 'w'); time.sleep(600)"
)


@pytest.fixture
def family(tmp_path):
    with contextlib.ExitStack() as undo:

        def start(child):
            leader = undo.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", FAMILY, child, str(tmp_path)],
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            )
            undo.callback(leader.kill)
            started = psutil.Process(int(leader.stdout.readline()))
            # psutil kills this process, and none that has its number later.
            undo.callback(lambda: started.is_running() and started.kill())
            while str(tmp_path) not in started.cmdline():
                time.sleep(0.01)  # Linux shows it a moment after the process has begun
            return leader, started.pid

        yield start


def record_of(leader, child, temp):
    return Record(
        launcher=Birth.of(leader),
        jvm=Birth.of(child),
        ports=Ports.following(9080),
        archives=(),
        temp=str(temp),
    )


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_record_is_read_back_while_its_server_lives(tmp_path):
    home = Home(path=tmp_path)
    assert read_record(home) is None
    record = record_of(os.getpid(), os.getpid(), tmp_path)
    record.write(home.record)
    assert read_record(home) == record


def test_a_stranger_with_the_same_number_is_no_server(tmp_path):
    home = Home(path=tmp_path)
    record = record_of(os.getpid(), os.getpid(), tmp_path)
    record.write(home.record)
    raw = json.loads(home.record.read_text())
    for process in ("launcher", "jvm"):
        raw[process]["created"] -= 60
    home.record.write_text(json.dumps(raw))
    assert read_record(home) is None


def test_a_dead_servers_record_is_none_also_in_the_words_of_another_version(tmp_path):
    home = Home(path=tmp_path)
    births = {"launcher": {"pid": os.getpid(), "created": 1.0}, "jvm": None}
    home.record.write_text(json.dumps({**births, "models": ["digits"]}))
    assert read_record(home) is None


@pytest.mark.parametrize("text", ["", "{}", '{"launcher": 1}'])
def test_a_record_that_is_none_is_not_taken_for_nothing(tmp_path, text):
    home = Home(path=tmp_path)
    home.record.write_text(text)
    with pytest.raises(ServeError, match="not a record of a server"):
        read_record(home)


def test_the_whole_family_ends(family, tmp_path):
    leader, child = family(SLEEPS)
    assert end(record_of(leader.pid, leader.pid, tmp_path))
    assert gone(child)
    assert gone(leader.pid)


def test_who_does_not_listen_is_killed(family, tmp_path):
    leader, child = family(STUBBORN)
    while not (tmp_path / "up").exists():
        time.sleep(0.01)
    assert end(record_of(leader.pid, child, tmp_path), grace=0.3) is False
    assert gone(child)


def test_a_worker_whose_server_was_killed_is_found_by_its_folder(family, tmp_path):
    leader, child = family(SLEEPS)
    record = record_of(leader.pid, leader.pid, tmp_path)
    leader.kill()
    leader.wait()
    assert not gone(child)
    end(record)
    deadline = time.monotonic() + 5
    while not gone(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(child)


def test_nobody_else_is_touched(family, tmp_path):
    leader, child = family(SLEEPS)
    record = record_of(leader.pid, leader.pid, tmp_path / "another")
    leader.kill()
    leader.wait()
    end(record)
    assert not gone(child)
