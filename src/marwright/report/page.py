"""One page that needs nothing but itself: its style and pictures are in it, and it runs no code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from marwright.files import write_bytes
from marwright.report import numbers
from marwright.report.style import CSS
from marwright.report.templates.page import NOTES, PAGE, VERDICT

_ENVIRONMENT = Environment(
    # What templates include.
    loader=DictLoader({"notes": NOTES}),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    filter.__name__: filter
    for filter in (
        numbers.number,
        numbers.measured,
        numbers.count,
        numbers.size,
        numbers.shape,
        numbers.plural,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page. `anchor` is its id, one of a kind on a page; `body` is finished HTML."""

    title: str
    anchor: str
    body: Markup


def render(template: str, **values: object) -> Markup:
    """Fill a Jinja template. Values are escaped, but for what is `Markup` already.

    Raises `jinja2.UndefinedError` for a name that was not given.
    """
    return Markup(_compiled(template).render(values))


def verdict_box(*, ok: bool, text: str, words: tuple[str, str] = ("Passes", "Fails")) -> Markup:
    """Return the box that a person looks at first: whether it passes, and `text` about it.

    `words` are what it says where it does, and where it does not.
    """
    return render(VERDICT, ok=ok, text=text, word=words[0] if ok else words[1])


def page_of(sections: Sequence[Section], *, title: str, subtitle: str) -> str:
    """Return a whole page; `title` and `subtitle` are plain text."""
    anchors = [section.anchor for section in sections]
    assert len({*anchors}) == len(anchors), anchors
    return render(PAGE, sections=sections, title=title, subtitle=subtitle, css=Markup(CSS))


def write_page(target: Path, sections: Sequence[Section], *, title: str, subtitle: str) -> None:
    """Write a page as UTF-8, complete or not at all; the same sections make the same bytes."""
    write_bytes(target, page_of(sections, title=title, subtitle=subtitle).encode())


@cache
def _compiled(template: str) -> Template:
    return _ENVIRONMENT.from_string(template)
