"""Operators by which a TorchScript file would reach files or the network, found in its source.

Loading is enough to run them: a module's `__setstate__` is TorchScript too. So the source in the
file is searched before anything of it is loaded.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from marwright.archive.names import printable

# Those of torch's registry with a file's name among their arguments.
_FILES = ("save", "from_file")
# Libraries of operators and classes that talk to other processes, or have files by other names.
_OTHERS = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "dist_c10d", "dist_rpc",
           "symm_mem", "debugprims", "rpc_async", "rpc_sync", "rpc_remote")  # fmt: skip
_WORDS = b"|".join(name.encode() for name in (*_FILES, *_OTHERS))
_WORD = re.compile(rb"(?<![A-Za-z0-9_])(?:%s)(?![A-Za-z0-9_])" % _WORDS)
_LOOKUP = re.compile(rb"(?<![A-Za-z0-9_])getattr(?![A-Za-z0-9_])")
# As TorchScript writes it, for names that are no identifiers.
_PLAIN_LOOKUP = re.compile(rb"getattr\([A-Za-z0-9_.]{1,1000}, \"([^\"'\\#\n]{1,1000})\"\)")
_DECLARED = re.compile(rb"[ \t]*(=(?!=)|:)")
# Bytes of source in all, and how far it is looked back for a dot.
_MOST_BYTES, _BACK = 16 << 20, 256
_UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, ValueError,
               NotImplementedError, EOFError)  # fmt: skip


def script_problems(file: Path) -> list[str]:
    """Say which operators of a TorchScript file would reach out of it; none for another file."""
    try:
        with zipfile.ZipFile(file) as archive:
            return list(dict.fromkeys(_problems(archive)))
    except _UNREADABLE:
        # No zip: no TorchScript. One that is damaged is found so when it is opened.
        return []


def _problems(archive: zipfile.ZipFile) -> Iterator[str]:
    left = _MOST_BYTES
    for info in archive.infolist():
        # torch looks names up without regard to case.
        if not any(name.lower().endswith(".py") for name in (info.filename, info.orig_filename)):
            continue
        where = printable(info.filename)
        try:
            with archive.open(info) as opened:
                source = opened.read(left + 1)
        except _UNREADABLE as error:
            yield f"{where}: cannot be read: {printable(str(error))}"
            continue
        left -= len(source)
        if left < 0:
            yield f"{where}: more than {_MOST_BYTES >> 20} MiB of TorchScript source in all"
            return
        yield from (f"{where}: {problem}" for problem in source_problems(source))


def source_problems(source: bytes) -> Iterator[str]:
    """Name the first operator in TorchScript's source that reaches files or other processes.

    Takes time in proportion to the source's length, whatever is in it.
    """
    for lookup in _LOOKUP.finditer(source):
        plain = _PLAIN_LOOKUP.match(source, lookup.start())
        if not plain or _WORD.fullmatch(plain[1]):
            yield "looks a name up with getattr otherwise than TorchScript itself writes it"
            return
    for word in _WORD.finditer(source):
        if not _is_no_operator(source, word):
            name = word[0].decode()
            reaches = "reads or writes files" if name in _FILES else "reaches other processes"
            yield (
                f"uses {name}, which {reaches} as soon as the file is loaded: take it out of the "
                "model, or rename what is only called so"
            )
            return


def _is_no_operator(source: bytes, word: re.Match[bytes]) -> bool:
    """Whether a word is a text or a variable of that name."""
    before = source[max(0, word.start() - _BACK) : word.start()]
    if before[-1:] in (b'"', b"'") and source[word.end() : word.end() + 1] == before[-1:]:
        return True
    shorter = before.rstrip()
    if not shorter or shorter[-1:] in (b".", b"\\"):
        return False
    if b"\n" in before[len(shorter) :]:
        # First on its line: a variable, or an attribute's declaration, or behind a comment.
        return _DECLARED.match(source, word.end()) is not None
    return True
