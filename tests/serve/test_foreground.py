"""A real TorchServe, from its start to the last of its workers."""

import fcntl
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from marwright.recipe.errors import ServeError
from marwright.serve import foreground as front
from marwright.serve.examples import curl_line
from marwright.serve.folders import Home
from marwright.serve.foreground import HOME
from marwright.serve.ports import Ports, free_ports
from marwright.serve.process import Birth, Record, note_stop, read_record
from marwright.serve.server import Server
from marwright.serve.tokens import read_tokens
from tests.servers import CANNOT_LOAD, DIES, ROOT, write_mar, write_root

GOLDEN = {
    "MAR-INF/golden/index.json": json.dumps(
        {
            "atol": 0.1,
            "rtol": 0.1,
            "samples": [
                {
                    "request": "MAR-INF/golden/0.request",
                    "content_type": "application/json",
                    "answer": {},
                }
            ],
        }
    ),
    "MAR-INF/golden/0.request": '[{"age": 72}]',
}
# `make serve` and `make stop`, without the command line.
RUN = """
import sys
from pathlib import Path
from marwright.serve.foreground import serve, stop
from marwright.recipe.errors import ServeError
root = Path(sys.argv[2])
try:
    sys.exit(serve(root=root, port=None, models=()) if sys.argv[1] == "serve" else stop(root))
except ServeError as error:
    sys.exit(f"ServeError: {error}")
"""


def family(pid):
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def assert_gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


@contextmanager
def serving(root, verb="serve"):
    """Run a verb, and wait for its end; a test that fails meanwhile ends it and all it started."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, verb, root],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        except BaseException:
            # Popen would wait for a server that nobody stops, and then say what failed.
            if process.poll() is None:
                for one in family(process.pid):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
            raise


def until(process, words):
    """Read what a process prints, up to the line that begins with `words`."""
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith(words):
            return said
    raise AssertionError(f"ended without {words!r}:\n{said}")


# Without a server


def test_nothing_to_serve_names_the_command(tmp_path):
    root = write_root(tmp_path, free_ports())
    with pytest.raises(ServeError, match="Run `make archive`"):
        front.serve(root=root, port=None, models=())
    assert not (root / HOME).exists()


def stopped(root):
    """Leave what `make stop` leaves of a run before this one."""
    home = Home(path=root / HOME)
    home.path.mkdir(parents=True)
    mine = Birth.of(os.getpid())
    record = Record(
        launcher=mine, jvm=None, ports=Ports.following(9080), archives=(), temp="/nowhere"
    )
    note_stop(home, record)
    return home


@pytest.mark.parametrize("mark", [b"", b"[]", None])
@pytest.mark.parametrize("fault", ["empty store", "unknown model", "used port", "no config"])
def test_what_make_stop_left_decides_nothing_about_a_later_start(tmp_path, mark, fault):
    root = write_root(tmp_path, free_ports())
    home = stopped(root)
    if mark is not None:
        home.stopping.write_bytes(mark)
    if fault != "empty store":
        write_mar(root / "model_store" / "echo.mar")
    if fault == "no config":
        (root / "config.properties").unlink()
    models = ["ehco"] if fault == "unknown model" else []
    said = {
        "empty store": "no archive to serve",
        "unknown model": 'did you mean "echo"',
        "used port": "in use on this machine",
        "no config": "cannot be read",
    }
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if fault == "used port" else None
        with pytest.raises(ServeError, match=said[fault]):
            front.serve(root=root, port=port, models=models)


def test_stop_waits_for_a_server_that_is_just_being_started(tmp_path, capsys):
    home = Home(path=(tmp_path / HOME).absolute())
    home.path.mkdir(parents=True)
    with home.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ServeError, match="being started or stopped"):
            front.stop(tmp_path, patience=0.2)
    assert front.stop(tmp_path) == 0
    assert "nothing to stop" in capsys.readouterr().out


def test_nothing_to_stop_is_said(tmp_path, capsys):
    assert front.stop(tmp_path) == 0
    assert capsys.readouterr().out == "nothing to stop: no server of `make serve` runs here\n"
    (tmp_path / "key_file.json").touch()
    assert front.stop(tmp_path) == 0
    assert "`torchserve --stop`" in capsys.readouterr().out


def test_no_java_leaves_nothing_behind(tmp_path, monkeypatch):
    def nowhere():
        raise ServeError("no Java")

    monkeypatch.setattr("marwright.serve.process.find_java", nowhere)
    write_mar(tmp_path / "store" / "echo.mar")
    home = tmp_path / "home"
    with pytest.raises(ServeError, match="no Java"):
        Server(store=tmp_path / "store", home=home, port=free_ports()).start()
    assert read_record(Home(path=home)) is None
    assert not (home / "tmp").exists()


# With a server


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A server with a model that works and two that cannot load, and how they ended up."""
    root = write_root(tmp_path_factory.mktemp("mixed"), free_ports())
    store = root / "model_store"
    write_mar(store / "echo.mar", extra=GOLDEN)
    write_mar(store / "broken.mar", CANNOT_LOAD)
    write_mar(store / "dies.mar", DIES)
    write_mar(store / "twin.mar", name="echo")
    os.environ["MARWRIGHT_TEST_API_KEY"] = "secret"
    os.environ["PYTHONPATH"] = "/nowhere"
    try:
        with Server(store=store, home=root / HOME, config=root / "config.properties") as server:
            ended = {one.model.name: one for one in server.settle()}
            yield SimpleNamespace(root=root, server=server, ended=ended)
    finally:
        del os.environ["MARWRIGHT_TEST_API_KEY"], os.environ["PYTHONPATH"]


