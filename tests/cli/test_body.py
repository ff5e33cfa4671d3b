"""INPUT as a person gives it: what is sent, and as what."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from marwright.cli.body import read_body
from marwright.recipe.errors import UsageError

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"


@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [
        ("a.png", b"x", "image/png"),
        ("a.jpeg", b"x", "image/jpeg"),
        ("a.JPG", b"x", "image/jpeg"),
        ("a.json", b"x", "application/json"),
        # What the name says counts, also where the content says something else.
        ("a.json", PNG, "application/json"),
        ("a", PNG, "image/png"),
        ("a.dat", JPEG, "image/jpeg"),
        ("a.txt", b' [{"age": 1}]', "application/json"),
        ("a.txt", b'\n{"age": 1}', "application/json"),
        ("a.dat", b"x", "application/octet-stream"),
        ("a", b"", "application/octet-stream"),
        ("a", PNG[:-1], "application/octet-stream"),
        ("a", b"x" + PNG, "application/octet-stream"),
    ],
)
def test_a_file_is_sent_as_what_it_is(
    tmp_path: Path, name: str, content: bytes, content_type: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    body = read_body(str(path))
    assert (body.content, body.content_type) == (content, content_type)


@pytest.mark.parametrize("text", ['[{"age": 1}]', ' {"age": 1}', '["é"]', "{broken"])
def test_json_itself_is_sent_as_json(text: str) -> None:
    """Whether it is JSON in truth is for the server to say."""
    body = read_body(text)
    assert (body.content, body.content_type) == (text.encode(), "application/json")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(PNG, "image/png"), (b"[1]", "application/json"), (b"", "application/octet-stream")],
)
def test_standard_input_is_sent_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch, content: bytes, content_type: str
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    body = read_body("-")
    assert (body.content, body.content_type) == (content, content_type)


def test_a_missing_file_is_named_with_what_input_may_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        read_body(str(tmp_path / "no.png"))
    assert str(refusal.value) == (
        f"{tmp_path / 'no.png'}: no such file; INPUT is a file, - for standard input, or JSON "
        "itself"
    )


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        (".", "is a folder, not a file: name a file"),
        ("file/below", "Not a directory"),
        ("a" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_cause(tmp_path: Path, name: str, cause: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UsageError) as refusal:
        read_body(str(tmp_path / name))
    assert str(refusal.value) == f"{tmp_path / name}: cannot be read: {cause}"


def test_what_a_shell_gives_that_is_not_utf_8_is_sent_as_it_is() -> None:
    assert read_body('{"text": "caf\udce9"}').content == b'{"text": "caf\xe9"}'
