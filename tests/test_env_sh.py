"""`source env.sh` makes TorchServe's own commands work as typed, and `deactivate` undoes it."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from marwright.cli.predict import predict
from marwright.recipe.errors import ServeError
from marwright.serve.ports import Ports, free_ports
from tests.servers import ROOT, write_mar, write_root

# env.sh is sourced by a person's own shell; not every machine has both.
SHELLS = [
    pytest.param(
        shell,
        marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"there is no {shell}"),
    )
    for shell in ("bash", "zsh")
]
NAMES = (
    "JAVA_HOME TS_CONFIG_FILE TMPDIR TEMP LOG_LOCATION METRICS_LOCATION "
    "LOG4J_CONFIGURATION_FILE PYTHONPATH VIRTUAL_ENV PATH"
)
SHOW = (
    f'show() {{ echo "== $1"; for n in {NAMES}; do '
    r'eval "echo $n=\"\${$n-unset}\""; done; umask; }'
)


@pytest.fixture
def checkout(tmp_path):
    """A checkout in small that runs our code in our environment."""
    root = write_root(tmp_path / "a b", free_ports())
    shutil.copy(ROOT / "env.sh", root)
    for name in (".venv", "src"):
        (root / name).symlink_to(ROOT / name)
    return root


def run(shell, script, cwd, **environ):
    base = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "LANG": "C.UTF-8"}
    flags = ["-f"] if shell == "zsh" else ["--norc", "--noprofile"]
    return subprocess.run(
        [shell, *flags, "-c", script],
        cwd=cwd,
        env=base | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def shown(done):
    parts = {}
    for part in done.stdout.split("== ")[1:]:
        name, *lines = part.splitlines()
        parts[name] = lines
    return parts


@pytest.mark.parametrize("shell", SHELLS)
def test_it_sets_everything_and_takes_it_back(shell, checkout, tmp_path):
    script = f"""
        set -u; {SHOW}
        umask 022; show before
        source '{checkout}/env.sh' && show first
        source '{checkout}/env.sh' && show second
        command -v torchserve
        deactivate; show after
        typeset -f | grep -c _marwright; set | grep -c '^_marwright'
    """
    done = run(shell, script, tmp_path, TMPDIR="/var/tmp", PYTHONPATH="/a b")
    assert (
        done.stderr
        == "env.sh: ready, but there is no archive to serve yet: run `make archive`\n" * 2
    )
    states = shown(done)
    assert states["first"] == states["second"][: len(states["first"])]
    assert states["second"][-1] == f"{ROOT}/.venv/bin/torchserve"
    assert states["after"][-2:] == ["0", "0"]
    assert states["after"][:-2] == states["before"]
    told = dict(line.split("=", 1) for line in states["first"][:-1])
    assert told["TS_CONFIG_FILE"] == str(checkout / "config.properties")
    assert told["TMPDIR"] == told["TEMP"]
    assert told["LOG_LOCATION"] == str(checkout / "build/serve/shell/logs")
    assert told["PYTHONPATH"] == "unset"
    assert int(states["first"][-1], 8) == 0o077


@pytest.mark.parametrize("shell", SHELLS)
def test_without_an_environment_it_names_the_command_and_changes_nothing(shell, tmp_path):
    shutil.copy(ROOT / "env.sh", tmp_path)
    script = f"{SHOW}; show before; source ./env.sh; echo $?; show after"
    done = run(shell, script, tmp_path)
    states = shown(done)
    assert states["before"][-1] == "1"
    assert states["before"][:-1] == states["after"]
    assert "run `make setup`" in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_run_instead_of_sourced_it_says_so(shell, checkout):
    done = subprocess.run(
        [shell, "env.sh"], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "env.sh: source it from bash or zsh: source env.sh\n"


@pytest.mark.serve
@pytest.mark.parametrize("shell", [SHELLS[0]])
def test_torchserve_works_as_typed_and_stops(shell, checkout, capfd):
    write_mar(checkout / "model_store" / "echo.mar")
    ports = Ports.configured(
        dict(
            line.split("=", 1)
            for line in (checkout / "config.properties").read_text().splitlines()
            if "=" in line and not line.startswith("#")
        )
    )
    start = 'source ./env.sh && torchserve --start --models all >out.txt 2>&1 && echo "$TMPDIR"'
    started = run(shell, start, checkout)
    assert started.returncode == 0, started.stderr
    temp = Path(started.stdout.strip())
    jvm = psutil.Process(listener(ports.inference))
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert predict(root=checkout, model="echo", input="[1]", port=None) == 0
                break
            except ServeError:
                assert time.monotonic() < deadline
                time.sleep(0.3)
        told = capfd.readouterr()
        assert '"body": [1]' in told.out
        assert "older" not in told.err
        write_mar(checkout / "model_store" / "echo.mar", extra={"a.txt": "newer"})
        assert predict(root=checkout, model="echo", input="[1]", port=None) == 0
        told = capfd.readouterr()
        assert json.loads(told.out)["body"] == [1]
        assert told.err.startswith("note: echo 1.0: echo.mar was published after the server was ")
        family = [jvm, *jvm.children(recursive=True)]
        stopped = run(shell, "source ./env.sh && torchserve --stop", checkout)
        assert stopped.stdout == "TorchServe has stopped.\n"
        assert psutil.wait_procs(family, timeout=20)[1] == []
    finally:
        if jvm.is_running():
            jvm.kill()
    assert not (checkout / "key_file.json").exists()
    # What it unpacked is gone.
    assert list((temp / "models").iterdir()) == []


def listener(port):
    """Wait for whoever listens on a port."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return connection.pid
        time.sleep(0.1)
    raise AssertionError(f"nobody listens on {port}")
