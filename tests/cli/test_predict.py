"""One input to the running server, and a clear word when there is no answer."""

import json
import os
from types import SimpleNamespace

import pytest

from marwright.cli.predict import find_running, predict
from marwright.recipe.errors import ServeError, UsageError
from marwright.serve.folders import Home
from marwright.serve.foreground import HOME
from marwright.serve.ports import Ports, free_ports
from marwright.serve.process import Birth, Record
from marwright.serve.server import Server
from tests.servers import CANNOT_LOAD, write_mar, write_root

PNG = b"\x89PNG\r\n\x1a\n"


def test_without_a_server_the_command_is_named(tmp_path):
    root = write_root(tmp_path, free_ports())
    with pytest.raises(ServeError, match="start one with `make serve`"):
        predict(root=root, model="digits", input="[1]", port=None)


def test_an_input_that_is_not_there_is_named_before_a_server_is_looked_for(tmp_path):
    root = write_root(tmp_path, free_ports())
    with pytest.raises(UsageError, match=r"no\.png: no such file"):
        predict(root=root, model="digits", input=str(tmp_path / "no.png"), port=None)


def test_a_server_on_another_port_is_named(tmp_path):
    root = write_root(tmp_path, free_ports())
    home = Home(path=root / HOME)
    home.path.mkdir(parents=True)
    home.settings.write_text("a=b\n")
    me = Birth.of(os.getpid())
    record = Record(launcher=me, jvm=me, ports=Ports.following(9080), archives=(), temp="/nowhere")
    record.write(home.record)
    assert find_running(root, None).url == "http://127.0.0.1:9080"
    assert find_running(root, 9080).key_file == home.key_file
    with pytest.raises(ServeError, match="on port 8888: the one of `make serve` is on 9080"):
        find_running(root, 8888)


def test_tokens_that_a_dead_server_left_are_not_taken_for_a_server(tmp_path):
    root = write_root(tmp_path, free_ports())
    ends = {"key": "k", "expiration time": "2999-01-01T00:00:00Z"}
    tokens = {"inference": ends, "management": ends, "API": {"key": "a"}}
    (root / "key_file.json").write_text(json.dumps(tokens))
    with pytest.raises(ServeError, match=r"no server answers .*`make serve`"):
        predict(root=root, model="digits", input="[1]", port=None)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    root = write_root(tmp_path_factory.mktemp("predict"), free_ports())
    write_mar(root / "model_store" / "echo.mar")
    write_mar(root / "model_store" / "broken.mar", CANNOT_LOAD)
    with Server(
        store=root / "model_store", home=root / HOME, config=root / "config.properties"
    ) as server:
        server.settle()
        yield SimpleNamespace(root=root, server=server)


def ask(running, model, text):
    return predict(root=running.root, model=model, input=text, port=None)


@pytest.mark.serve
def test_the_answer_is_printed_as_it_came(running, tmp_path, capfdbinary):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    assert ask(running, "echo", str(path)) == 0
    printed = capfdbinary.readouterr().out
    assert printed.endswith(b"}\n")
    assert json.loads(printed)["body"] == PNG.decode("latin-1")
    assert ask(running, "echo", '[{"age": 1}]') == 0
    assert json.loads(capfdbinary.readouterr().out)["body"] == [{"age": 1}]


@pytest.mark.serve
@pytest.mark.parametrize(
    ("model", "text", "words"),
    [
        ("ehco", "[1]", r'ehco is not loaded; did you mean "echo"\?'),
        ("e/../echo?x#\udcff", "[1]", "is not loaded; known: "),
        ("broken", "[1]", r"broken has no READY worker: .*model_log\.log"),
        ("echo", '{"status": 422}', "echo answered 422: as asked"),
    ],
)
def test_what_is_no_answer_is_an_error(running, model, text, words):
    with pytest.raises(ServeError, match=words):
        ask(running, model, text)


@pytest.mark.serve
def test_tokens_that_have_run_out_are_renewed(running, capfdbinary):
    key_file = running.server.home.key_file
    before = running.server.tokens
    told = json.loads(key_file.read_text())
    for kind in ("inference", "management"):
        told[kind]["expiration time"] = "2020-01-01T00:00:00Z"
    key_file.write_text(json.dumps(told))
    assert ask(running, "echo", "[1]") == 0
    after = running.server.tokens
    assert after.inference != before.inference
    assert after.management != before.management
    assert key_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.serve
def test_tokens_of_another_run_are_refused(running):
    key_file = running.server.home.key_file
    text = key_file.read_text()
    try:
        key_file.write_text(text.replace('"key": "', '"key": "x'))
        with pytest.raises(ServeError, match=r"refuses the token of .*key_file\.json"):
            ask(running, "echo", "[1]")
    finally:
        key_file.write_text(text)
