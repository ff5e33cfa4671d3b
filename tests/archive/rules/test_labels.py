"""`index_to_name.json` is taken where TorchServe takes it, and refused where it fails on it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from archive.container.types import Unreadable
from archive.rules.labels import LABELS, label_findings

GOOD = [
    b'{"0": "cat", "1": "dog"}',
    b'{"0": ["n01", "cat"], "1": "dog"}',
    '{"0": "größe"}'.encode(),
    b'{"object_type_names": ["cat", "dog"]}',
    b'{"0": "cat", "1": ["x", ["y"], "dog"]}',
]
BAD = [
    (b'["cat", "dog"]', "a list, and"),
    (b'{"0": "cat"', "not JSON: "),
    (b"", "not JSON: "),
    (b'\xef\xbb\xbf{"0": "cat"}', "not JSON: begins with a byte order mark"),
    ('{"0": "größe"}'.encode("latin-1"), "not UTF-8"),
    ('{"0": "cat"}'.encode("utf-16"), "not UTF-8"),
    (b'{"cat": 0, "dog": 1}', "cat is a number, and a name is a string"),
    (b'{"0": null}', "0 is a null"),
    (b'{"0": true}', "0 is a true or false"),
    (b'{"0": {"name": "cat"}}', "0 is a object"),
    (b'{"0": []}', "0 is a list"),
    (b'{"0": [["cat"]]}', "0 is a list"),
    (b'"cat"', "a string, and"),
    (b"null", "a null, and"),
    (b"3", "a number, and"),
    (b"[" * 100_000, "not JSON: "),
]
NOTED = [
    (b'{"0": "cat", "0": "dog"}', '0 stands in it twice, and the last counts'),
    (b'{"cat": "0"}', 'has no "0", and TorchServe looks for the classes'),
    (b'{"1": "cat", "2": "dog"}', 'has no "0", and TorchServe looks for the classes'),
    (b'{"0": "cat", "2": "dog"}', 'has no "1", and TorchServe looks for the classes'),
    (b"{}", 'has no "0", and TorchServe looks for the classes'),
]  # fmt: skip
IMPORT = "from ts.torch_handler.image_classifier import ImageClassifier\n"
SURE = [
    f"{IMPORT}class H(ImageClassifier):\n    pass\n",
    f"{IMPORT}class H(ImageClassifier):\n    def initialize(self, c):\n"
    "        super().initialize(c)\n        self.x = 1\n",
    "from ts.torch_handler import base_handler as b\nclass H(b.BaseHandler):\n    pass\n",
    "import ts.torch_handler.base_handler as b\nclass H(b.BaseHandler):\n    pass\n",
]
UNSURE = [
    f"{IMPORT}class H(ImageClassifier):\n    def initialize(self, c):\n        self.mapping = 1\n",
    f"{IMPORT}class H(ImageClassifier):\n    def initialize(self, c):\n        if c:\n"
    "            super().initialize(c)\n",
    f"{IMPORT}h = ImageClassifier()\ndef handle(data, context):\n    h.initialize(context)\n",
]
OWN = [
    # Neither says who reads the map: a module that they import may derive from TorchServe's.
    "import json\ndef handle(data, context):\n    return data\n",
    "from kittens.base import Base\nclass H(Base):\n    pass\n",
    "from ts.utils.util import load_label_mapping\n"
    f"NAMES = load_label_mapping('{LABELS}')\ndef handle(data, context):\n    return data\n",
]
READS = f"import json\nNAMES = json.load(open('{LABELS}'))\ndef handle(data, context):\n    ...\n"


def findings(labels: bytes, handler: str, source: str = "") -> tuple[list[str], list[str]]:
    members = {LABELS: labels} | ({handler: source.encode()} if source else {})
    return label_findings(handler, partial(dict.get, members))


@pytest.mark.parametrize("labels", GOOD)
def test_what_torchserve_takes_is_taken(labels: bytes) -> None:
    assert findings(labels, "image_classifier") == ([], [])


@pytest.mark.parametrize(("labels", "why"), BAD)
def test_what_torchserve_fails_on_is_refused(labels: bytes, why: str) -> None:
    [problem], notes = findings(labels, "image_classifier")
    assert problem.startswith(f"{LABELS}: {why}")
    assert problem.endswith('write {"0": "name", …} in UTF-8')
    assert notes == []


@pytest.mark.parametrize(("labels", "why"), NOTED)
def test_what_gives_wrong_names_is_noted(labels: bytes, why: str) -> None:
    problems, notes = findings(labels, "text_classifier")
    assert problems == []
    assert notes[0].startswith(f"{LABELS}: {why}")


@pytest.mark.parametrize("source", SURE)
def test_handler_that_surely_passes_it_on_is_held_to_it(source: str) -> None:
    assert len(findings(b"[]", "own.py", source)[0]) == 1


@pytest.mark.parametrize("source", UNSURE)
def test_handler_that_may_pass_it_on_gets_a_note(source: str) -> None:
    problems, [note] = findings(b"[]", "own.py", source)
    assert problems == []
    assert note.endswith("in UTF-8, if the handler reads it so")


@pytest.mark.parametrize("source", OWN)
@pytest.mark.parametrize(("labels", "why"), BAD)
def test_what_an_own_handler_may_fail_on_is_noted(labels: bytes, why: str, source: str) -> None:
    problems, [note] = findings(labels, "own.py", source)
    assert problems == []
    assert note.startswith(f"{LABELS}: {why}")
    assert note.endswith("in UTF-8, if the handler reads it so")


@pytest.mark.parametrize(("labels", "why"), BAD)
def test_of_a_handler_that_reads_the_map_itself_only_no_json_is_noted(
    labels: bytes, why: str
) -> None:
    problems, notes = findings(labels, "own.py", READS)
    assert problems == []
    assert bool(notes) == why.startswith("not ")


@pytest.mark.parametrize("source", [*OWN, READS])
@pytest.mark.parametrize("labels", [*GOOD, *(labels for labels, _ in NOTED)])
def test_handler_with_a_map_of_its_own_is_left_alone(labels: bytes, source: str) -> None:
    assert findings(labels, "own.py", source) == ([], [])


def test_handler_that_never_reads_a_map_is_left_alone() -> None:
    assert findings(b"[]", "vllm_handler") == ([], [])


def test_map_that_is_too_large_to_be_read_is_no_problem() -> None:
    def read(name: str) -> bytes | None:
        raise Unreadable(f"{name}: is 2 GB long; that is no text")

    assert label_findings("image_classifier", read) == (
        [], [f"{LABELS}: is 2 GB long; that is no text; not looked at"]
    )  # fmt: skip


@pytest.mark.torch
# TorchServe leaves a file open when it is imported.
@pytest.mark.filterwarnings("ignore:unclosed file .*/ts/:ResourceWarning")
@pytest.mark.parametrize("labels", [*GOOD, *(labels for labels, _ in [*BAD, *NOTED])])
def test_torchserve_agrees(labels: bytes, tmp_path: Path) -> None:
    from ts.utils.util import load_label_mapping

    file = tmp_path / LABELS
    file.write_bytes(labels)
    problems, _ = findings(labels, "image_classifier")
    # Whatever it raises.
    try:
        load_label_mapping(str(file))
    except Exception:  # noqa: BLE001
        assert problems
    else:
        assert not problems