@pytest.mark.serve
def test_ready_means_a_prediction_is_answered(mixed):
    assert mixed.ended["echo"].is_ready
    answer = mixed.server.predict("echo", json=[{"a": 1}])
    assert answer.status_code == 200
    assert answer.json()["body"] == [{"a": 1}]
    assert mixed.server.predict("echo", content=b"\x89PNG").json()["body"] == "\x89PNG"


@pytest.mark.serve
def test_a_model_that_cannot_load_is_named_with_its_cause_and_refused_at_once(mixed):
    assert (
        mixed.ended["broken"]
        .cause.splitlines()[0]
        .startswith('  File "<archive>/broken_handler.py"')
    )
    assert mixed.ended["broken"].cause.endswith("No module named 'not_there_at_all'")
    assert "dies while it loads" in mixed.ended["dies"].cause
    began = time.monotonic()
    assert mixed.server.predict("broken", content=b"1").status_code == 503
    assert time.monotonic() - began < 2
    assert "twin.mar: echo 1.0 is echo.mar already" in mixed.server.shelf.refused[0]


@pytest.mark.serve
def test_strangers_are_refused(mixed):
    import httpx

    answer = httpx.post(f"{mixed.server.url}/predictions/echo", content=b"1", trust_env=False)
    assert answer.status_code == 400
    assert "Token Authorization failed" in answer.text
    management = mixed.server.tokens.header("management")
    for path in ("/models?url=echo.mar", "/models?url=http://127.0.0.1:9/x.mar"):
        answer = httpx.post(mixed.server.management_url + path, headers=management, trust_env=False)
        assert answer.status_code == 405
    answer = httpx.post(
        f"{mixed.server.management_url}/workflows?url=http://127.0.0.1:9/x.war",
        headers=management,
        trust_env=False,
    )
    assert "does not match any allowed URL" in answer.text
    assert httpx.get(f"{mixed.server.metrics_url}/metrics", trust_env=False).status_code == 200


@pytest.mark.serve
def test_it_listens_on_loopback_only(mixed):
    bound = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for connection in psutil.Process(mixed.server.pid).net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert bound == {("127.0.0.1", port) for port in mixed.server.ports.named().values()}


