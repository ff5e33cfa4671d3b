"""Bodies through a real TorchServe, as clients send them: answered whole, or refused.

The archive holds our own `handlers/`, and models that answer with what they were given.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from marwright.project import ENGINE
from marwright.serve.ports import free_ports
from marwright.serve.server import Server
from tests.runtime.images import encoded, noise
from tests.servers import write_mar

pytestmark = [pytest.mark.torch, pytest.mark.serve]

HANDLER = """
from marwright.runtime.{module} import {read}
from marwright.runtime.service import Loaded, Service
from marwright.runtime.spec import ImageSpec, TableSpec, TextSpec

SPECS = {{
    "read_text": TextSpec(max_bytes=64),
    "read_table": TableSpec(
        columns=("a", "b"), categories=((), ("False", "True")), optional=(False, False),
        fill=(0.0, 0.0), center=(0.0, 0.0), scale=(1.0, 1.0), target="y", target_mean=0.0,
        target_std=1.0,
    ),
    "read_image": ImageSpec(
        channels=1, height=2, width=2, fit="stretch", interpolation="bilinear", mean=(0.0,),
        std=(1.0,),
    ),
}}
loaded = Loaded(model=lambda batch: batch.flatten(1).double(), spec=SPECS["{read}"])
service = Service(read={read}, answer=lambda out, _: out.tolist(), loaded=loaded)


def handle(data, context):
    return None if data is None else service.handle(data, context)
