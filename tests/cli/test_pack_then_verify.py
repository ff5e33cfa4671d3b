"""What `pack` refuses and notes, `verify` refuses and notes of what others packed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from marwright.archive.container.open import open_archive
from marwright.archive.contents import read_contents
from marwright.archive.manifest import ManifestModel
from marwright.archive.needed import import_notes
from marwright.cli.main import main
from tests.archive.unproven import HANDLE, make

STOCK = ["--handler", "image_classifier", "--serialized-file", "model.pt"]
OWN = ["--handler", "handler.py"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make({"handler.py": HANDLE, "model.pt": "not a model"})


def pack(*words: str) -> int:
    return main(["pack", "--model-name", "tiny", "--version", "1.0", *words])


def by_others(handler: str, files: dict[str, bytes]) -> Path:
    """Write an archive as torch-model-archiver does, which checks nothing."""
    model = {"modelName": "tiny", "modelVersion": "1.0", "handler": handler}
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0", "createdOn": ""}
    with zipfile.ZipFile("theirs.mar", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    return Path("theirs.mar")


LABELS = [b'["cat"]', b'\xef\xbb\xbf{"0": "cat"}', b'{"cat": 0}', b"", b'{"0": [["cat"]]}']


@pytest.mark.parametrize("labels", LABELS)
def test_label_map_that_torchserve_fails_on(
    labels: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("index_to_name.json").write_bytes(labels)
    assert pack(*STOCK, "--extra-files", "index_to_name.json") == 9
    refused = capsys.readouterr().err.removeprefix("marwright: ")
    assert refused.startswith("index_to_name.json: ")
    mar = by_others("image_classifier", {"index_to_name.json": labels})
    assert main(["verify", f"./{mar}"]) == 4
    assert capsys.readouterr().out == f"{mar}: {refused}"
    # A handler of one's own may read what it likes.
    assert pack(*OWN, "--extra-files", "index_to_name.json") == 0


def test_label_map_with_gaps_is_packed_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    Path("index_to_name.json").write_text('{"1": "cat", "2": "dog"}')
    assert pack(*STOCK, "--extra-files", "index_to_name.json") == 0
    assert '  index_to_name.json: has no "0", and ' in capsys.readouterr().out


def test_more_than_is_read_as_text_is_refused_by_both(capsys: pytest.CaptureFixture[str]) -> None:
    large = f"{HANDLE}# {'x' * (1 << 20)}\n"
    make({"handler.py": large})
    assert pack(*OWN) == 9
    refused = capsys.readouterr().err.removeprefix("marwright: ")
    assert refused == f"handler.py: is {len(large)} bytes long; that is no text\n"
    mar = by_others("handler.py", {"handler.py": large.encode()})
    assert main(["verify", f"./{mar}"]) == 4
    assert "handler.py: is " in capsys.readouterr().out


def test_pickle_beside_the_payload_that_runs_code_is_noted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("tokens.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert pack(*OWN, "--extra-files", "tokens.pkl") == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "tokens.pkl" in line]
    assert line.endswith("(if the handler loads it so)")
    assert "os" in line


@pytest.mark.torch
def test_imports_that_may_fail_are_noted_by_both(capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "import importlib\ndef train(name):\n    import nobody_has_this\n"
        f"    return importlib.import_module(name)\n{HANDLE}"
    )
    make({"handler.py": source, "r.txt": "torch\nts\n"})
    assert pack(*OWN, "-r", "r.txt") == 0
    noted = {line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert {line.split()[0] for line in noted} == {"handler.py:3:", "handler.py:4:", "r.txt:2:"}
    assert main(["verify", "./tiny.mar"]) == 0
    assert noted <= set(capsys.readouterr().out.splitlines())


@pytest.mark.torch
def test_folder_on_the_path_is_packed_and_loads(capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "import os\nimport sys\n"
        'sys.path.insert(0, os.path.join(os.path.dirname(__file__), "lib"))\n'
        f"import mine\n{HANDLE}"
    )
    make({"handler.py": source, "lib/mine.py": "import json\n"})
    assert pack(*OWN, "--extra-trees", "lib") == 0
    assert main(["verify", "./tiny.mar"]) == 0
    assert "may fail" not in capsys.readouterr().out


def test_source_without_end_is_not_followed() -> None:
    files = {f"m{n}.py": f"import m{n + 1}\n# {'x' * (1 << 17)}\n" for n in range(8)}
    make({"box/handler.py": f"import m0\n{HANDLE}", **{f"box/{k}": v for k, v in files.items()}})
    model = ManifestModel(model_name="m", model_version="1", handler="handler.py")
    assert import_notes(Path("box"), model) == [
        "imports were not followed: m3.py: there is too much source to follow its imports"
    ]


def test_imports_without_end_are_not_looked_for() -> None:
    lines = "".join(f"    import m{n}\n" for n in range(20_000))
    make({"box/handler.py": f"def f():\n{lines}{HANDLE}"})
    model = ManifestModel(model_name="m", model_version="1", handler="handler.py")
    assert import_notes(Path("box"), model) == [
        "imports were not looked for: there are 20000 of them"
    ]


@pytest.mark.parametrize("format", ["default", "tgz", "no-archive"])
def test_archive_of_many_members_is_read_again(format: str) -> None:
    names = [f"extra/{number:0200}" for number in range(4500)]
    Path("extra").mkdir()
    for name in names:
        Path(name).touch()
    assert pack(*OWN, "--extra-trees", "extra", "--archive-format", format) == 0
    [packed] = Path().glob("tiny*")
    with open_archive(packed) as archive:
        contents = read_contents(archive, archive.digests())
    assert contents.problems == []
    assert contents.inventory is not None
    assert contents.inventory.members.keys() >= set(names)


def test_archive_that_could_not_be_read_again_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("marwright.archive.write.MAX_INVENTORY", 100)
    assert pack(*OWN) == 9
    assert "MAR-INF/inventory.json would have " in capsys.readouterr().err
    assert not [*Path().glob("tiny*")]


def test_requirements_that_are_included_are_read_as_far_as_they_are_texts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("r.txt").write_text("-r more.txt\n-r large.txt\n")
    Path("more.txt").write_text("--index-url https://packages.example\n")
    Path("large.txt").write_text("#" * (2 << 20))
    words = ["--requirements-file", "r.txt", "--extra-files", "more.txt,large.txt"]
    assert pack(*OWN, *words) == 0
    noted = "more.txt:1: takes packages from another index than the server's own"
    assert capsys.readouterr().out.count(noted) == 1
    with open_archive(Path("tiny.mar")) as archive:
        contents = read_contents(archive, archive.digests())
    assert (contents.problems, contents.notes) == ([], [noted])
