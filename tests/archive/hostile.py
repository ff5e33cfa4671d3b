"""Archives that somebody made to break something, or that broke on the way, with what is wrong."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from marwright.archive.types import (
    FORMAT,
    INVENTORY,
    MANIFEST,
    MODEL_CONFIG,
    PROOF,
    Inventory,
    Proof,
    to_json,
)
from tests.archive.container import tars
from tests.archive.container.zips import Member, deflate, extra, pieces, zip_of
from tests.archive.rules.pickled import CALLS_CWD, Foreign, zipped
from tests.archive.tiny import answers_report, parity_report

HANDLER = b"def handle(data, context):\n    return [b'ok'] * len(data or ())\n"
CONFIG = b"minWorkers: 1\nmaxWorkers: 1\nbatchSize: 4\n"
WEIGHTS = bytes(range(256)) * 16


def manifest(**model: Any) -> bytes:
    """Return a manifest; None leaves a key of `model` out."""
    said = {"modelName": "m", "modelVersion": "1.0", "handler": "handler.py",
            "serializedFile": "model.bin", "configFile": MODEL_CONFIG, **model}  # fmt: skip
    kept = {key: value for key, value in said.items() if value is not None}
    return json.dumps({"runtime": "python", "model": kept}).encode()


GOOD = {
    "handler.py": HANDLER,
    "model.bin": WEIGHTS,
    MODEL_CONFIG: CONFIG,
    MANIFEST: manifest(),
}


@dataclass(frozen=True)
class Hostile:
    """An archive: its bytes, or the files of a folder; what is wrong with it; its file name."""

    content: bytes | Mapping[str, bytes | str]
    problem: str
    file: str = "m.mar"

    def write(self, folder: Path) -> Path:
        """Write it below a folder; where a file's content is a text, it is a link to there."""
        path = folder / self.file
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
            return path
        for name, content in self.content.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                file.symlink_to(content)
            else:
                file.write_bytes(content)
        return path


def members(changes: Mapping[str, bytes | None]) -> list[Member]:
    """Return the members of the good archive, with changes; None leaves one out."""
    contents = {**GOOD, **changes}
    return [Member(name, content) for name, content in contents.items() if content is not None]


def changed(name: str, content: bytes | None, **more: bytes) -> bytes:
    """Return the good archive with one member changed, added or (None) left out."""
    return zip_of(*members({name: content, **more}))


def payload(**how: Any) -> bytes:
    """Return the good archive with its payload written in another way."""
    return zip_of(*members({"model.bin": None}), Member("model.bin", WEIGHTS, **how))


def added(name: str, **how: Any) -> bytes:
    """Return the good archive with another member at its end."""
    return zip_of(*ALL, Member(name, b"evil", **how))


def typed(mode: int) -> bytes:
    """Return the good archive with a member that is no file."""
    return added("evil", central={"attributes": mode << 16})


