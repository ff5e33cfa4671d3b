"""Which language is this short text? Names and dates of Babel's Unicode CLDR data.

Source: Unicode Common Locale Data Repository, as the package Babel ships it: names of
territories, languages, units and time zones, and dates written out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
from babel import Locale
from babel.dates import format_date

from marwright import TextSamples

# Scripts of their own, and neighbours that are hard to tell apart.
LANGUAGES = (
    "ar", "bg", "cs", "da", "de", "el", "en", "es", "fi", "fr", "hi", "hu", "id", "it", "ja",
    "ko", "nb", "nl", "pl", "pt", "ro", "ru", "sk", "sv", "tr", "uk", "vi", "zh",
)  # fmt: skip
# Dates written out, a prime number of days apart.
_DATES, _APART, _FIRST = 150, 97, date(1990, 1, 1)


def load(*, texts: int = 300) -> TextSamples:
    """Return at most so many texts of each language, chosen by their digests.

    What two languages write alike is left out: nobody can tell whose it is.
    """
    written: dict[str, set[str]] = defaultdict(set)
    for language in LANGUAGES:
        for text in _texts(Locale.parse(language)):
            written[text].add(language)
    by_language: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    for text, languages in written.items():
        if len(languages) == 1:
            by_language[languages.pop()].append(text)
    samples = [
        (text, place)
        for place, language in enumerate(LANGUAGES)
        for text in sorted(by_language[language], key=_digest)[:texts]
    ]
    return TextSamples(
        texts=[text for text, _ in samples],
        targets=np.array([place for _, place in samples], dtype=np.int64),
        labels=LANGUAGES,
    )


def _texts(locale: Locale) -> Iterator[str]:
    yield from locale.territories.values()
    yield from locale.languages.values()
    yield from locale.scripts.values()
    for width in ("wide", "abbreviated"):
        yield from locale.months["format"][width].values()
        yield from locale.days["format"][width].values()
    for names in locale.unit_display_names.values():
        yield from names.values()
    for zone in locale.time_zones.values():
        if "city" in zone:
            yield zone["city"]
    for number in range(_DATES):
        day = _FIRST + timedelta(days=number * _APART)
        yield format_date(day, format="full" if number % 2 else "long", locale=locale)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