"""
URLENCODED = "application/x-www-form-urlencoded"
PNG = encoded(noise())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("bodies")
    files = {
        file.relative_to(ENGINE).as_posix(): file.read_bytes()
        for file in sorted((ENGINE / "marwright/runtime").rglob("*.py"))
    }
    files["marwright/__init__.py"] = b""
    for name, kind in (("texts", "text"), ("rows", "table"), ("pixels", "image")):
        source = HANDLER.format(module="read", read=f"read_{kind}")
        write_mar(home / "store" / f"{name}.mar", source, extra=files)
    with Server(store=home / "store", home=home / "home", port=free_ports()) as server:
        server.wait_ready()
        yield server


def ask(
    server: Server, model: str, body: bytes, content_type: str = "", *, path: str = "/predictions/"
) -> tuple[int, Any]:
    """Send exactly these bytes, and no header that was not asked for."""
    tokens = server.tokens
    assert tokens is not None
    headers = {"Host": "localhost", "Content-Length": str(len(body)), **tokens.header("inference")}
    if content_type:
        headers["Content-Type"] = content_type
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", server.ports.inference), timeout=60) as line:
        line.sendall(f"POST {path}{model} HTTP/1.1\r\n{head}\r\n".encode() + body)
        answer = b""
        while part := line.recv(1 << 16):
            answer += part
            told, _, content = answer.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", told.lower())
            if length and len(content) >= int(length[1]):
                break
    return int(told.split()[1]), json.loads(content)


def text(value: str) -> list[list[float]]:
    return [[float(byte + 1) for byte in value.encode()]]


def form(name: str, content: bytes, *, file: bool = True) -> bytes:
    place = '; filename="x"' if file else ""
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{place}\r\n\r\n'
    return head.encode() + content + b"\r\n"


MULTIPART, END = "multipart/form-data; boundary=xyz", b"--xyz--\r\n"


@pytest.mark.parametrize(
    ("model", "content_type", "body"),
    [
        ("texts", URLENCODED, b'{"text": "a = b"}'),
        ("texts", URLENCODED, b'{"text": "a & b"}'),
        ("texts", URLENCODED, b'{"text": "a"}'),
        ("texts", URLENCODED, b"hello world"),
        ("texts", URLENCODED, b"one & two = three"),
        ("texts", URLENCODED, b"a=b"),
        ("texts", URLENCODED, b"text=a = b"),
        ("texts", URLENCODED, b"data=hello & goodbye"),
        ("texts", URLENCODED, b"body=hello & goodbye"),
        ("texts", URLENCODED, b"data=first&data=second one"),
        ("texts", URLENCODED, b"data="),
        ("texts", URLENCODED, b""),
        ("texts", f"{URLENCODED}; charset=utf-8", b'{"text": "a = b"}'),
        ("texts", "Application/X-WWW-Form-URLencoded", b'{"text": "a = b"}'),
        ("rows", URLENCODED, b'{"a":1}'),
        ("rows", URLENCODED, b"[1, true]"),
        ("rows", URLENCODED, b'[{"a": 1, "b": true}]'),
        ("rows", URLENCODED, b'{"a": 1, "b": "x=y"}'),
        ("pixels", URLENCODED, PNG.replace(b"%", b"_").replace(b"&", b"_")),
        ("texts", MULTIPART, form("text", b"", file=False) + END),
        ("texts", MULTIPART, form("a", b"1", file=False) + form("b", b"2", file=False) + END),
        ("texts", MULTIPART, form("body", b"one") + form("data", b"another") + END),
        ("texts", MULTIPART, form("data", b"one") + form("body", b"another") + END),
        ("texts", MULTIPART, form("data", b"hi") + form("note", b"x") + END),
        ("pixels", MULTIPART, form("body", PNG) + form("data", PNG) + END),
        ("texts", MULTIPART, form("data", b"never ended", file=False)),
        ("texts", "multipart/form-data; boundary=other", form("data", b"hello") + END),
    ],
    ids=str,
)
def test_half_a_body_is_never_answered(
    server: Server, model: str, content_type: str, body: bytes
) -> None:
    status, answer = ask(server, model, body, content_type)
    assert 400 <= status < 500, answer
    assert "Content-Type" in answer["error"] or "several form fields" in answer["error"]


@pytest.mark.parametrize("body", [b"=", b"a=100%", b"&&", b"x=%zz"])
def test_what_the_frontend_itself_cannot_take_apart_is_a_500(server: Server, body: bytes) -> None:
    # As docs/reference/commands.md says: no handler hears of these.
    assert ask(server, "texts", body, URLENCODED)[0] == 500


@pytest.mark.parametrize(
    ("content_type", "body", "read"),
    [
        ("", b"a = b & c", "a = b & c"),
        ("", b'{"text": "a = b"}', "a = b"),
        ("text/plain", b"a = b & c", "a = b & c"),
        ("application/json", b'{"text": "a = b"}', "a = b"),
        ("text/plain", b"\xef\xbb\xbfhi", "hi"),
        ("text/plain; charset=utf-8", b'\xef\xbb\xbf{"text": "hi"}', "hi"),
        ("application/json", b'\xef\xbb\xbf{"text": "hi"}', "hi"),
        ("", b"\xef\xbb\xbfhi", "hi"),
        (URLENCODED, b"data=hello", "hello"),
        (URLENCODED, b"data=a+b%20c%3D%26", "a b c=&"),
        (MULTIPART, form("data", b"a = b & c", file=False) + END, "a = b & c"),
        (MULTIPART, form("anything", b"a = b & c") + END, "a = b & c"),
    ],
    ids=str,
)
def test_a_whole_text_is_answered(
    server: Server, content_type: str, body: bytes, read: str
) -> None:
    assert ask(server, "texts", body, content_type) == (200, text(read))


def test_a_text_of_another_encoding_is_refused(server: Server) -> None:
    status, answer = ask(server, "texts", "hi".encode("utf-16le"), "text/plain; charset=utf-16le")
    assert (status, "send it in UTF-8" in answer["error"]) == (415, True)
    assert ask(server, "texts", b"hi", "text/plain; charset=ISO-8859-1") == (200, text("hi"))


def test_the_field_that_torchserve_reads_is_no_half_of_a_request(server: Server) -> None:
    named = {"model": "?model_name=texts", "path": "/invocations"}
    assert ask(server, body=b"hi", **named) == (200, text("hi"))
    assert ask(server, body=form("data", b"hi") + END, content_type=MULTIPART, **named) == (
        200,
        text("hi"),
    )


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'\xef\xbb\xbf{"a": 1, "b": true}'),
        ("application/json", b"[1, true]"),
        ("", b'\xef\xbb\xbf[1, "True"]'),
        ("text/plain", b"\xef\xbb\xbf[[1, true]]"),
        (MULTIPART, form("data", b'\xef\xbb\xbf{"a": 1, "b": true}') + END),
    ],
    ids=str,
)
def test_rows_are_answered(server: Server, content_type: str, body: bytes) -> None:
    assert ask(server, "rows", body, content_type) == (200, [[1.0, 0.0, 1.0]])


def test_an_image_is_one_as_a_body_and_as_any_field_of_a_form(server: Server) -> None:
    status, plain = ask(server, "pixels", PNG)
    assert status == 200
    for name in ("data", "body", "file", "image", "img"):
        assert ask(server, "pixels", form(name, PNG) + END, MULTIPART) == (200, plain)
