"""TorchScript files: the same bytes wherever they are written, and as good as before."""

from __future__ import annotations

import os
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from marwright.export.torchscript import ALIGNMENT, ROOT, normalise

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


def traced() -> torch.jit.ScriptModule:
    torch.manual_seed(0)
    # Odd sizes, so that no tensor is aligned by chance.
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 7, bias=False), nn.Flatten())
    return torch.jit.trace(model.eval(), torch.randn(2, 3))  # type: ignore[no-any-return]


def test_other_folders_names_and_times_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = traced()
    raw, normal = [], []
    for zone, name in (("UTC", "a/raw.pt"), ("Pacific/Kiritimati", "b/deeper/another-name.pt")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        module.save(str(path))
        os.utime(path, (0, 0))
        normalise(path, path.with_name("model.pt"))
        raw.append(path.read_bytes())
        normal.append(path.with_name("model.pt").read_bytes())
    monkeypatch.undo()
    time.tzset()
    assert raw[0] != raw[1]
    assert normal[0] == normal[1]


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The file as torch wrote it, and the normalised one."""
    traced().save(str(tmp_path / "raw-name.pt"))
    normalise(tmp_path / "raw-name.pt", tmp_path / "model.pt")
    return tmp_path / "raw-name.pt", tmp_path / "model.pt"


def test_debug_tables_go_and_all_else_stays(pair: tuple[Path, Path]) -> None:
    raw, normal = pair
    before, after = names(raw), names(normal)
    assert any(name.endswith(".debug_pkl") for name in before)
    kept = [name for name in before if not name.endswith(".debug_pkl")]
    assert after == [name.replace("raw-name/", f"{ROOT}/", 1) for name in kept]
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(normal) as new:
        for one, other in zip(kept, after, strict=True):
            if not one.endswith("/serialization_id"):
                assert old.read(one) == new.read(other)


def test_nothing_of_the_time_and_place_is_left(pair: tuple[Path, Path]) -> None:
    raw, normal = pair
    content = normal.read_bytes()
    assert b"raw-name" in raw.read_bytes()
    assert b"raw-name" not in content
    # The test's own path, which the debug tables hold.
    assert Path(__file__).name.encode() not in content
    with zipfile.ZipFile(normal) as archive:
        ids = [name for name in archive.namelist() if name.endswith("/serialization_id")]
        assert [archive.read(name) for name in ids] == [b"0" * 40]
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.filename.startswith(f"{ROOT}/")


def test_every_entry_is_aligned(pair: tuple[Path, Path]) -> None:
    content = pair[1].read_bytes()
    with zipfile.ZipFile(pair[1]) as archive:
        entries = archive.infolist()
    assert sum("/data/" in entry.filename for entry in entries) >= 3
    for entry in entries:
        name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
        start = entry.header_offset + 30 + name + extra
        assert start % ALIGNMENT == 0, entry.filename
        with zipfile.ZipFile(pair[1]) as archive:
            assert content[start : start + entry.file_size] == archive.read(entry)


def test_the_zip_is_whole(pair: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(pair[1]) as archive:
        assert archive.testzip() is None


def test_it_loads_and_answers_the_same(pair: tuple[Path, Path]) -> None:
    inputs = torch.randn(7, 3)
    with torch.inference_mode():
        answers = [torch.jit.load(str(path))(inputs) for path in pair]
        assert torch.equal(answers[0], answers[1])
        assert torch.equal(answers[0], traced()(inputs))


def test_normalising_twice_changes_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    normalise(pair[1], tmp_path / "twice.pt")
    assert (tmp_path / "twice.pt").read_bytes() == pair[1].read_bytes()


def test_what_is_no_torchscript_is_not_normalised(tmp_path: Path) -> None:
    (tmp_path / "raw.pt").write_bytes(b"not a zip")
    with pytest.raises(zipfile.BadZipFile):
        normalise(tmp_path / "raw.pt", tmp_path / "model.pt")
