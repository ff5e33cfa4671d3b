"""One input to the running server, and a clear word when there is no answer."""

import io
import json
import os
import sys
from types import SimpleNamespace

import pytest

from pipeline.predict import find_running, predict, read_body
from pipeline.serve import HOME
from pipeline.serving.folders import Home
from pipeline.serving.ports import Ports, free_ports
from pipeline.serving.process import Birth, Record
from pipeline.serving.server import Server
from recipes.errors import ServeError
from tests.servers import CANNOT_LOAD, write_mar, write_root

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [
        ("a.png", b"x", "image/png"),
        ("a.JPG", b"x", "image/jpeg"),
        ("a.json", b"x", "application/json"),
        ("a", PNG, "image/png"),
        ("a.dat", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("a.txt", b' [{"age": 1}]', "application/json"),
        ("a.dat", b"x", "application/octet-stream"),
    ],
)
def test_a_file_is_sent_as_what_it_is(tmp_path, name, content, content_type):
    path = tmp_path / name
    path.write_bytes(content)
    body = read_body(str(path))
    assert (body.content, body.content_type) == (content, content_type)


@pytest.mark.parametrize("text", ['[{"age": 1}]', ' {"age": 1}'])
def test_json_itself_is_sent_as_json(text):
    body = read_body(text)
    assert (body.content, body.content_type) == (text.encode(), "application/json")


def test_standard_input_is_sent_as_what_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(PNG)))
    body = read_body("-")
    assert (body.content, body.content_type) == (PNG, "image/png")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ServeError, match=r"no\.png: no such file; INPUT is a file, - for"):
        read_body(str(tmp_path / "no.png"))
    with pytest.raises(ServeError, match="cannot be read: Is a directory"):
        read_body(str(tmp_path))


def test_without_a_server_the_command_is_named(tmp_path):
    root = write_root(tmp_path, free_ports())
    with pytest.raises(ServeError, match="start one with `make serve`"):
        predict(root=root, model="digits", input="[1]", port=None)


def test_a_server_on_another_port_is_named(tmp_path):
    root = write_root(tmp_path, free_ports())
    home = Home(path=root / HOME)
    home.path.mkdir(parents=True)
    home.settings.write_text("a=b\n")
    me = Birth.of(os.getpid())
    record = Record(
        launcher=me, jvm=me, ports=Ports.following(9080), models=("digits",), temp="/nowhere"
    )
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
