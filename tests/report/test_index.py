"""The page of all models."""

from __future__ import annotations

import re
from pathlib import Path

from marwright.report.index import Entry, write_index
from tests.report.html import faults, links, words
from tests.report.reports import failing, healthy


def index(tmp_path: Path, *entries: Entry) -> str:
    target = tmp_path / "build" / "index.html"
    write_index(target, entries)
    return target.read_text(encoding="utf-8")


def test_models_are_listed_with_their_verdicts(tmp_path: Path) -> None:
    html = index(
        tmp_path,
        Entry(name="digits", version="1.0", task="classification",
              metric="accuracy 0.9890 (baseline 0.1060)", parity=healthy(9, 3).summary(),
              page=tmp_path / "build/digits/report.html"),
        Entry(name="shapes", version="2.1", task="classification", parity=failing(9, 3).summary(),
              failed="parity"),
        Entry(name="photos", version="1.0", task="classification", failed="quantise"),
        Entry(name="prices", version="1.0", task="regression", parity=healthy(9, 3).summary(),
              failed="answers"),
        Entry(name="old", version="1.0", task="regression", parity=healthy(9, 3).summary(),
              exports_are_older=True, page=tmp_path / "build/old/report.html",
              page_is_older=True, stale="trace is stale"),
        Entry(name="diabetes", version="1.0", task="regression", stale="train is stale"),
    )  # fmt: skip
    assert [*faults(html)] == []
    assert links(html) == ["digits/report.html", "old/report.html"]
    text = words(html)
    assert "6 models, 3 failing All models" in text
    assert "digits 1.0 classification accuracy 0.9890 (baseline 0.1060) agree 0." in text
    assert re.search(r"shapes 2\.1 classification – ✗ do not agree \d+ ✗ fails in parity", text)
    assert "photos 1.0 classification – not compared – ✗ fails in quantise" in text
    assert re.search(r"prices 1\.0 regression – agree 0\.\d+ ✗ fails in answers", text)
    assert "old (the page of another checkpoint) 1.0 regression – agreed (another ch" in text
    # What the exports are says nothing of the model.
    assert "✓" not in text and "passes" not in text
    assert text.endswith("diabetes 1.0 regression – not compared – train is stale")


def test_names_and_links_are_escaped(tmp_path: Path) -> None:
    page = tmp_path / 'javascript:"<b>' / "a b.html"
    html = index(tmp_path, Entry(name="<script>", version="&", task="<b>", metric="'", page=page))
    assert [*faults(html)] == []
    assert links(html) == ["../javascript%3A%22%3Cb%3E/a%20b.html"]
    assert "<script> & <b> ' not compared" in words(html)


def test_no_models(tmp_path: Path) -> None:
    assert words(index(tmp_path)).endswith(
        "0 models All models Model Version Task Metric Exports Worst error ÷ limit State There is "
        "no model."
    )
