"""What must hold for every page: well-formed, and in need of nothing but itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser

_VOID = {"meta", "img", "br", "hr"}
_CODE = {"script", "iframe", "object", "embed", "link", "form", "base"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(tag, dict(attrs))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def _look(self, tag: str, attrs: dict[str, str | None]) -> None:
        if tag in _CODE:
            self.faults.append(f"<{tag}>")
        if "id" in attrs:
            self.ids.append(attrs["id"] or "")
        for name, value in attrs.items():
            if name.startswith("on"):
                self.faults.append(f"{tag} has {name}")
            self.anchors += re.findall(r"url\(#([^)]*)\)", value or "")
            if name in ("href", "src"):
                self._link(tag, value or "")
        named = {"img": "alt", "svg": "aria-label", "th": "scope"}.get(tag)
        if named and not attrs.get(named):
            self.faults.append(f"<{tag}> without {named}")

    def _link(self, tag: str, link: str) -> None:
        if link.startswith("#"):
            self.anchors.append(link[1:])
        elif tag == "img":
            if not link.startswith("data:image/png;base64,"):
                self.faults.append(f"<img> of {link}")
        else:
            self.links.append(link)


def faults(html: str) -> Iterator[str]:
    """Name what is wrong with a page."""
    page = _read(html)
    yield from page.faults
    yield from (f"<{tag}> stays open" for tag in page.open)
    yield from (f"id {name} twice" for name, many in Counter(page.ids).items() if many > 1)
    yield from (f"#{name} leads nowhere" for name in {*page.anchors} - {*page.ids})
    yield from (f"leads to {link}" for link in page.links if not re.match(r"(?!/)[\w./%-]+$", link))
    yield from (f"names {found}" for found in re.findall(r"\w+://|@import|url\([^#]", html))


def links(html: str) -> list[str]:
    """Return what a page links to outside of itself."""
    return _read(html).links


def _read(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    return page


def words(html: str) -> str:
    """Return the text of a page as it is read, with single spaces."""
    texts: list[str] = []
    reader = HTMLParser(convert_charrefs=True)
    reader.handle_data = texts.append  # type: ignore[method-assign]
    reader.feed(re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))
    reader.close()
    return " ".join(" ".join(texts).split())
