"""A request as TorchServe hands it over, and what is said of a bad one."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from itertools import islice
from typing import Any

# What some editors put in front of UTF-8; part of no text, and of no JSON.
BOM = "\ufeff"
# Of a text's content type; TorchServe reads UTF-8, whatever it says.
_CHARSET = re.compile(r"text/[^;]*;(?:.*;)?\s*charset\s*=\s*[\"']?([^\s;\"']*)", re.IGNORECASE)
_UTF_8 = ("", "utf-8", "utf8", "us-ascii", "ascii")
# UTF-16 and UTF-32 hold NUL, and ISO-2022 switches by ESC: ASCII to the eye, and other letters.
_SWITCHED = re.compile(r"[\0\x1b]|[^\0-\x7f]")
_IN_FRONT = re.compile(rf"[\s{BOM}]+")
# Of form fields; others are taken where a form is plainly no body that was split.
FIELDS = ("body", "data", "file", "image")
# A field that TorchServe reads itself, of requests to `/invocations`.
_MODEL = "model_name"
_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_HOW = (
    "send it whole, with its Content-Type: -H 'Content-Type: application/json' for JSON, "
    "text/plain for a text, application/octet-stream for an image (without one, curl -d says "
    "application/x-www-form-urlencoded)"
)
# Bytes whose characters are not looked at one by one.
_LONG = 1 << 16
# Of a part of `multipart/form-data`, beside its value: names, boundaries and headers.
_PART = 1024
# A problem quotes the request, and a request may be megabytes of one name.
_LONGEST_PROBLEM = 500


class BadRequest(Exception):
    """The client's mistake: answered with `status` and a JSON body that names the problem."""

    def __init__(self, problem: str, status: int = 400) -> None:
        super().__init__(problem)
        self.status = status


def body_of(fields: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> object:
    """Return the one value that a request carries, whole: its body, or a form field.

    TorchServe gives a plain body the name `body`; `data` is what its own examples post. It takes a
    body that came without a content type of its own for a form, as curl says of `-d`, and splits it
    at `&` and `=`: what may be such a part is refused. `headers` are the request's, and tell one
    form from another. Raises `BadRequest` when there is nothing, several fields, or no telling what
    was sent: of two fields, handlers disagree which one counts.
    """
    content_type, length = _told(headers or {})
    if content_type == _MULTIPART and length is not None:
        _require_all(fields, length)
    if len(fields) == 2 and _MODEL in fields:
        fields = {name: value for name, value in fields.items() if name != _MODEL}
    if content_type == _URLENCODED:
        return _whole_field(fields, length)
    if not fields:
        raise BadRequest(f"the request is empty: {_HOW}")
    if len(fields) > 1:
        names = ", ".join(name[:40] for name in sorted(islice(fields, 5)))
        raise BadRequest(f"several form fields ({names}): send one, called `data`")
    (name,) = fields
    if name == "body":
        _require_utf_8(fields[name], headers or {})
        return fields[name]
    is_known = name in FIELDS or content_type == _MULTIPART
    if not is_known or name.lstrip()[:1] in ("{", "[") or _is_empty(fields[name]):
        raise _no_whole_body(f"the form field {name[:40]!r}")
    return fields[name]


def _told(headers: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return a request's content type, without its parameters, and its length."""
    found = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    length = found.get("content-length", "")
    # Cut as TorchServe cuts it, so that both see a form in the same requests.
    content_type = found.get("content-type", "").partition(";")[0].lower()
    return content_type, int(length) if length.isdecimal() and length.isascii() else None


def _require_utf_8(body: object, headers: Mapping[str, Any]) -> None:
    """Refuse a text in another encoding that would be read as UTF-8, and mean something else."""
    told = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    charset = _CHARSET.match(told) if isinstance(told, str) else None
    if charset is None or charset[1].lower() in _UTF_8:
        return
    text = body.decode(errors="replace") if isinstance(body, (bytes, bytearray)) else body
    if isinstance(text, str) and _SWITCHED.search(text):
        raise BadRequest(f"the text is said to be in {charset[1][:40]!r}: send it in UTF-8", 415)


def _whole_field(fields: Mapping[str, Any], length: int | None) -> object:
    """Return the value of a form that has no other field, nor lost one of the same name."""
    if not fields:
        raise _no_whole_body("a form without fields")
    (name, *others) = islice(fields, 2)
    value = fields[name]
    if others or name not in FIELDS or _is_empty(value):
        raise _no_whole_body(
            f"{'several form fields, ' * bool(others)}the form field {name[:40]!r}"
        )
    if length is not None and isinstance(value, (bytes, bytearray)):
        # A byte may have been sent as three; what is plain never is.
        odd = len(value) - len(re.findall(rb"[A-Za-z0-9]", value)) if length < _LONG else len(value)
        if length > len(name) + 1 + len(value) + 2 * odd:
            raise _no_whole_body(f"more than one form field {name!r}")
    return value


def _require_all(fields: Mapping[str, Any], length: int) -> None:
    """Refuse a form of files of which a field is not here, as far as its length can tell."""
    values = fields.values()
    if not all(isinstance(value, (bytes, bytearray, str)) for value in values):
        # JSON, decoded: who knows how long it was.
        return
    held = sum(len(v.encode(errors="replace") if isinstance(v, str) else v) for v in values)
    if length > held + _PART * (len(fields) + 1):
        raise BadRequest(
            "the form holds more than arrived, as two fields of one name do: send one", 415
        )


def _is_empty(value: object) -> bool:
    return isinstance(value, (bytes, bytearray, str)) and not value


def _no_whole_body(what: str) -> BadRequest:
    return BadRequest(f"the body was taken for {what}: {_HOW}", 415)


def trimmed(text: str) -> str:
    """Return a text without blanks around it, and without byte order marks in front.

    What is sent and what is trained on go through here, a cell of a CSV file too.
    """
    found = _IN_FRONT.match(text)
    return text[found.end() if found else 0 :].rstrip()


def word(text: str) -> str:
    """Return a category or a label as it is compared: trimmed, its accents composed (NFC)."""
    return unicodedata.normalize("NFC", trimmed(text))


def is_json(text: str) -> bool:
    """Whether a text must be JSON: whether it begins with `{`, a BOM and blanks aside."""
    return trimmed(text).startswith("{")


def json_answer(answer: object) -> bytes:
    """Return compact JSON. NaN and infinity are refused with `ValueError`: they are not JSON."""
    text = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A client's JSON can name half a surrogate pair, which no UTF-8 can hold.
    return text.encode(errors="replace")


def json_error(status: int, problem: str) -> bytes:
    """Return the JSON body of an answer that is not 2xx; a long problem is cut."""
    if len(problem) > _LONGEST_PROBLEM:
        problem = f"{problem[: _LONGEST_PROBLEM - 1]}…"
    return json_answer({"error": problem, "status": status})
