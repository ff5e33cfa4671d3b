"""Files are searched for pickles, in zip files too, and what is none is not called one."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from archive.container import budget
from archive.container.budget import Budget, Exhausted
from archive.rules import pickle_stream, pickles
from archive.rules.pickles import look_through, pickle_problems
from archive.scan import scan
from tests.archive.rules.pickled import (
    CALLS_CWD,
    PROTOCOLS,
    PUSH_CWD,
    UNREADABLE,
    Foreign,
    holds_pickles,
    named,
    saved,
    written,
    zipped,
)

if TYPE_CHECKING:
    pass
# Files.


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        *(("weights.bin", n) for n in PROTOCOLS),
        *(("data/0", n) for n in PROTOCOLS[2:]),
        ("a.PT", 0),
    ],
)
def test_pickle_under_another_name_is_found(tmp_path: Path, name: str, protocol: int) -> None:
    content = zipped({"version": b"3\n", name: pickle.dumps(Foreign(), protocol)})
    assert pickle_problems(written(tmp_path, content)) == [f"{name}: {CALLS_CWD}"]
    assert holds_pickles(tmp_path / "model.pt")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["data.pkl", "a/constants.PKL", "b.pickle", "c.py.debug_pkl"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_pickle_under_its_own_name_is_found(
    tmp_path: Path, protocol: int, name: str, method: int
) -> None:
    content = zipped({name: pickle.dumps(Foreign(), protocol)}, method)
    assert pickle_problems(written(tmp_path, content)) == [f"{name}: {CALLS_CWD}"]


def test_problems_are_sorted_and_name_their_members(tmp_path: Path) -> None:
    bad = pickle.dumps(Foreign())
    content = zipped({"b.pkl": bad, "c.pkl": pickle.dumps(1), "a.pkl": bad + b"\0"})
    assert pickle_problems(written(tmp_path, content)) == [
        f"a.pkl: {CALLS_CWD}",
        f"a.pkl: {UNREADABLE}b'\\x00' is no opcode",
        f"b.pkl: {CALLS_CWD}",
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_files_inside_of_others_are_looked_into(tmp_path: Path, method: int) -> None:
    inner = zipped({"data.pkl": pickle.dumps(Foreign())}, method)
    middle = zipped({"inner.pt": inner}, method)
    outer = zipped({"middle.pt2": middle, "fine.pt": zipped({"data.pkl": pickle.dumps(1)})})
    where = "middle.pt2: inner.pt: "
    assert pickle_problems(written(tmp_path, outer)) == [f"{where}data.pkl: {CALLS_CWD}"]
    deeper = zipped({"outer.mar": outer})
    assert pickle_problems(written(tmp_path, deeper)) == [
        f"outer.mar: {where}a file of files that is too deep or too large to look into"
    ]


@pytest.mark.parametrize("kept", [4, 30, 0.5, -1, -30])
def test_damaged_zip_is_one_problem(tmp_path: Path, kept: float) -> None:
    whole = zipped({"data.pkl": pickle.dumps({"a": 1}), "data/0": bytes(99)})
    length = int(len(whole) * kept) if 0 < kept < 1 else int(kept) % len(whole)
    (problem,) = pickle_problems(written(tmp_path, whole[:length]))
    assert problem.startswith("cannot be read as a zip file: ")
    assert not holds_pickles(tmp_path / "model.pt")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression_is_one_problem(tmp_path: Path, method: int) -> None:
    whole = bytearray(zipped({"data.pkl": pickle.dumps(list(range(999)))}, method))
    whole[60:90] = b"\xff" * 30
    (problem,) = pickle_problems(written(tmp_path, bytes(whole)))
    assert problem.startswith("cannot be read as a zip file: ")


def test_damaged_member_is_one_problem(tmp_path: Path) -> None:
    whole = zipped({"a.pkl": pickle.dumps("text"), "b.pkl": pickle.dumps(1)})
    (problem,) = pickle_problems(written(tmp_path, whole.replace(b"text", b"Text", 1)))
    assert problem == "cannot be read as a zip file: Bad CRC-32 for file 'a.pkl'"


@settings(max_examples=100, deadline=None)
@given(
    cut=st.floats(0, 1),
    removed=st.integers(0, 30),
    inserted=st.binary(max_size=6),
    method=st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
)
@example(cut=0.26, removed=4, inserted=bytes(4), method=zipfile.ZIP_LZMA)
@example(cut=0.978515625, removed=0, inserted=b"\0\0\0\0\5", method=zipfile.ZIP_DEFLATED)
def test_damage_raises_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    cut: float,
    removed: int,
    inserted: bytes,
    method: int,
) -> None:
    inner = zipped({"data.pkl": pickle.dumps({"a": [1.0, "b"] * 9}, 2)}, method)
    whole = zipped({"inner.pt": inner, "data.pkl": pickle.dumps(Foreign(), 2), "data/0": bytes(9)})
    where = int(cut * len(whole))
    changed = whole[:where] + inserted + whole[where + removed :]
    file = written(tmp_path_factory.getbasetemp(), changed)
    assert all(problem.isprintable() for problem in pickle_problems(file))
    # A size that was damaged may be more than is read.
    with suppress(Exhausted):
        holds_pickles(file)


def two_directories() -> bytes:
    """Return a zip in which Python's reader finds one member's content, and torch's another."""
    content = b"\x80\x02" + PUSH_CWD + b"\x93)R."
    # As long, so that the directories are where they would be in each other's place.
    bad, good = (
        zipped({"model/data.pkl": data, "model/version": b"3\n"})
        for data in (content, b"N" * (len(content) - 1) + b".")
    )
    return bad + good