def recorded(
    changes: Mapping[str, bytes], *, before: Mapping[str, bytes] = GOOD, **said: Any
) -> bytes:
    """Return the good archive, changed, with an inventory of what was there before."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in before.items()}
    inventory = Inventory(**{"format": FORMAT, "proven": False, "members": digests, **said})
    return zip_of(*members({**changes, INVENTORY: to_json(inventory)}))


def claimed(changes: Mapping[str, bytes]) -> bytes:
    """Return the good archive, changed, with an inventory that says that it is proven."""
    return recorded(changes, before={**GOOD, **changes}, proven=True)


def proof(*, ok: bool, name: str = "m") -> bytes:
    """Return a proof."""
    recipe = {"name": name, "version": "1.0"}
    parity = msgspec.structs.replace(parity_report().summary(), ok=ok)
    return to_json(
        Proof(
            recipe=recipe,
            metrics={},
            splits={},
            parity=parity,
            answers=answers_report(),
            versions={},
        )
    )


def tar(*parts: bytes, behind: bytes = b"") -> bytes:
    """Return a .tar.gz."""
    return tars.packed(*parts) + behind


ALL = members({})
WHOLE = zip_of(*ALL)
FILE = tars.member(b"m/a")
RUNS_CODE = pickle.dumps(Foreign(), 4)


def cut() -> Iterator[tuple[str, Hostile]]:
    """Yield the good archive cut off in each kind of thing that a zip file consists of."""
    seen, start, whole = set[str](), 0, zip_of(*ALL, end64={})
    for kind, data in pieces(*ALL, end64={}):
        at = start + len(data) // 2
        start += len(data)
        if not data or kind in seen:
            continue
        seen.add(kind)
        why = "not a zip file, or cut off: there is no end record"
        if at < 22:
            why = "not a zip file: it is too short to be one"
        elif kind.startswith("end ") and kind != "end signature":
            why = "cut off in the middle of its end record"
        yield f"cut off in: {kind}", Hostile(whole[:at], why)


_ENDS = (
    "the central directory should end at byte {}, and ends at {}: bytes were added before, "
    "behind or inside the archive"
)
_NOT_PLAIN = "{!r}: not a plain relative name"
_DISAGREE = "its local header and the central directory disagree on"

ZIPS: dict[str, tuple[bytes, str]] = {
    # Bytes.
    "nothing": (b"", "not a zip file: it is too short to be one"),
    "a letter": (
        b"Dear reader, this is no archive.",
        "not a zip file, or cut off: there is no end record",
    ),
    "a bit of the payload": (
        WHOLE.replace(WEIGHTS, b"\1" + WEIGHTS[1:]),
        "model.bin: its CRC-32 is f84989ae, recorded is a2912082",
    ),
    "a bit of a name": (
        WHOLE.replace(b"model.bin", b"model.bio", 1),
        "model.bin: its local header calls it b'model.bio'",
    ),
    # What two readers would see differently.
    "an entry that is in no directory": (
        zip_of(*ALL, Member("evil.py", b"evil", listed=False)),
        "41 bytes between the last member and the central directory: a member is hidden there",
    ),
    "an entry hidden before another": (
        zip_of(Member("handler.py", b"evil", listed=False), *ALL),
        "handler.py: begins 44 bytes after what is before it: something is hidden there",
    ),
    "an entry that is in the directory only": (
        zip_of(*ALL, Member("evil.py", here=False)),
        "evil.py: there is no local header where the directory says",
    ),
    "two names for the same bytes": (
        zip_of(*ALL, Member("evil.py", HANDLER, here=False, central={"offset": 0})),
        "evil.py: overlaps what is before it",
    ),
    "another name in the local header": (
        added("good.py", local={"name": b"evil.py"}),
        "good.py: its local header calls it b'evil.py'",
    ),
    "another size in the local header": (
        payload(local={"size": 1}),
        f"model.bin: {_DISAGREE} its size",
    ),
    "a name in an extra field": (
        added("a", both={"extra": extra(0x7075, b"evil")}),
        "a: has an extra field 0x7075, which may change what it is",
    ),
    "a gap": (
        zip_of(*ALL, gap=b"hidden"),
        "6 bytes between the last member and the central directory: a member is hidden there",
    ),
    "bytes behind": (WHOLE + b"evil", "4 bytes behind the end of the archive"),
    "a comment": (
        zip_of(*ALL, end={"comment_length": 4}, behind=b"evil"),
        "a comment of 4 bytes behind the end of the archive",
    ),
    "an archive behind": (WHOLE * 2, _ENDS.format(len(WHOLE) - 22, 2 * len(WHOLE) - 22)),
    "a script in front": (b"#!/bin/sh\n" + WHOLE, _ENDS.format(len(WHOLE) - 22, len(WHOLE) - 12)),
    # Names.
    **{
        f"the name {name!r}": (added(name), _NOT_PLAIN.format(name))
        for name in (
            "../evil.py",
            "a/../../evil.py",
            "/etc/evil",
            "C:evil.py",
            "..\\evil.py",
            "handler.py\0.txt",
            "\x1b[2Jevil",
            "a//b",
            "evil.",
        )
    },
    "a name outside of ASCII": (
        added("é"),
        "b'\\xc3\\xa9': entry 5 of the central directory has a name that is not ASCII",
    ),
    "names equal but for case": (
        added("Handler.py"),
        "Handler.py and handler.py differ by case only",
    ),
    "a file and a folder of one name": (
        added("handler.py/evil.py"),
        "handler.py is a file, and the folder of handler.py/evil.py",
    ),
    "a manifest twice": (added(MANIFEST), f"{MANIFEST}: stands in the archive twice"),
    # Kinds of members.
    "a symbolic link": (typed(0o120777), "evil: is a symbolic link"),
    "a device": (typed(0o020666), "evil: is neither a file nor a folder: its mode is 20666"),
    "a fifo": (typed(0o010666), "evil: is neither a file nor a folder: its mode is 10666"),
    "an encrypted member": (payload(both={"flags": 1}), "model.bin: is encrypted"),
    "a member packed by LZMA": (
        payload(both={"method": 14}),
        "model.bin: compressed by method 14, which TorchServe cannot read",
    ),
    "a stored member with a descriptor": (
        payload(descriptor="4s3I"),
        "model.bin: is stored with a data descriptor, which TorchServe refuses",
    ),
    # Bombs.
    "a bomb that says so": (
        payload(deflated=True, both={"size": 3 << 30}),
        "unpacks to 3221225741 bytes, 3164268 times its own size; no weights shrink like that",
    ),
    "a bomb that lies": (
        payload(deflated=True, packed=deflate(bytes(8 << 20)), both={"size": 4096}),
        "model.bin: unpacks to more than the 4096 bytes announced",
    ),
    # What it says of itself.
    "no manifest": (changed(MANIFEST, None), f"{MANIFEST}: missing; this is not a model archive"),
    "an empty manifest": (changed(MANIFEST, b""), f"{MANIFEST}: Input data was truncated"),
    "a null manifest": (changed(MANIFEST, b"null"), f"{MANIFEST}: Expected `object`, got `null`"),
    "a list for a manifest": (
        changed(MANIFEST, b"[]"),
        f"{MANIFEST}: Expected `object`, got `array`",
    ),
    "a null model": (
        changed(MANIFEST, b'{"runtime": "python", "model": null}'),
        f"{MANIFEST}: Expected `object`, got `null` - at `$.model`",
    ),
    "a manifest in Latin-1": (
        changed(MANIFEST, manifest().replace(b'"m"', b'"\xe9"')),
        f"{MANIFEST}: not UTF-8",
    ),
    "a manifest of 2 MiB": (
        changed(MANIFEST, manifest() + bytes(2 << 20)),
        f"{MANIFEST}: is 2097316 bytes long; that is no text",
    ),
    "a runtime of its own": (
        changed(MANIFEST, manifest().replace(b'"python"', b'"ruby"')),
        f"{MANIFEST}: Invalid enum value 'ruby' - at `$.runtime`",
    ),
    "a name that no URL can carry": (
        changed(MANIFEST, manifest(modelName="../m")),
        f"{MANIFEST}: modelName is '../m', which no URL can carry",
    ),
    "no version": (
        changed(MANIFEST, manifest(modelVersion=None)),
        f"{MANIFEST}: Object missing required field `modelVersion` - at `$.model`",
    ),
    "a payload that is not there": (
        changed("model.bin", None),
        f"{MANIFEST}: serializedFile is 'model.bin', which is not in the archive",
    ),
    "a payload outside": (
        changed(MANIFEST, manifest(serializedFile="../../m.pt")),
        f"{MANIFEST}: serializedFile is '../../m.pt', which is not in the archive",
    ),
    # Handlers.
    "no handler": (
        changed("handler.py", None),
        "handler handler.py: handler.py is not in the archive",
    ),
    "a handler that is not Python": (
        changed("handler.py", b"def handle(:\n"),
        "handler.py: not Python: line 1: invalid syntax",
    ),
    "a handler that no compiler takes": (
        changed("handler.py", HANDLER + b"return 1\n"),
        "handler.py: not Python: line 3: 'return' outside function",
    ),
    "a handler without end": (
        changed("handler.py", b"x = " + b"-" * 100_000 + b"1\n"),
        "handler.py: not Python: too much in one line",
    ),
    "a handler of two classes": (
        changed("handler.py", b"class A: ...\nclass B: ...\n"),
        "handler.py: needs a function `handle`, or exactly one class; it has A, B",
    ),
    "a handler without an entry": (
        changed("handler.py", b"x = 1\n"),
        "handler.py: needs a function `handle`, or exactly one class; it has none",
    ),
    "a function that is not there": (
        changed(MANIFEST, manifest(handler="handler:evil")),
        "handler.py: has no evil; TorchServe would look for a class instead, without a word",
    ),
    "a name of Python's own": (
        changed(MANIFEST, manifest(handler="json.py"), **{"json.py": HANDLER}),
        "json.py: has the name of a module of Python, which the server may have imported: "
        "rename it",
    ),
    "a name of TorchServe's own": (
        changed(
            MANIFEST, manifest(handler="image_classifier.py"), **{"image_classifier.py": HANDLER}
        ),
        "image_classifier.py: has the name of TorchServe's own image_classifier, which "
        "silently takes its place when an import in it fails: rename it",
    ),
    # YAML.
    "an empty configuration": (
        changed(MODEL_CONFIG, b""),
        f"{MODEL_CONFIG}: empty, which can stop the whole server: write keys and values, as "
        "`batchSize: 1`",
    ),
    "a list for a configuration": (
        changed(MODEL_CONFIG, b"- 1\n"),
        f"{MODEL_CONFIG}: a list, which can stop the whole server: write keys and values, as "
        "`batchSize: 1`",
    ),
    "a Python tag": (
        changed(MODEL_CONFIG, b"a: !!python/object/apply:os.getcwd []\n"),
        f"{MODEL_CONFIG}: a: cannot be read: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.getcwd': write a plain value, and text in "
        "quotes",
    ),
    "aliases of aliases": (
        changed(MODEL_CONFIG, b"a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n"),
        f"{MODEL_CONFIG}: more than 50 aliases, or one to what holds one, and such files can "
        "grow without end: write them out",
    ),
    "a key twice": (
        changed(MODEL_CONFIG, b"batchSize: 1\nbatchSize: 64\n"),
        f"{MODEL_CONFIG}: batchSize: in lines 1 and 2, of which the last silently wins: keep one",
    ),
    "a number in quotes": (
        changed(MODEL_CONFIG, b"batchSize: '8'\n"),
        f"{MODEL_CONFIG}: batchSize: '8' is not a whole number, and TorchServe takes 1: write "
        "a bare 8",
    ),
    "a near miss": (
        changed(MODEL_CONFIG, b"batch_size: 8\n"),
        f"{MODEL_CONFIG}: batch_size: TorchServe knows batchSize, and ignores this spelling: "
        "write batchSize, or move a handler's key under `handler`",
    ),
    # Pickles.
    "a pickle that runs code": (changed("model.bin", RUNS_CODE), f"model.bin: {CALLS_CWD}"),
    "weights that run code": (
        changed("model.bin", zipped({"m/data.pkl": RUNS_CODE})),
        f"model.bin: m/data.pkl: {CALLS_CWD}",
    ),
    "TorchScript that runs code": (
        changed("model.bin", zipped({"m/constants.pkl": RUNS_CODE})),
        f"model.bin: m/constants.pkl: {CALLS_CWD}",
    ),
    # Digests.
    "a member that was changed": (
        recorded({"handler.py": HANDLER + b"# evil\n"}),
        "handler.py: changed; its SHA-256 is 12188bc75e92…, recorded is d63a013ea415…",
    ),
    "a member that was taken away": (
        recorded({}, before={**GOOD, "labels.json": b"{}"}),
        f"labels.json: missing; {INVENTORY} records it",
    ),
    "a member that was added": (
        recorded({"evil.py": b"evil"}),
        f"evil.py: extra; {INVENTORY} does not record it",
    ),
    "an inventory of another format": (
        recorded({}, format=99),
        f"{INVENTORY}: format 99; only {FORMAT} is known here",
    ),
    "an inventory that is none": (
        changed(INVENTORY, b"{}"),
        f"{INVENTORY}: Object missing required field `format`",
    ),
    # Proofs.
    "a proof that is claimed and not there": (
        claimed({}),
        f"{PROOF}: missing; {INVENTORY} says that the archive is proven",
    ),
    "a proof that failed": (
        claimed({PROOF: proof(ok=False)}),
        f"{PROOF}: the parity gate that it records did not pass",
    ),
    "a proof of another model": (
        claimed({PROOF: proof(ok=True, name="other")}),
        f"{MANIFEST}: modelName is 'm', {PROOF} says 'other'",
    ),
    "a proof that is not claimed": (
        changed(PROOF, proof(ok=True)),
        f"{PROOF}: {INVENTORY} does not say that the archive is proven",
    ),
    "a proof without golden samples": (
        claimed({PROOF: proof(ok=True)}),
        "MAR-INF/golden/index.json: a proven archive has golden samples",
    ),
}
OTHERS = {
    "a tar cut off": Hostile(tar(FILE)[:-20], "the gzip stream is cut off", "m.tar.gz"),
    "a tar with a link": Hostile(
        tar(tars.header(b"m/evil", kind=b"2")), "m/evil: is a link", "m.tar.gz"
    ),
    "a tar with a hard link": Hostile(
        tar(tars.header(b"m/evil", kind=b"1")), "m/evil: is a link", "m.tar.gz"
    ),
    "a tar that leads out": Hostile(
        tar(tars.member(b"m/../../evil")), _NOT_PLAIN.format("m/../../evil"), "m.tar.gz"
    ),
    "a tar of two folders": Hostile(
        tar(FILE, tars.member(b"n/a")), "its members are not all below one folder", "m.tar.gz"
    ),
    "a tar without a folder": Hostile(
        tar(tars.member(b"a")), "a: does not lie in a folder, as TorchServe needs it", "m.tar.gz"
    ),
    "bytes behind a tar": Hostile(
        tar(FILE, behind=b"evil"), "bytes behind the end of the gzip stream", "m.tar.gz"
    ),
    "a tar behind a tar": Hostile(
        tar(FILE) * 2, "bytes behind the end of the gzip stream", "m.tar.gz"
    ),
    "a tar that is called .mar": Hostile(
        tar(FILE), "a .tar.gz that TorchServe, by its name, takes for a zip file: call it .tar.gz"
    ),
    "a zip that is called .tar.gz": Hostile(
        WHOLE,
        "a zip file that TorchServe, by its name, takes for a .tar.gz: call it .mar",
        "m.tar.gz",
    ),
    "a gzip file of a letter": Hostile(
        gzip.compress(b"letter"), "the archive ends before its end record", "m.tar.gz"
    ),
    "a folder with a link": Hostile(
        {**GOOD, "evil": "/etc/passwd"}, "evil: is a symbolic link", "m"
    ),
    "a folder with a link to a folder": Hostile(
        {**GOOD, "evil": ".."}, "evil: is a symbolic link", "m"
    ),
}
CASES = {**dict(cut()), **{name: Hostile(*case) for name, case in ZIPS.items()}, **OTHERS}