@pytest.mark.serve
def test_what_it_writes_is_private_and_in_its_home(mixed):
    told = mixed.server.predict("echo", content=b"").json()
    assert stat.S_IMODE(mixed.server.home.key_file.stat().st_mode) == 0o600
    assert told["environ"]["TMPDIR"] == told["environ"]["TEMP"]
    assert told["cwd"].startswith(told["environ"]["TEMP"])
    assert stat.S_IMODE(Path(told["environ"]["TEMP"]).stat().st_mode) == 0o700
    assert sorted(path.name for path in mixed.root.iterdir()) == [
        "build",
        "config.properties",
        "model_store",
    ]


@pytest.mark.serve
def test_a_worker_sees_neither_secrets_nor_our_modules(mixed):
    environ = mixed.server.predict("echo", content=b"").json()["environ"]
    assert "MARWRIGHT_TEST_API_KEY" not in environ
    assert "/nowhere" not in environ["PYTHONPATH"]


@pytest.mark.serve
def test_a_second_server_is_refused_with_the_firsts_pid_and_port(mixed):
    with pytest.raises(
        ServeError, match=rf"pid {mixed.server.pid}, port {mixed.server.ports.inference}"
    ):
        Server(store=mixed.server.store, home=mixed.server.home.path, port=free_ports()).start()
    other = Server(
        store=mixed.server.store, home=mixed.root / "other", port=mixed.server.ports.inference
    )
    with pytest.raises(ServeError, match=rf"{mixed.server.ports.inference} \(inference\)"):
        other.start()
    assert mixed.server.predict("echo", content=b"").status_code == 200


@pytest.mark.serve
def test_wait_ready_fails_for_what_is_not_served(mixed):
    with pytest.raises(ServeError, match=r"(?s)broken 1\.0: not served.*twin\.mar"):
        mixed.server.wait_ready(deadline=1.0)


@pytest.mark.serve
def test_serve_prints_lines_that_work_and_sigterm_leaves_nothing(tmp_path):
    root = write_root(tmp_path / "a b", free_ports())
    write_mar(root / "model_store" / "echo.mar", extra=GOLDEN)
    with serving(root) as process:
        said = until(process, "Ctrl-C")
        started = family(process.pid)
        [line] = [line.strip() for line in said.splitlines() if line.startswith("  curl ")]
        words = shlex.split(line)
        assert words[words.index("-d") + 1] == '[{"age": 72}]'
        answer = subprocess.run(
            ["curl", "--noproxy", "*", "-sS", *words[1:]], capture_output=True, check=True
        )
        assert json.loads(answer.stdout)["body"] == [{"age": 72}]
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read().endswith("stopped\n")
        assert process.wait() == 0
    assert "echo 1.0: READY with 1 worker after" in said
    # This process, the launcher, the JVM and a worker.
    assert len(started) >= 4
    assert_gone(started)
    left = {path.name for path in (root / HOME).iterdir()}
    assert not left & {"key_file.json", "server.json", "tmp"}


@pytest.mark.serve
def test_stop_ends_a_server_while_it_starts_and_another_can_follow(tmp_path):
    root = write_root(tmp_path, free_ports())
    write_mar(root / "model_store" / "echo.mar")
    with serving(root) as process:
        until(process, "starting TorchServe")
        started = family(process.pid)
        with serving(root, "stop") as stopping:
            assert stopping.stdout.read().endswith("stopped\n")
        assert stopping.returncode == 0
        assert process.stdout.read().endswith("stopped by `make stop`\n")
    assert process.returncode == 0
    assert_gone(started)
    with Server(
        store=root / "model_store", home=root / HOME, config=root / "config.properties"
    ) as server:
        assert server.running


