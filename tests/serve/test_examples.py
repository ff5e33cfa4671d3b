import json
import shlex

import pytest

from marwright.serve.examples import Example, curl_line, write_example
from marwright.serve.stored import look_through
from tests.servers import write_mar

URL = "http://127.0.0.1:8080"


def golden(body, content_type, **more):
    sample = {"request": "MAR-INF/golden/0.request", "content_type": content_type, "answer": {}}
    index = {"atol": 0.1, "rtol": 0.1, "samples": [sample | more]}
    return {"MAR-INF/golden/index.json": json.dumps(index), "MAR-INF/golden/0.request": body}


def stored(folder, extra):
    write_mar(folder / "digits.mar", extra=extra)
    return look_through(folder).models[0]


def test_the_first_golden_request_becomes_a_file(tmp_path):
    model = stored(tmp_path, golden(b"\x89PNG", "image/png"))
    example = write_example(model, tmp_path)
    assert example == Example(path=tmp_path / "digits.png", content_type="image/png")
    assert example.path.read_bytes() == b"\x89PNG"


def test_a_text_becomes_a_file_that_is_called_one(tmp_path):
    content_type = "text/plain; charset=utf-8"
    example = write_example(stored(tmp_path, golden("größe", content_type)), tmp_path)
    assert example == Example(path=tmp_path / "digits.txt", content_type=content_type)
    assert example.path.read_text(encoding="utf-8") == "größe"
    assert shlex.split(curl_line("x", URL, None, example, tmp_path))[1:-1] == [
        "-H", f"Content-Type: {content_type}", "--data-binary", "@digits.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"MAR-INF/golden/index.json": "{}"},
        {"MAR-INF/golden/index.json": '{"atol": 1, "rtol": 1, "samples": []}'},
        golden(b"", "image/png", request="MAR-INF/golden/9.request"),
    ],
)
def test_an_archive_without_a_sample_has_no_example(tmp_path, extra):
    assert write_example(stored(tmp_path, extra), tmp_path) is None


def test_an_image_is_sent_from_its_file(tmp_path):
    example = Example(path=tmp_path / "a b" / "digits.png", content_type="image/png")
    line = curl_line("digits", URL, "to'ken", example, tmp_path)
    assert shlex.split(line) == [
        "curl",
        "-H",
        "Authorization: Bearer to'ken",
        "-H",
        "Content-Type: image/png",
        "--data-binary",
        "@a b/digits.png",
        "http://127.0.0.1:8080/predictions/digits",
    ]
    assert f"@{tmp_path}" in curl_line("digits", URL, None, example, tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("text", "inline"),
    [('[{"age": 1}]\n', True), ('{"s": "it\'s"}', True), ("[" + "1," * 400 + "1]", False),
     ('"@/etc/passwd"', False), ("[1,\n2]", False)],
)  # fmt: skip
def test_a_short_row_is_shown_and_a_long_one_sent_from_its_file(tmp_path, text, inline):
    path = tmp_path / "table.json"
    path.write_text(text)
    example = Example(path=path, content_type="application/json")
    words = shlex.split(curl_line("table", URL, "t", example, tmp_path))
    assert (words[-3:-1] == ["-d", text.strip()]) is inline
    assert ("@table.json" in words) is not inline


def test_without_an_example_the_line_leaves_a_place_for_one(tmp_path):
    assert (
        curl_line("x", URL, None, None, tmp_path) == f"curl --data-binary @FILE {URL}/predictions/x"
    )