def test_zip_that_readers_take_differently_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, two_directories())
    with zipfile.ZipFile(file) as archive:
        assert b"getcwd" not in archive.read("model/data.pkl")
    assert pickle_problems(file) == ["two readers of zip files can see different members in it"]


def test_zip_that_pretends_to_have_more_records_is_refused(tmp_path: Path) -> None:
    """A reader that finds no record where one is said to be goes by the older one."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        info = zipfile.ZipInfo("data.pkl")
        info.comment = bytes(76)
        archive.writestr(info, b"N.")
    whole = content.getvalue() * 2
    end = len(whole) - 98
    record = b"none" + bytes(36) + struct.pack("<QQ", end, 0)
    third = b"PK\6\7" + struct.pack("<LQL", 0, end, 1)
    file = written(tmp_path, whole[:end] + record + third + whole[-22:])
    assert pickle_problems(file) == ["two readers of zip files can see different members in it"]


def test_zip_that_goes_on_behind_its_end_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, zipped({"data.pkl": pickle.dumps(1)}) + b"more")
    assert pickle_problems(file) == ["two readers of zip files can see different members in it"]


@pytest.mark.torch
def test_torch_finds_the_other_directory(tmp_path: Path) -> None:
    import torch

    reader = torch._C.PyTorchFileReader(str(written(tmp_path, two_directories())))
    assert b"getcwd" in reader.get_record("data.pkl")


@pytest.mark.torch
def test_record_that_leads_to_another_directory_is_refused(tmp_path: Path) -> None:
    """torch writes a second record of where the directory is, and a third of where that is."""
    import torch

    bad = saved(tmp_path, {"a": Foreign()}).read_bytes()
    good = saved(tmp_path, {"a": torch.zeros(2)}).read_bytes()
    assert pickle_problems(tmp_path / "model.pt") == []
    assert (good[-98:-94], good[-42:-38]) == (b"PK\6\6", b"PK\6\7")
    led = good[:-34] + struct.pack("<Q", len(bad) - 98) + good[-26:]
    file = written(tmp_path, bad + led)
    with zipfile.ZipFile(file) as archive:
        assert b"getcwd" not in archive.read("model/data.pkl")
    assert b"getcwd" in torch._C.PyTorchFileReader(str(file)).get_record("data.pkl")
    assert pickle_problems(file) == ["two readers of zip files can see different members in it"]


def test_zip_with_a_comment_is_accepted(tmp_path: Path) -> None:
    file = written(tmp_path, zipped({"data.pkl": pickle.dumps(1)}))
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"made by hand"
    assert pickle_problems(file) == []


def test_zip_behind_a_pickle_is_looked_into_too(tmp_path: Path) -> None:
    content = pickle.dumps(1) + zipped({"data.pkl": pickle.dumps(Foreign())})
    problems = pickle_problems(written(tmp_path, content))
    assert f"data.pkl: {CALLS_CWD}" in problems
    assert any(problem.startswith(UNREADABLE) for problem in problems)


def test_tar_file_of_old_is_refused(tmp_path: Path) -> None:
    for name, wrong in (("pickle", True), ("labels.txt", False)):
        with tarfile.open(tmp_path / "model.pt", "w") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        assert [problem[:26] for problem in pickle_problems(tmp_path / "model.pt")] == [
            "pickle: in a tar file, as "
        ] * wrong


def test_large_pickle_is_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle_stream, "MOST_BYTES", 1 << 20)
    for opcodes in (b"B\0\0\0\2" + bytes(1 << 25) + b".", b"V" + bytes(1 << 25) + b"\n."):
        content = zipped({"data.pkl": b"\x80\x03" + opcodes}, zipfile.ZIP_DEFLATED)
        file = written(tmp_path, content)
        tracemalloc.start()
        try:
            problems = pickle_problems(file)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert problems == [f"data.pkl: {UNREADABLE}it goes on for more than 1 MiB"]
        assert peak < 16 << 20
        assert pickle_problems(written(tmp_path, b"\x80\x03" + opcodes)) == [
            f"{UNREADABLE}it goes on for more than 1 MiB"
        ]


def test_endless_opcodes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "OPCODES", 1000)
    monkeypatch.setattr(budget, "BYTES_AN_OPCODE", 1 << 20)
    content = b"N0" * 1000 + pickle.dumps(Foreign(), 0)
    said = [f"{UNREADABLE}more than 1000 opcodes to walk"]
    assert pickle_problems(written(tmp_path, content)) == said
    assert named(tmp_path, content) == said


def test_packed_zip_that_is_too_large_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "MOST_BYTES", 1 << 16)
    inner = zipped({"data/0": bytes(1 << 20)})
    content = zipped({"inner.pt": inner}, zipfile.ZIP_DEFLATED)
    assert pickle_problems(written(tmp_path, content)) == [
        "inner.pt: a file of files that is too deep or too large to look into"
    ]
    assert pickle_problems(written(tmp_path, zipped({"inner.pt": inner}))) == []


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pickle_problems(tmp_path / "gone.pt")
    with pytest.raises(FileNotFoundError):
        holds_pickles(tmp_path / "gone.pt")


# Files that are no pickles.


def safetensors_of_header(length: int) -> bytes:
    """Return weights whose file begins with so long a header; its length is its first bytes."""
    from numpy import zeros
    from safetensors.numpy import save

    for padding in range(length):
        content = save({"a": zeros(3)}, {"note": "x" * padding})
        if struct.unpack("<Q", content[:8]) == (length,):
            return content
    raise AssertionError(length)


def onnx_model() -> bytes:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    return bytes(helper.make_model(graph).SerializeToString())


TEXTS = [
    "", "\n", "cat\ndog\nhorse\n", "cat\ndog\nIguana\nbird\n", "iris\nrose\n",
    "(in part\nof two)\n", "class Net(Module):\n  def forward(self):\n    return 0\n",
    "import os\nos.getcwd()\n", "name,label\n1,2\n", "[1, 2]", "0\n1\n2\n", "I01\n.", "N.",
    "The quick brown fox\n" * 100, "Xylophone\nUkulele\nCello\n" * 50, "Kiwi\nMango\n]}).\n",
]  # fmt: skip
HARMLESS: dict[str, Callable[[], bytes]] = {
    "safetensors": lambda: safetensors_of_header(128),
    **{
        # The header's length alone makes these begin as pickles of protocols 2 to 5 do.
        f"safetensors {protocol}": lambda n=protocol * 256 + 128: safetensors_of_header(n)
        for protocol in (2, 3, 4, 5)
    },
    "onnx": onnx_model,
    "json": lambda: json.dumps({"a": [1, None]}).encode(),
    "zeros": lambda: bytes(4096),
    **{f"text {number}": lambda text=text: text.encode() for number, text in enumerate(TEXTS)},
}


@pytest.mark.parametrize("content", HARMLESS.values(), ids=HARMLESS)
def test_what_is_no_pickle_is_not_called_one(tmp_path: Path, content: Callable[[], bytes]) -> None:
    file = written(tmp_path, content())
    assert pickle_problems(file) == []
    assert not holds_pickles(file)
    file = written(tmp_path, zipped({"some/member": content(), "weights.bin": content()}))
    assert pickle_problems(file) == []
    assert not holds_pickles(file)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(start=st.sampled_from([b"", b"\x80\2", b"\x80\4", b"PK"]), seed=st.integers(0, 1 << 32))
def test_random_bytes_are_no_pickle(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, seed: int
) -> None:
    content = start + random.Random(seed).randbytes(4096)
    folder = tmp_path_factory.getbasetemp()
    assert pickle_problems(written(folder, zipped({"model/data/0": content}))) == []
    if start in (b"", b"PK"):
        assert pickle_problems(written(folder, content)) == []


@pytest.mark.parametrize("third", range(256))
def test_weights_may_begin_as_pickles_do(tmp_path: Path, third: int) -> None:
    weights = random.Random(third).randbytes(400).replace(b"\n", b"\0")
    content = zipped({"model/data/0": b"\x80\x02" + bytes([third]) + weights})
    assert pickle_problems(written(tmp_path, content)) == []


def test_harmless_pickles_are_held(tmp_path: Path) -> None:
    assert holds_pickles(written(tmp_path, pickle.dumps({"a": 1}, 2)))
    assert holds_pickles(written(tmp_path, zipped({"a/data.pkl": pickle.dumps(1)})))
    assert holds_pickles(written(tmp_path, zipped({"a": zipped({"b.pkl": pickle.dumps(1)})})))
    assert not holds_pickles(written(tmp_path, zipped({"a/data": b"1"})))


# What nothing here opens.

ZSTD, LZ4 = b"\x28\xb5\x2f\xfd\x04\x00", b"\x04\x22\x4d\x18\x64\x40"
SEVEN = b"7z\xbc\xaf\x27\x1c\0\4"


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape",
                      encoding="utf-8") as tar:  # fmt: skip
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_what_nothing_opens_is_told_in_one_line(tmp_path: Path) -> None:
    files = {
        "model.pt": written(tmp_path, b"weights"),
        "a.bin": written(tmp_path, ZSTD, "a"),
        "b.zip": written(tmp_path, zipped({"in/b.dat": LZ4, "c.zip": zipped({"c": SEVEN})}), "b"),
        "d.tar.gz": written(tmp_path, gzip.compress(tarred("d", ZSTD)), "d"),
        # Too short, and not at the start.
        "e.bin": written(tmp_path, ZSTD[:3], "e"),
        "f.bin": written(tmp_path, b"\0" + SEVEN, "f"),
    }
    found = scan(files, "model.pt", Budget(1 << 20))
    assert (found.problems, found.notes) == ([], [])
    assert found.unchecked == [
        "pickles: not looked into: a.bin: zstd, b.zip: c.zip: c: 7z, b.zip: in/b.dat: lz4, "
        "d.tar.gz: unpacked.bin: d: zstd"
    ]


def test_many_that_nothing_opens_are_counted(tmp_path: Path) -> None:
    sealed = written(tmp_path, SEVEN)
    [line] = scan({f"{n:02}": sealed for n in range(15)}, None, Budget(1 << 20)).unchecked
    assert line.endswith(", 08: 7z, 09: 7z, and 5 more")


def test_tar_file_that_begins_as_another_is_looked_into_all_the_same(tmp_path: Path) -> None:
    name = (ZSTD[:4] + b".pkl").decode("utf-8", "surrogateescape")
    content = tarred(name, pickle.dumps(Foreign()))
    assert content.startswith(ZSTD[:4])
    lines, sealed = look_through(written(tmp_path, content))
    assert sealed == ["zstd"]
    assert [line for line in lines if CALLS_CWD in line]