@pytest.mark.serve
def test_a_test_that_fails_ends_its_server_at_once(tmp_path):
    root = write_root(tmp_path, free_ports())
    write_mar(root / "model_store" / "echo.mar")
    began = started = None
    with pytest.raises(AssertionError, match="as said"), serving(root) as process:
        until(process, "Ctrl-C")
        started, began = family(process.pid), time.monotonic()
        raise AssertionError("as said")
    assert time.monotonic() - began < 10
    assert_gone(started)


@pytest.mark.serve
def test_what_happens_to_a_running_server_is_told_as_what_it_is(tmp_path):
    root = write_root(tmp_path, free_ports())
    store = root / "model_store"
    write_mar(store / "echo.mar")
    # Nothing of this is served in its place.
    write_mar(store / ".hidden.mar", DIES, name="echo")
    write_mar(store / "a_twin.mar", DIES, name="echo")
    (store / "echo.mar~").touch()
    (store / "upper.MAR").touch()
    with serving(root) as process:
        said = until(process, "Ctrl-C")
        assert f"left out: {store}/a_twin.mar: echo 1.0 is echo.mar already" in said
        for name in (".hidden.mar", "echo.mar~", "upper.MAR"):
            assert f"not served: {store}/{name}: is no archive: `rm " in said
        assert "echo 1.0: READY with 1 worker" in said
        record = read_record(Home(path=root / HOME))
        [worker] = workers(record)
        worker.kill()
        until(process, "echo_1.0: a worker has died (killed, out of memory")
        until(process, "echo_1.0: it has its worker again")
        done = predicting(root)
        assert (done.returncode, done.stderr) == (0, "")
        # As `publish` does, and under other bytes.
        write_mar(tmp_path / "new.mar", name="echo", extra={"a.txt": "newer"})
        (tmp_path / "new.mar").replace(store / "echo.mar")
        until(process, "echo 1.0: the server runs an older echo.mar (")
        done = predicting(root)
        assert done.returncode == 0
        assert json.loads(done.stdout)["body"] == [1]
        assert done.stderr.startswith("note: echo 1.0: the server runs an older echo.mar (")
        (store / "echo.mar").unlink()
        until(process, "echo 1.0: echo.mar is not in the store any more")
        psutil.Process(record.jvm.pid).terminate()
        rest = process.stdout.read()
    assert process.returncode == 1
    assert "ServeError: TorchServe ended by itself" in rest
    assert "Traceback" not in rest


def workers(record):
    family = psutil.Process(record.jvm.pid).children(recursive=True)
    return [one for one in family if "model_service_worker" in " ".join(one.cmdline())]


def predicting(root):
    script = (
        "import sys; from pathlib import Path; from marwright.cli.predict import predict; "
        "sys.exit(predict(root=Path(sys.argv[1]), model='echo', input='[1]', port=None))"
    )
    return subprocess.run(
        [sys.executable, "-c", script, root], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.serve
def test_a_server_that_dies_is_an_error_and_its_busy_worker_goes_too(tmp_path):
    root = write_root(tmp_path, free_ports())
    write_mar(root / "model_store" / "echo.mar")
    home = Home(path=root / HOME)
    with serving(root) as process:
        until(process, "Ctrl-C")
        started = family(process.pid)
        record = read_record(home)
        token = read_tokens(home.key_file).inference
        line = curl_line("echo", f"http://127.0.0.1:{record.ports.inference}", token, None, root)
        words = [*shlex.split(line), "-H", "Content-Type: application/json", "-d", '{"sleep": 600}']
        words.remove("--data-binary")
        words.remove("@FILE")
        busy = subprocess.Popen([*words, "--noproxy", "*", "-sS"], stderr=subprocess.DEVNULL)
        time.sleep(1)
        assert busy.poll() is None
        psutil.Process(record.jvm.pid).kill()
        said = process.stdout.read()
        assert busy.wait() != 0
    assert process.returncode == 1
    assert "ServeError: TorchServe ended by itself" in said
    assert str(home.logs) in said
    assert_gone(started)
    assert read_record(home) is None
